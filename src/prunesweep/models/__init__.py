"""Video LLM families: one file each, around the stock transformers modules."""

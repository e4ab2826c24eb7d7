"""Numbers with their errors, from records alone: no model, no GPU."""

"""What the command writes: tables, sentences, progress, and what was probably meant."""

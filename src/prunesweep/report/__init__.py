"""What people see: text, tables, pictures, the page, token maps, W&B."""

"""Records, the store of them, and reading both back."""

"""Files: written whole, locked between processes, and read with distrust where somebody else wrote them."""

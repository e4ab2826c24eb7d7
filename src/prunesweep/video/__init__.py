"""Reading video files: which frames, verified by their own presentation time."""

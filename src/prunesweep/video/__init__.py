"""Reading video files: which frames, verified by their own presentation time."""

from prunesweep.video.reader import VideoError, read_clip

__all__ = ["VideoError", "read_clip"]

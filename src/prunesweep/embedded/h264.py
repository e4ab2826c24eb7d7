"""Frames as H.264 at the rate of the embedded benchmarks, and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

FRAMES_PER_SECOND = 4


def write_video(target: Path | io.BytesIO, frames: np.ndarray, **options: str) -> None:
    """Frames `t H W 3` uint8 as an mp4, with x264's options such as crf, the constant rate factor."""
    import av

    with av.open(target if isinstance(target, io.BytesIO) else str(target), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def compressed(frames: np.ndarray, **options: str) -> np.ndarray:
    """The frames as they come out of such a file."""
    import av

    file = io.BytesIO()
    write_video(file, frames, **options)
    file.seek(0)
    with av.open(file, "r") as container:
        container.streams.video[0].thread_count = 1  # so short a video is done before threads have begun
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

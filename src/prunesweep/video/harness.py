"""The frames that the field's harnesses see: decord's, chosen by the average rate, read by its seek, trusted unchecked.

Published numbers were made with these.  In many containers they are not the frames that were asked for, so nothing is
evaluated on them; `prunesweep data check --decord` says of how many videos they differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunesweep.video.packets import UNREADABLE, FilmError
from prunesweep.video.timeline import chosen_indices, nothing_there

if TYPE_CHECKING:
    import numpy as np

    from prunesweep.types import Sampling


def decord_frames(
    path: str, frames: int, start: float | None, end: float | None, sampling: Sampling
) -> tuple[tuple[float, ...], np.ndarray]:
    """Seconds by the average rate, and uint8 `t height width 3`; raises FilmError."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(path, num_threads=1)
        rate = reader.get_avg_fps()
        chosen = chosen_indices(len(reader), rate, frames, start, end, sampling)
        pixels = reader.get_batch(chosen).asnumpy() if chosen else None
    except Exception as error:  # decord raises many kinds, among them plain AssertionErrors
        raise FilmError(UNREADABLE) from error
    if pixels is None:
        raise FilmError(nothing_there(start, end, len(reader) / rate))
    return tuple(index / rate for index in chosen), pixels

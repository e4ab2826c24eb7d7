"""A film's file: what is in it, packet by packet, and the decoder that turns packets into pictures (PyAV)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    import av
    import numpy as np
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

UNREADABLE = "not a readable video: damaged, truncated or of another format"
INDEXED = frozenset({"mov", "mp4"})
"""Formats that count their frames in advance."""
WITHOUT_TIMES = frozenset({"avi", "asf", "h264", "hevc", "m4v", "mpegvideo", "obu", "vc1"})
"""Formats that say in which order frames are decoded, not when they are shown: no matter where that is the same."""
UNCHECKED = frozenset({"matroska", "webm"})
"""Formats whose head has the length, but which may break off anywhere without an error."""
CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
MICROSECONDS = 1_000_000
"""In a second: FFmpeg's unit of a file's length."""
QUARTER = 90
"""Degrees; films that are to be turned by less are shown as they are."""


class FilmError(Exception):
    """Why a film cannot be read."""


class Packet(NamedTuple):
    """What identifies a packet, and says when its frame is decoded and shown, in ticks."""

    pts: int | None
    dts: int | None
    size: int
    key: bool
    hidden: bool
    """Decoded, never shown: it stands before the beginning that an edit list sets."""
    duration: int


@dataclass(frozen=True)
class Packets:
    """All packets of a film in the order of the file, and what the file says about itself."""

    listed: tuple[Packet, ...]
    base: Fraction
    """Seconds of a tick."""
    rate: Fraction | None
    """Frames per second."""
    timed: bool
    """Whether the file says when frames are shown."""
    reordered: bool = False
    """Whether frames are decoded in another order than they are shown in."""
    promised: float | None = None
    """Second of its clock at which the film ends, as the file says; None where it does not say that of the pictures."""

    @property
    def first(self) -> int:
        """Number of the packet at which decoding can begin."""
        return next((number for number, packet in enumerate(self.listed) if packet.key), 0)


@dataclass(frozen=True)
class Opened:
    """A file at its beginning, with a fresh decoder."""

    container: InputContainer
    stream: VideoStream

    def packets(self) -> Iterator[av.Packet]:
        """Those of the film, from where the file is; raises FilmError."""
        import av

        try:
            yield from (packet for packet in self.container.demux(self.stream) if packet.size)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise FilmError(UNREADABLE) from error

    def decode(self, packet: av.Packet | None) -> list[VideoFrame]:
        """The frames that come out when a packet goes in; None empties the decoder.  Raises FilmError."""
        import av

        try:
            return self.stream.codec_context.decode(packet)
        except av.EOFError:
            return []
        except (av.FFmpegError, OSError, ValueError) as error:
            raise FilmError(UNREADABLE) from error

    def picture(self, frame: VideoFrame) -> np.ndarray:
        """As a player shows it: upright, in the size that the film has at its beginning; uint8 `height width 3`.

        Raises FilmError for a frame that the decoder had to make up in parts.
        """
        import numpy as np

        if frame.is_corrupt:
            raise FilmError(f"not a readable video: the frame at {frame.time or 0:.2f} s of its clock is damaged")
        context = self.stream.codec_context
        plain = frame.to_ndarray(format="rgb24", width=context.width, height=context.height, threads=1)
        turns, rest = divmod(frame.rotation, QUARTER)
        return plain if rest else np.ascontiguousarray(np.rot90(plain, turns))


@contextmanager
def opened(path: str) -> Iterator[Opened]:
    """The film in a file, closed at the end; raises FilmError."""
    import av

    try:
        container = av.open(path, metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as error:
        raise FilmError(UNREADABLE) from error
    with container:
        yield Opened(container, _film(container))


def _film(container: InputContainer) -> VideoStream:
    from av.stream import Disposition

    stream: Any = container.streams.best("video")
    if stream is None or Disposition.attached_pic in stream.disposition:
        raise FilmError("not a video: it holds sound alone" if container.streams.audio else UNREADABLE)
    context = stream.codec_context
    if context is None:
        cut_off = _formats(container) & INDEXED and not (stream.frames or stream.index_entries)
        raise FilmError(UNREADABLE if cut_off else "not a readable video: the installed PyAV has no decoder for it")
    if not (context.width and context.height):
        raise FilmError(UNREADABLE)
    context.thread_count = 1  # the machine's processes share the work, and the limit is on processor time
    return cast("VideoStream", stream)


def _formats(container: InputContainer) -> frozenset[str]:
    return frozenset(container.format.name.split(","))


def described(packet: av.Packet) -> Packet:
    return Packet(packet.pts, packet.dts, packet.size, packet.is_keyframe, packet.is_discard, packet.duration or 0)


def listed(path: str) -> Packets:
    """Raises FilmError for what is no film, and for a file that lacks frames which its index has."""
    with opened(path) as film:
        packets = tuple(described(packet) for packet in film.packets())
        formats, stream = _formats(film.container), film.stream
        if not packets or (formats & INDEXED and len(packets) < sum(entry.size > 0 for entry in stream.index_entries)):
            raise FilmError(UNREADABLE)
        reordered = bool(stream.codec_context.has_b_frames)
        timed = not (formats & WITHOUT_TIMES and (reordered or _made_up(packets)))
        rate = stream.average_rate if timed else stream.guessed_rate or stream.average_rate
        return Packets(packets, stream.time_base or Fraction(1), rate, timed, reordered, _promised(film))


def _promised(film: Opened) -> float | None:
    """The track's own length, or that of a file without another track: sound may go on when the pictures have ended."""
    container = film.container
    if not _formats(container) & UNCHECKED:
        return None
    if clock := CLOCK.match(film.stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, clock.groups())
        return 3600 * hours + 60 * minutes + seconds
    return container.duration / MICROSECONDS if container.duration and len(container.streams) == 1 else None


def _made_up(packets: Sequence[Packet]) -> bool:
    """Whether FFmpeg foretold presentation times from others' decoding times: the two are not at one distance."""
    both = [(packet.pts, packet.dts) for packet in packets]
    return len({pts - dts for pts, dts in both if pts is not None and dts is not None}) > 1

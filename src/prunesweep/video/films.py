"""Frames of a film, each verified by its own presentation time.

A container's seek lands where it likes, a decoder that starts in the middle of a film drops or spoils what it has no
reference for, and some containers have no presentation times at all.  So nothing is taken on trust:

- The packets are listed once.  They say when each frame is shown, and from which key frame on it can be decoded: the last one
  that is before it both in the file and on the screen (a frame of an open group also needs the group before).
- After a seek, packets are compared with the list, and decoding begins at that very key frame.  What comes out must be the
  frames of the list one by one; the chosen one is recognised by its time.
- Where anything differs, the film is decoded from its beginning and its frames are counted.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.video.packets import UNREADABLE, FilmError, Opened, Packets, described, listed, opened
from prunesweep.video.timeline import Timeline, nothing_there

if TYPE_CHECKING:
    import av
    import numpy as np
    from av.video.frame import VideoFrame

    from prunesweep.types import Sampling


class Frames(NamedTuple):
    """Chosen frames of a film."""

    timestamps: tuple[float, ...]
    """Seconds from the film's first frame."""
    pixels: np.ndarray
    """uint8 `t height width 3`."""


class MisplacedError(Exception):
    """A frame that is not where the packets say."""


def read_frames(path: str, frames: int, start: float | None, end: float | None, sampling: Sampling) -> Frames:
    """Raises FilmError for a film that cannot be read or has nothing from `start` to `end`."""
    packets = listed(path)
    try:
        return _chosen(Placed.of(path, packets), frames, start, end, sampling)
    except MisplacedError:
        return _chosen(Counted.of(path, packets), frames, start, end, sampling)


def frames_between(path: str, start: float | None, end: float | None) -> int:
    """How many frames a film has from `start` to `end`; raises FilmError."""
    packets = listed(path)
    try:
        timeline = Placed.of(path, packets).timeline
    except MisplacedError:
        timeline = Counted.of(path, packets).timeline
    return timeline.count(start, end)


def _chosen(film: Placed | Counted, frames: int, start: float | None, end: float | None, sampling: Sampling) -> Frames:
    import numpy as np

    _require_whole(film, end)
    chosen = film.timeline.chosen(frames, start, end, sampling)
    if not chosen:
        raise FilmError(nothing_there(start, end, film.timeline.seconds))
    pictures = film.pictures(sorted(set(chosen)))
    return Frames(tuple(map(film.timeline.timestamp, chosen)), np.stack([pictures[index] for index in chosen]))


LOST_SECONDS, LOST_SHARE = 1.0, 0.1
"""By how much a film must end before its file says, in seconds and of its length, to be called damaged: heads are rounded, and
a last frame may stay on the screen."""


def _require_whole(film: Placed | Counted, end: float | None) -> None:
    """Raises FilmError if a part reaches into what the file promises and has not."""
    promised, line = film.packets.promised, film.timeline
    there = float(line.end * line.base)
    lost = promised is not None and promised - there > max(LOST_SECONDS, LOST_SHARE * promised)
    if lost and (end is None or end > line.seconds):
        raise FilmError(f"damaged or truncated: its frames end at {there:.1f} s, and it says that it lasts {promised:.1f} s")


def _time_of(frame: VideoFrame) -> int:
    if frame.pts is None:
        raise MisplacedError
    return frame.pts


def _last_duration(own: int, times: Sequence[int]) -> int:
    """Of the last frame: its own, or the usual distance between frames where the file does not say."""
    distances = sorted(later - time for time, later in pairwise(times))
    return own or (distances[len(distances) // 2] if distances else 1)


# Placed: by presentation time


@dataclass(frozen=True)
class Placed:
    """A film whose packets say when each frame is shown."""

    path: str
    packets: Packets
    timeline: Timeline
    source: dict[int, int]
    """Number of the packet of each time."""
    keys: tuple[int, ...]
    """Numbers of the packets at which decoding may begin."""

    @classmethod
    def of(cls, path: str, packets: Packets) -> Placed:
        """Raises MisplacedError if the packets' times cannot be those of the frames."""
        first, all_ = packets.first, packets.listed
        shown = [(packet.pts, number) for number, packet in enumerate(all_) if number >= first and not packet.hidden]
        source = {time: number for time, number in shown if time is not None}
        if not packets.timed or len(source) < len(shown) or len(set(all_)) < len(all_):
            raise MisplacedError
        beginning = _first_time(path, packets)
        times = tuple(sorted(time for time in source if time >= beginning))
        if times[:1] != (beginning,):
            raise MisplacedError
        end = times[-1] + _last_duration(all_[source[times[-1]]].duration, times)
        keys = tuple(number for number, packet in enumerate(all_) if packet.key)
        return cls(path, packets, Timeline(times, end, packets.base, packets.rate), source, keys)

    def pictures(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """The frames of these indices, ascending; raises MisplacedError, FilmError."""
        with ExitStack() as files:
            walk = Walk(self, files)
            return {index: self._decoded(walk, index) for index in wanted}

    def _decoded(self, walk: Walk, index: int) -> np.ndarray:
        """From the nearest key frame, or from the one before if the nearest is none; from the film's beginning in the end."""
        near = self._anchors(index)
        for anchor in near[:-1]:
            try:
                return walk.frame(index, anchor)
            except (MisplacedError, FilmError):
                walk.lost()
        try:
            return walk.frame(index, near[-1])
        except MisplacedError:
            walk.lost()
            return walk.frame(index, self.packets.first)

    def _anchors(self, index: int) -> list[int]:
        """Key frames before a frame both in the file and on the screen: the two nearest ones."""
        time = self.timeline.times[index]
        before = self.keys[: bisect_right(self.keys, self.source[time])]
        usable = [key for key in before if (shown := self.packets.listed[key].pts) is not None and shown <= time]
        return usable[:-3:-1] or [self.packets.first]


def _first_time(path: str, packets: Packets) -> int:
    """Of the first frame that comes out of a decoder: those before it lean on what was cut off, and no player shows them."""
    with opened(path) as film:
        for packet in islice(film.packets(), packets.first, None):
            for frame in film.decode(packet):
                return _time_of(frame)
        for frame in film.decode(None):
            return _time_of(frame)
    raise FilmError(UNREADABLE)


SEEK_BACK = Fraction(1)
"""Seconds before a key frame to look for it where its own times lead behind it."""
STRANGE_PACKETS = 64
"""After a seek, with half a packet or times guessed anew, until one must be known."""


class Walk:
    """A decoder on its way through a placed film; every packet and every frame is compared with the list."""

    def __init__(self, film: Placed, files: ExitStack):
        self.film, self.files = film, files
        self.numbers = {packet: number for number, packet in enumerate(film.packets.listed)}
        self.file: Opened = files.enter_context(opened(film.path))
        self.moved = False
        """Whether the file is no longer at its beginning."""
        self.frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self.fed = -1
        """Number of the last packet that the decoder got."""
        self.passed: int | None = None
        """Index of the last frame that came out; None after a seek."""

    def lost(self) -> None:
        """The next frame needs a seek."""
        self.frames, self.passed = iter(()), None

    def frame(self, index: int, anchor: int) -> np.ndarray:
        """A frame's picture, decoded on from where the walk is if that leads there, else from a key frame's packet."""
        if self.passed is None or self.passed >= index or self.fed < anchor:
            self.frames, self.passed = self._decoded(anchor), None
        for place, frame in self.frames:
            if place > index or (self.passed is not None and place != self.passed + 1):
                raise MisplacedError
            self.passed = place
            if place == index:
                return self.file.picture(frame)
        raise MisplacedError

    def _decoded(self, anchor: int) -> Iterator[tuple[int, VideoFrame]]:
        """Index and frame of what comes out from a key frame on; what is shown before it lacks its references."""
        beginning, times = self.film.packets.listed[anchor].pts, self.film.timeline.times
        for packet in self._packets(anchor):
            for frame in self.file.decode(packet):
                time = _time_of(frame)
                index = bisect_left(times, time)
                if index < len(times) and times[index] == time:
                    if beginning is None or time >= beginning or anchor == self.film.packets.first:
                        yield index, frame
                elif time >= times[0]:
                    raise MisplacedError

    def _packets(self, anchor: int) -> Iterator[av.Packet | None]:
        """Each the next of the list, from a key frame's on; then None, which empties the decoder."""
        for number, packet in enumerate(self._found(anchor), start=anchor):
            if described(packet) != self.film.packets.listed[number]:
                raise MisplacedError
            self.fed = number
            yield packet
        yield None

    def _found(self, anchor: int) -> Iterator[av.Packet]:
        """The file's packets from one on: by a seek to its times, or a little before them, or from the beginning."""
        found = None if anchor == self.film.packets.first else self._by_seek(anchor)
        if found is not None:
            return found
        if self.moved:
            self.file = self.files.enter_context(opened(self.film.path))
        self.moved = True
        return islice(self.file.packets(), anchor, None)

    def _by_seek(self, anchor: int) -> Iterator[av.Packet] | None:
        """None if no seek lands at the packet or before it."""
        packet, back = self.film.packets.listed[anchor], int(SEEK_BACK / self.film.packets.base)
        for time in (packet.pts, packet.dts, None if packet.dts is None else packet.dts - back):
            if time is None:
                continue
            packets = self._after_seek(time)
            for first in islice(packets, STRANGE_PACKETS):
                number = self.numbers.get(described(first))
                if number is not None and number <= anchor:
                    return islice(chain([first], packets), anchor - number, None)
                if number is not None:
                    break
        return None

    def _after_seek(self, time: int) -> Iterator[av.Packet]:
        import av

        self.moved = True
        try:
            self.file.container.seek(time, stream=self.file.stream)
        except (av.FFmpegError, OSError):
            return iter(())
        return self.file.packets()


# Counted: from the beginning on


@dataclass(frozen=True)
class Counted:
    """A film that was decoded through once: its frames are what came out, in that order."""

    path: str
    packets: Packets
    timeline: Timeline

    @classmethod
    def of(cls, path: str, packets: Packets) -> Counted:
        with opened(path) as film:
            times = [frame.pts for frame in _all_frames(film, packets)]
        if not times:
            raise FilmError(UNREADABLE)
        return cls(path, packets, _counted_times(times, packets))

    def pictures(self, wanted: Sequence[int]) -> dict[int, np.ndarray]:
        """The frames of these indices, ascending."""
        chosen = set(wanted)
        with opened(self.path) as film:
            frames = enumerate(islice(_all_frames(film, self.packets), wanted[-1] + 1))
            return {index: film.picture(frame) for index, frame in frames if index in chosen}


def _all_frames(film: Opened, packets: Packets) -> Iterator[VideoFrame]:
    for packet in islice(film.packets(), packets.first, None):
        yield from film.decode(packet)
    yield from film.decode(None)


UNEVEN = (
    "it does not say when its frames are shown: they are stored in another order and at uneven times; "
    "convert it to a format that does, such as mp4, from its source"
)


def _counted_times(times: Sequence[int | None], packets: Packets) -> Timeline:
    """The frames' own times if the file has any and they ascend; else those at which packets are decoded; else of the rate that
    the file declares.

    Packets are decoded at the pace at which frames are shown, but as many frames ahead as their order needs, and these
    containers do not say how many.  So uneven ones say nothing of frames that are reordered: raises FilmError.
    """
    decoded = _ascending([packet.dts for packet in packets.listed[packets.first :]])
    if not packets.timed and packets.reordered and decoded and _timeline(decoded, packets).rate is None:
        raise FilmError(UNEVEN)
    own, paced = _ascending(times), decoded if len(decoded) == len(times) else ()
    if ticks := (own or paced) if packets.timed else (paced or own):
        return _timeline(ticks, packets)
    if not packets.rate:
        raise FilmError("not a readable video: it says neither when its frames are shown nor how many are in a second")
    return Timeline(tuple(range(len(times))), len(times), 1 / packets.rate, packets.rate)


def _timeline(ticks: tuple[int, ...], packets: Packets) -> Timeline:
    return Timeline(ticks, ticks[-1] + _last_duration(0, ticks), packets.base, packets.rate)


def _ascending(times: Sequence[int | None]) -> tuple[int, ...]:
    """The times, if every one is there and later than the one before; else none."""
    ticks = tuple(time for time in times if time is not None)
    return ticks if len(ticks) == len(times) and all(time < later for time, later in pairwise(ticks)) else ()

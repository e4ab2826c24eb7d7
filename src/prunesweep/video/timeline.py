"""Which frames of a film: chosen by when they are on the screen, in seconds from its first frame.

A film of a constant rate is a row of frames, and its protocol counts in frames.  One of a variable rate is sampled as if it
had been written again at a constant rate so high that no frame is lost: a chosen moment gives the frame on the screen then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunesweep.types import Sampling


def frame_indices(start: int, stop: int, frames: int) -> list[int]:
    """`frames` indices in [start, stop), each in the middle of an equal share; a short range repeats some.

    The protocol of MVBench and PLLaVA, without its rounding at the ends.
    """
    length = stop - start
    return [start + min(int((i + 0.5) * length / frames), length - 1) for i in range(frames)]


def released_indices(first: int, last: int, frames: int) -> list[int]:
    """`frames` indices from `first` to `last`, both included, with the rounding of PLLaVA's and PruneVid's released code."""
    part = (last - first) / frames
    return [int(first + part / 2 + round(part * i)) for i in range(frames)]


LEAST_PER_SECOND = 4
"""Frames of a short video that is sampled once a second, as in ST-LLM's released code."""


def chosen_indices(
    length: int, rate: float, frames: int, start: float | None, end: float | None, sampling: Sampling = "even", origin: int = 0
) -> list[int]:
    """Which frames of `length`, counted from `origin`; empty if there are none from `start` to `end`, in seconds.

    A part that reaches beyond the film, on either side, is what the film has of it.
    """
    if sampling == "released":
        first = origin if start is None else max(origin, round(start * rate))
        last = length - 1 + origin if end is None else round(min(length - 1 + origin, end * rate))
        return [min(index, length - 1 + origin) for index in released_indices(first, last, frames)] if first <= last else []
    first = 0 if start is None else round(max(0, start * rate))
    last = length if end is None else round(min(length, end * rate))
    if first >= last:
        return []
    if sampling == "per_second":
        frames = min(max(LEAST_PER_SECOND, int((last - first) / rate)), frames)
    return [origin + index for index in frame_indices(first, last, frames)]


def nothing_there(start: float | None, end: float | None, seconds: float) -> str:
    """Why no frame was chosen of a video of that length."""
    wanted = f"from {start or 0:g} s" + ("" if end is None else f" to {end:g} s")
    return f"no frames {wanted}; it lasts {seconds:.1f} s"


ROUNDING = Fraction(2, 1000)
"""Seconds by which a frame of a constant rate may stand beside its place: containers keep whole milliseconds, and a film
that was copied from one to another has been rounded twice."""


@dataclass(frozen=True)
class Timeline:
    """When each frame of a film comes on the screen."""

    times: tuple[int, ...]
    """In ticks, ascending."""
    end: int
    """When the last one goes."""
    base: Fraction
    """Seconds of a tick."""
    declared: Fraction | None = None
    """Frames per second, as the file says; only believed where the times agree."""

    @property
    def seconds(self) -> float:
        return float((self.end - self.times[0]) * self.base)

    def timestamp(self, index: int) -> float:
        """Of a frame, from the first one on."""
        return float((self.times[index] - self.times[0]) * self.base)

    @property
    def rate(self) -> Fraction | None:
        """Frames per second, if that is constant."""
        count, span = len(self.times), (self.times[-1] - self.times[0]) * self.base
        fitted = Fraction(count - 1) / span if count > 1 else Fraction(1) / max(self.base, (self.end - self.times[0]) * self.base)
        return next((rate for rate in (self.declared, fitted) if rate and self._is_even(rate)), None)

    def _is_even(self, rate: Fraction) -> bool:
        step = 1 / (rate * self.base)
        most = min(max(Fraction(1), ROUNDING / self.base), step / 2)
        return all(abs(time - self.times[0] - index * step) <= most for index, time in enumerate(self.times))

    def chosen(self, frames: int, start: float | None, end: float | None, sampling: Sampling = "even") -> list[int]:
        """Indices of the chosen frames; empty if there are none from `start` to `end`."""
        rate = self.rate
        if rate is not None:
            return chosen_indices(len(self.times), float(rate), frames, start, end, sampling)
        step = min(b - a for a, b in zip(self.times, self.times[1:], strict=False))
        length = max(len(self.times), round((self.end - self.times[0]) / step))
        moments = chosen_indices(length, float(1 / (step * self.base)), frames, start, end, sampling)
        return self._on_screen([self.times[0] + moment * step for moment in moments], start, end)

    def count(self, start: float | None, end: float | None) -> int:
        """Frames from `start` to `end`, and one that is on the screen all the while."""
        return len(set(self.chosen(len(self.times), start, end)))

    def _on_screen(self, moments: list[int], start: float | None, end: float | None) -> list[int]:
        """The frame at each moment; one from before the part only if the part has none of its own."""
        low = 0 if start is None else bisect_left(self.times, self._ticks(start))
        high = len(self.times) if end is None else bisect_left(self.times, self._ticks(end))
        shown = [bisect_right(self.times, moment) - 1 for moment in moments]
        return [min(max(index, low), high - 1) for index in shown] if low < high else shown

    def _ticks(self, seconds: float) -> float:
        """Whole ticks, as the times are; infinity stays what it is."""
        ticks = self.times[0] + seconds / float(self.base)
        return ticks if ticks in (float("inf"), float("-inf")) else round(ticks)

"""Decoding ahead: the clips of a process's next videos are decoded while the walk is at work on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from prunesweep.engine.candidate import Candidate
from prunesweep.engine.encoder_cache import EncoderCache
from prunesweep.engine.plan import encoding, seeing
from prunesweep.engine.stages import Decode, Encode
from prunesweep.types import Clip, Model, Sample
from prunesweep.video.prefetch import Asked, Prefetch
from prunesweep.video.reader import read_clip

VIDEOS_AHEAD = 2
"""For each decoder: one that it decodes, one that waits for the walk."""


class Upcoming:
    """The videos of one process in their order; their clips are read some videos ahead if there are decoders for it."""

    def __init__(
        self,
        videos: Sequence[tuple[Sample, ...]],
        trials: Sequence[Candidate],
        model: Model,
        cache: EncoderCache | None,
        seconds: float,
        is_done: Callable[[Candidate, Sample], bool],
        decoders: int,
        most_bytes: int,
    ):
        self.videos, self.model, self.cache, self.seconds, self.is_done = videos, model, cache, seconds, is_done
        self.window = VIDEOS_AHEAD * decoders
        self._prefetch = Prefetch(decoders, most_bytes) if decoders else None
        self.read: Callable[..., Clip] = self._prefetch or read_clip
        """What decodes for the stages of the plan."""
        self._alike: dict[Any, list[Candidate]] = {}
        """Trials that see every video alike."""
        self._coming: dict[int, tuple[Asked, ...]] = {}
        """By number of the video."""
        for trial in trials:
            self._alike.setdefault((trial.frames, trial.protocol, encoding(trial.reducer)), []).append(trial)

    def reach(self, index: int) -> None:
        """The walk is at this video now."""
        if self._prefetch:
            near = range(index, min(index + self.window + 1, len(self.videos)))
            before = self._coming
            self._coming = {at: before[at] if at in before else self._clips(self.videos[at]) for at in near}
            self._prefetch.expect(asked for clips in self._coming.values() for asked in clips)

    def close(self) -> None:
        if self._prefetch:
            self._prefetch.close()

    def _clips(self, video: Sequence[Sample]) -> tuple[Asked, ...]:
        """What the walk will read of a video, as far as that can be told."""
        seen = dict.fromkeys(see for alike in self._alike.values() for sample in video for see in self._seen(sample, alike))
        return tuple(dict.fromkeys(decode.asked for decode, encode in seen if not self._is_kept((decode, encode))))

    def _seen(self, sample: Sample, alike: Sequence[Candidate]) -> Iterator[tuple[Decode, Encode]]:
        if sample.problem is not None or all(self.is_done(trial, sample) for trial in alike):
            return
        trial = alike[0]
        with suppress(Exception):  # what cannot be planned becomes a record when it is walked
            yield seeing(sample, trial.frames, trial.reducer, trial.protocol, self.model, self.seconds)

    def _is_kept(self, see: tuple[Decode, Encode]) -> bool:
        return self.cache is not None and self.cache.path_of(see, self.model).exists()

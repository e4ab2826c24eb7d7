"""What the batches of one search have in common, loaded once: the model, and the benchmark's questions."""

from __future__ import annotations

import gc
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prunesweep.models.loading import legible
from prunesweep.results.keys.fingerprint import Files, of_model
from prunesweep.targets import instantiate

if TYPE_CHECKING:
    from prunesweep.types import Model, Sample


class Kept:
    """One model and one list of questions: whatever else is asked for takes their places."""

    def __init__(self) -> None:
        self._model: tuple[str, Model] | None = None
        self._samples: tuple[str, tuple[Sample, ...]] | None = None

    def model(self, load: Mapping[str, Any], files: Files) -> Model:
        """What `model.load` builds; anew where settings, or files of the checkpoint, are others."""
        key = _text([load, of_model(load, files)])
        if self._model is None or self._model[0] != key:
            if self._model:
                self._model = None
                gc.collect()  # two need not fit into memory, and what evaluated by it refers to itself
            with legible(load):
                self._model = key, instantiate(load)
        return self._model[1]

    def samples(self, load: Mapping[str, Any]) -> tuple[Sample, ...]:
        """What `benchmark.load` reads; a search asks all its trials the same questions, whatever happens to the files."""
        key = _text(load)
        if self._samples is None or self._samples[0] != key:
            self._samples = key, tuple(instantiate(load, at="benchmark.load"))
        return self._samples[1]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)

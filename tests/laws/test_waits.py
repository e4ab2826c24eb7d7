"""How often the host waits for the device: never for a layer, once for a token of a batch, twice for a merge.

Counted on the CPU, by the operations that would wait: those that hand a value to Python, and those whose result has a size that
depends on one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from prunesweep.dev.drawn import drawn_video
from prunesweep.engine.prefix_tree import Clock, evaluate_jobs
from prunesweep.engine.stages import Layers, generate_together
from prunesweep.engine.together import Waiting
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers.prunevid import Merge
from prunesweep.types import Sample
from support.trials import GENERATE, embedded, jobs_of, last_stages, one_video

SIZED_BY_VALUES = {"nonzero", "masked_select", "_unique2", "unique_consecutive", "unique_dim", "repeat_interleave"}
TO_PYTHON = {"tolist", "item", "__bool__", "__int__", "__float__", "__index__", "numpy", "equal"}


class _Sized(TorchDispatchMode):
    def __init__(self, found: Counter[str]):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, operation: Any, _: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = operation.overloadpacket.__name__
        by_mask = name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1])
        if name in SIZED_BY_VALUES or by_mask:
            self.found[name] += 1
        return operation(*args, **(kwargs or {}))


class _ToPython(TorchFunctionMode):
    def __init__(self, found: Counter[str]):
        super().__init__()
        self.found = found

    def __torch_function__(self, function: Callable, _: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = getattr(function, "__name__", "")
        if name in TO_PYTHON:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def waits() -> Iterator[Counter[str]]:
    found: Counter[str] = Counter()
    with _Sized(found), _ToPython(found):
        yield found


def test_the_counter_sees_what_waits() -> None:
    x = torch.arange(4.0)
    with torch.inference_mode(), waits() as found:
        float(x.sum())
        int(x.sum())
        x.tolist()
        bool(x.any())
        x.nonzero()
        x[x > 1]
    assert found.total() == 6


@pytest.mark.parametrize("merge", [Merge(), Merge(static_threshold=None), Merge(positions="original", order="raster")])
@pytest.mark.parametrize("frames", [4, 16])
def test_a_merge_waits_twice_however_long_the_video(merge: Merge, frames: int) -> None:
    video = drawn_video(frames, 36, 16)
    with torch.inference_mode(), waits() as found:
        merge(video)
    assert found.total() <= 2, found


@torch.inference_mode()
def test_layers_never_wait(samples: list[Sample], model: LlavaOnevision) -> None:
    prefix = embedded(samples[0], model)
    with waits() as found:
        Layers(0, 8)(prefix, model)
    assert found.total() == 0, found


def test_generating_waits_once_a_token_of_a_batch(samples: list[Sample], model: LlavaOnevision) -> None:
    waiting: list[Waiting] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "prunesweep.engine.together.generate_together", lambda *all_of: waiting.append(all_of) or [0] * len(all_of[0])
        )
        evaluate_jobs(model, jobs_of(one_video(samples), model, GENERATE), Clock(), last=last_stages(model, 64))
    for stages, prefixes, _ in waiting:
        with torch.inference_mode(), waits() as found:
            answers = generate_together(stages, prefixes, model)
        steps = max(len(answer.token_ids) for answer in answers)
        assert len(stages) > 1
        assert found["tolist"] == steps
        assert found.total() - steps <= len(stages), "and once for each row's count of text tokens, in the end"

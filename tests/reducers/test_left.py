"""What a method says that it leaves is what it leaves: real calls, for every reducer's YAML, over many sizes and shares."""

from itertools import cycle, product

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunesweep.engine.budget import counted, finished
from prunesweep.engine.plan import inside
from prunesweep.engine.stages import Reduce
from prunesweep.reducers import Left, Reducer, left_by_merge, left_by_step
from prunesweep.reducers.lookm import Evict
from prunesweep.reducers.pooling import Pool
from prunesweep.reducers.prunevid import Merge, Prune
from prunesweep.reducers.stride import Stride
from prunesweep.report.costs import planned_tokens
from prunesweep.types import KeyValue, Merged, Prefix, Tokens
from support.facts import all_facts, reducer_in
from support.places import CONF, REDUCERS
from support.tiny_decoder import TinyDecoder

LAYERS = 4
SHARES = (0.07, 0.29, 0.35, 0.5, 0.57, 0.7, 1.0)
SIZES = ((7, 36), (8, 49), (10, 100))
ANY = tuple(zip(SHARES * 2, cycle(SIZES), strict=False))
"""Every share with two of the sizes."""
TEXT = (5, 9)


def tokens_of(frames: int, patches: int) -> Tokens:
    x = torch.randn(frames, patches, 4, generator=torch.Generator().manual_seed(0))
    attention = torch.rand(frames, patches, generator=torch.Generator().manual_seed(1))
    return Tokens("video", x, x[:0, 0], facts=all_facts(x, attention))


@torch.inference_mode()
def run_through(method: Reducer, merged: Merged) -> tuple[int, ...]:
    """Visual tokens of each layer of a small decoder that runs what entered."""
    model = TinyDecoder(kv_heads=2)
    model.language_model.layers = model.language_model.layers[:LAYERS]
    model.table(torch.randn(TEXT[1], 32, generator=torch.Generator().manual_seed(3)))
    count = len(merged.group)
    x = torch.randn(count, 32, generator=torch.Generator().manual_seed(4))
    everything = torch.ones(count, dtype=torch.bool)
    state = Prefix("video", x, torch.arange(count), everything, merged.group, count, place=merged.position, entered=x, patches=1)
    for stage in inside(method, tuple(range(TEXT[1])), LAYERS, text_before=False):
        state = stage(state, model)
    return tuple(state.usage.visual_tokens)


def kept_by(prune: object, merged: Merged) -> int:
    """How many tokens the real pruner chooses, by attention that is no tie."""
    count = len(merged.group)
    attention = torch.rand(2, 3, count, generator=torch.Generator().manual_seed(2))
    prefix = Prefix("video", torch.zeros(count, 1), merged.position, torch.ones(count, dtype=torch.bool), merged.group, count)
    return len(prune(Prefix(**{**prefix.__dict__, "attention": attention})))


def composed(reducer: str, share: float, frames: int, patches: int) -> tuple[Reducer, object]:
    """A reducer with its free share set, where that is a share, and the configuration of `prunesweep cost`."""
    knob = OmegaConf.load(CONF / "reducer" / f"{reducer}.yaml").get("knob") or ""
    share = min(share, 0.99) if knob.endswith("drop_ratio") else share
    changes = [f"reducer.{knob}={share}"] if knob.endswith("_ratio") and knob != "merge.cluster_ratio" else []
    if reducer == "evs_prunevid":
        changes = ["reducer.inner.layer=1", f"reducer.inner.keep_ratio={share}"]
    if reducer.startswith("prunevid"):
        changes = ["reducer.prune.layer=1", f"reducer.prune.keep_ratio={share}", "reducer.merge.static_threshold=null"]
    if reducer == "lookm":
        changes = [f"reducer.evict.heavy_ratio={share * 0.8}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("cost", [f"reducer={reducer}", f"frames={frames}", f"tokens_per_frame={patches}", *changes])
    OmegaConf.update(config, "text_tokens", TEXT[1])
    return instantiate(config.reducer), config


def says(reducer: str) -> bool:
    """Whether what it leaves, as configured, does not depend on the video; frames that are made smaller are another matter."""
    composed_to_say_it = reducer.startswith("prunevid")
    return reducer != "downsample" and (composed_to_say_it or left_by_merge(reducer_in(reducer).merge, *SIZES[0]) is not None)


@pytest.mark.parametrize("reducer", [name for name in REDUCERS if says(name)])
def test_an_estimate_is_what_a_real_run_counts(reducer: str) -> None:
    for share, (frames, patches) in ANY:
        method, config = composed(reducer, share, frames, patches)
        merged = Reduce(method.merge)(tokens_of(frames, patches), model=None)
        if None in (left_by_step(step, Left(9)) for step in method.steps(LAYERS) if not hasattr(step, "most")):
            with pytest.raises(ValueError, match="depends on the video"):
                planned_tokens(config, LAYERS)
            return
        estimate = planned_tokens(config, LAYERS)
        assert left_by_merge(method.merge, frames, patches).tokens == len(merged.x) == estimate.visual[0]
        real = finished(counted(merged, method, LAYERS), method, 1, 0, TEXT[1])
        assert (real.visual, real.cached, real.fed) == estimate
        if method.steps(LAYERS):
            assert run_through(method, merged) == estimate.visual


@pytest.mark.parametrize("selection", ["global", "grouped"])
@pytest.mark.parametrize("counts", ["exact", "released"])
def test_a_selection_over_groups_leaves_what_it_says(selection: str, counts: str) -> None:
    for share, (frames, patches) in product(SHARES, SIZES):
        prune = Prune(1, share, selection, counts=counts)
        merged = Merge(segments=2, static_threshold=0.0, cluster_ratio=0.5)(tokens_of(frames, patches))
        said = left_by_step(prune, Left(len(merged.group), tuple(torch.bincount(merged.group).tolist())))
        assert said == kept_by(prune, merged) <= prune.most(len(merged.group))
        assert (left_by_step(prune, Left(len(merged.group))) is None) == (selection == "grouped")


@pytest.mark.parametrize("overflow", ["keep", "evict"])
def test_an_eviction_leaves_what_it_says_wherever_the_text_stands(overflow: str) -> None:
    for recent, heavy in product((0.0, 0.1, 0.29, 0.7), (0.02, 0.29, 0.3)):
        for visual, before, after in product((1, 20, 57), (0, 5, 40), (0, 3, 30)):
            evict = Evict(recent, heavy, merging="none", text_overflow=overflow)
            place = torch.arange(before + visual + after)
            is_visual = (place >= before) & (place < before + visual)
            cache = torch.zeros(1, 2, len(place), 1)
            received = torch.rand(2, len(place), generator=torch.Generator().manual_seed(0))
            assert evict.left(visual, before, after) == evict(KeyValue(cache, cache), received, is_visual).visual
    assert Evict(text_prior=False).left(20, 5, 5) is None


def test_grids_say_what_they_leave_or_refuse_as_a_call_does() -> None:
    for frames, patches in SIZES:
        tokens = tokens_of(frames, patches)
        for rows, columns in ((1, 1), (2, 5), (6, 6), (None, 3), (3, None), (8, 1)):
            whole = rows is not None and columns is not None
            for method in (Pool(rows, columns), Pool(rows, columns, frames=2), *([Stride(rows, columns)] if whole else [])):
                if (rows or 1) ** 2 > patches:
                    with pytest.raises(ValueError, match="must fit into"):
                        method.left(frames, patches)
                else:
                    assert method.left(frames, patches).tokens == len(method(tokens).x)
    assert Pool(3, None).left(4, 12) is None
    with pytest.raises(ValueError, match="must fit into the video's 4, got 5"):
        Pool(None, None, frames=5).left(4, 36)

"""ToMe: merging inside the vision tower, on the stock towers of models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prunesweep.checks import InfeasibleError
from prunesweep.cost import vision_flops
from prunesweep.dev.bench_engine import operator_counter
from prunesweep.engine.plan import require_fit
from prunesweep.engine.stages import Decode, Encode, Reduce
from prunesweep.models.towers import merged_pass
from prunesweep.reducers import Reducer
from prunesweep.reducers.tome import ToMe
from prunesweep.reducers.vidcom2 import VidCom2
from prunesweep.types import Clip, Sample, TowerTokens
from support.trials import FRAMES, reducer_of


@pytest.fixture
def clip(samples: list[Sample], model: Any) -> Clip:
    return Decode(samples[0].path, "video", FRAMES, None, None)(None, model)


@torch.inference_mode()
def test_a_tower_that_merges_nothing_is_the_stock_one(clip: Clip, model: Any, models: dict[str, Any]) -> None:
    pixels = model._pixels(clip)[0]
    layer = model.network.config.vision_feature_layer
    stock = model.network.model.vision_tower(pixels, output_hidden_states=True).hidden_states[layer]
    seen = merged_pass(model.network.model.vision_tower, pixels, layer, False, ToMe(keep_ratio=1))
    assert torch.equal(seen.features, stock)
    clip_tower = models["pllava"].network.vision_tower
    size = clip_tower.config.image_size
    frames = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    stock = clip_tower(frames, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.equal(merged_pass(clip_tower, frames, -2, True, ToMe(keep_ratio=1)).features, stock)


@torch.inference_mode()
@pytest.mark.parametrize("inflection", [0.0, -1.0, 0.5])
def test_the_tower_costs_what_its_operators_count(clip: Clip, model: Any, inflection: float) -> None:
    with operator_counter() as measured:
        tokens = Encode(tower=ToMe(keep_ratio=0.4, inflection=inflection))(clip, model)
    own = vision_flops(model.shape, FRAMES, by_layer=tokens.tower_tokens) + tokens.tower_flops
    assert own == pytest.approx(measured.get_total_flops(), rel=1e-3)
    assert own < vision_flops(model.shape, FRAMES)


@torch.inference_mode()
def test_tokens_stand_where_their_first_patches_lie(clip: Clip, model: Any) -> None:
    tokens = Encode(tower=ToMe(keep_ratio=0.5))(clip, model)
    merged = Reduce(None)(tokens, model)
    side = int(tokens.source.shape[1] ** 0.5)
    pooled = -(-side // 2)
    for token in range(0, len(merged.x), 7):
        frame, patch = divmod(int((merged.source.flatten() == token).nonzero()[0]), side**2)
        row, column = divmod(patch, side)
        assert merged.position[token] == frame * pooled**2 + row * pooled // side * pooled + column * pooled // side
    first = [int((merged.source.flatten() == token).nonzero()[0]) for token in range(len(merged.x))]
    assert first == sorted(first)
    renumbered = Reduce(None, "renumbered")(tokens, model)
    assert renumbered.position.tolist() == list(range(renumbered.span))
    assert torch.equal(renumbered.x, merged.x)


def test_a_schedule_leaves_the_share_asked_for() -> None:
    for inflection in (-1, -0.3, 0, 1):
        assert sum(ToMe(keep_ratio=0.27, inflection=inflection).schedule(26, 729)) == 729 - 197
    assert ToMe(fewer=8, inflection=-1).schedule(5, 99) == [16, 12, 8, 4, 0]
    falling = ToMe(keep_ratio=0.1, inflection=-1).schedule(10, 576)
    assert falling == sorted(falling, reverse=True)


def test_a_merged_token_is_the_mean_of_its_patches() -> None:
    generator = torch.Generator().manual_seed(1)
    x, key = torch.randn(2, 9, 4, generator=generator), torch.randn(2, 9, 3, generator=generator)
    tokens = TowerTokens(x, torch.ones(2, 9), torch.arange(9).expand(2, -1))
    merge = ToMe(order="raster")
    once = merge(key, tokens, 3, False)
    twice = merge.ordered(merge(torch.randn(2, 6, 3, generator=generator), once, 2, False))
    for frame in range(2):
        for token in range(4):
            patches = (twice.source[frame] == token).nonzero()[:, 0]
            assert twice.size[frame, token] == len(patches)
            torch.testing.assert_close(twice.x[frame, token], x[frame, patches].mean(0))


def test_what_cannot_be_is_refused_in_a_line(models: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it merges inside the vision tower, which leaves no grid, and after it"):
        Reducer("it", input=ToMe(), merge=VidCom2())
    for name in ("qwen", "stllm_qa"):
        with pytest.raises(InfeasibleError, match="tome merges inside the vision tower, which .* does not allow; use another"):
            require_fit(reducer_of("tome"), models[name])
    for wrong, said in (({"keep_ratio": 0}, "keep_ratio"), ({"fewer": -1}, "fewer"), ({"inflection": 2}, r"in \[-1, 1\], got 2")):
        with pytest.raises(ValueError, match=said):
            ToMe(**wrong)

"""What methods before the LLM say of themselves is so: over many sizes, shares, types and kinds of video."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from test_reference_before import require_what_it_says

from prunesweep.dev.bench_methods import with_facts
from prunesweep.dev.drawn import drawn_video
from prunesweep.engine.stages import Reduce
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Merger, NoCounterpartError, left_by_merge, merges_patches, mmtok, needs_of
from prunesweep.reducers.aim import Aim
from prunesweep.reducers.cdpruner import CdPruner
from prunesweep.reducers.divprune import DivPrune
from prunesweep.reducers.dycoke import DyCoke
from prunesweep.reducers.evs import Evs
from prunesweep.reducers.fastvid import FastVid
from prunesweep.reducers.flashvid import FlashVid
from prunesweep.reducers.holitom import HoliTom
from prunesweep.reducers.mmtok import MmTok
from prunesweep.reducers.parts import similarity
from prunesweep.reducers.scissor import Scissor
from prunesweep.reducers.sttm import Sttm
from prunesweep.reducers.vidcom2 import VidCom2
from prunesweep.reducers.visionzip import VisionZip
from prunesweep.testing import laws_of
from prunesweep.types import Clip, Tokens
from support.facts import all_facts, lacking, reducer_in
from support.places import REDUCERS

SIZES = ((1, 36), (2, 9), (5, 16), (7, 36), (8, 49), (9, 25), (12, 4))
SHARES = (0.02, 0.1, 0.25, 0.29, 0.5, 0.75, 0.9, 1.0)
QWEN = {"remainder": "spread", "anchor_in_mean": False, "still_threshold": 0.9, "features": "mean", "attention": "received"}
SPREAD = {"remainder": "spread", "anchor_in_mean": False}
BY_SHARE = {
    "aim": Aim,
    "cdpruner": CdPruner,
    "cdpruner by frame": lambda share: CdPruner(share, normalise="frame", theta=0.5),
    "divprune": DivPrune,
    "divprune by frame": lambda share: DivPrune(share, scope="frame"),
    "dycoke": lambda share: DyCoke(1 - share),
    "dycoke complete": lambda share: DyCoke(1 - share, "complete", "kept", "raster"),
    "evs": lambda share: Evs(1 - share),
    "fastvid": FastVid,
    "fastvid spread": lambda share: FastVid(share, **SPREAD, segments=2),
    "fastvid qwen": lambda share: FastVid(share, **QWEN, segments=2),
    "fastvid one": lambda share: FastVid(share, segments=1, segment_threshold=-1, anchor_weight=0.2),
    "flashvid": FlashVid,
    "flashvid released": lambda share: FlashVid(share, tree_mean="release", single="release", segments=2),
    "flashvid div": lambda share: FlashVid(share, selection="div", segments=1, segment_threshold=-1),
    "flashvid attn": lambda share: FlashVid(share, selection="attn", selected_share=0.3, segments=3),
    "holitom": HoliTom,
    "holitom means": lambda share: HoliTom(share, 0.5, None),
    "mmtok": MmTok,
    "scissor": Scissor,
    "scissor drawn": lambda share: Scissor(share, 0.4),
    "sttm": Sttm,
    "sttm in space": lambda share: Sttm(share, None, 0, weighted=True),
    "sttm mended": lambda share: Sttm(share, 0.5, 0, missing_children="ignored", groups="components"),
    "vidcom2": VidCom2,
    "visionzip": VisionZip,
    "visionzip raster": lambda share: VisionZip(share, normalise=True, order="raster"),
}
"""Every method by the one number that says how much it keeps, with its switches."""


KNOBS: dict[str, str | None] = {
    "scissor drawn": None,
    "dycoke": "merging_ratio",
    "evs": "prune_ratio",
    "scissor": "threshold",
    "sttm": "spatial_threshold",
}


def video(frames: int, patches: int, moving: float) -> Tokens:
    """Patches that stand still but for noise."""
    generator = torch.Generator().manual_seed(frames * 100 + patches)
    x = torch.randn(1, patches, 12, generator=generator) + moving * torch.randn(frames, patches, 12, generator=generator)
    return Tokens("video", x, x[:0, 0], facts=all_facts(x, torch.rand(frames, patches, generator=generator)))


def made(name: str, share: float) -> Merger:
    return BY_SHARE[name](share)


@pytest.mark.parametrize("name", [name for name in BY_SHARE if " " in name])
def test_combinations_of_switches_hold_the_laws(name: str) -> None:
    """Single ones: `laws/test_conformance.py`; some combinations leave a fact unread, or cannot keep all."""
    knob = KNOBS.get(name, KNOBS.get(name.partition(" ")[0], "keep_ratio"))  # what is drawn does not follow a threshold
    for law in laws_of(made(name, 0.4), knob):
        if not str(law).endswith(("it reads the facts that it needs and no others", "a share of 1 keeps all")):
            law()


@pytest.mark.parametrize("name", BY_SHARE)
@pytest.mark.parametrize("moving", [0.0, 0.3, 2.0])
def test_what_it_says_that_it_leaves_is_what_it_leaves(name: str, moving: float) -> None:
    """Over many sizes and shares, through the stage that refuses what is not valid."""
    for (frames, patches), share in product(SIZES, SHARES):
        merge, tokens = made(name, share), video(frames, patches, moving)
        try:
            left = left_by_merge(merge, frames, patches)
            fewest = left.tokens if left else merge.fewest(frames, patches)
        except NoCounterpartError:
            with pytest.raises(NoCounterpartError):
                merge(tokens)
            continue
        merged = Reduce(merge)(tokens, model=None)
        require_what_it_says(merged, tokens)
        assert fewest <= len(merged.x)
        if left is not None:
            assert left.tokens == len(merged.x)


@pytest.mark.parametrize("name", BY_SHARE)
def test_positions_change_no_token(name: str) -> None:
    merge, tokens = made(name, 0.4), video(9, 36, 0.5)
    anew, original = (Reduce(replace(merge, positions=kind))(tokens, model=None) for kind in ("renumbered", "original"))
    assert torch.equal(anew.x, original.x)


def test_a_tower_of_other_size_is_merged_by_its_own_patches() -> None:
    tokens = video(3, 16, 0.5)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 64, 20, generator=generator)
    facts = all_facts(features, torch.rand(3, 64, generator=generator))
    merge = VisionZip(0.25, level="tower", attention="class", positions="original")
    assert merges_patches(merge)
    merged = merge(replace(tokens, facts=facts))
    assert merged.source.shape == (3, 64)
    assert merged.x.shape == (48, 20)
    assert merged.position.max() < merged.span == 48


@pytest.mark.parametrize("name", [name for name in REDUCERS if lacking(name)])
def test_what_the_tower_does_not_have_is_refused_in_one_line(model: LlavaOnevision, name: str) -> None:
    clip = Clip("video", torch.zeros(2, 96, 96, 3, dtype=torch.uint8), (0.0, 1.0))
    with pytest.raises(ValueError, match=rf"the vision tower of small has no .*{lacking(name)[0].rpartition('.')[2]}") as error:
        model.encode(clip, needs=needs_of(reducer_in(name).merge))
    assert "\n" not in str(error.value)
    assert "use another reducer" in str(error.value)


def test_few_frames_are_refused_where_the_release_fails() -> None:
    with pytest.raises(NoCounterpartError, match="needs more than 4; use reducer.merge.last_window=complete"):
        DyCoke().left(4, 16)
    assert DyCoke(last_window="complete").left(4, 10).tokens == 10 + 3 * int(0.3 * 10 + 1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Evs(1.2), r"prune_ratio must be in \[0, 1\], got 1.2"),
        (lambda: VidCom2(0), r"keep_ratio must be in \(0, 1\], got 0"),
        (lambda: DivPrune(scope="image"), "scope must be one of video, frame, got 'image'"),
        (lambda: VisionZip(dominant=3), "dominant and contextual must be given both or not at all"),
        (lambda: VisionZip(dominant=3, contextual=0), "contextual must be at least 1, got 0"),
        (lambda: VisionZip(dominant=30, contextual=7).left(2, 36), r"no 30 \+ 7 tokens of frames of 36"),
        (lambda: DyCoke("all"), "merging_ratio must be a number, got 'all'"),
        (lambda: HoliTom(centre_weight=2), r"centre_weight must be in \[0, 1\], got 2"),
        (lambda: HoliTom(neighbours=0), "neighbours must be at least 1, got 0"),
        (lambda: FlashVid(expansion=0), "expansion must be above 0, got 0"),
        (lambda: FlashVid(selection="best"), "selection must be one of attn_div_v2, attn_div, div, attn"),
        (lambda: FastVid(still_threshold=0.9), "still_threshold needs remainder=spread"),
        (lambda: FastVid(0.01).left(8, 36) or FastVid(0.01).fewest(8, 36), "less than one of them"),
        (lambda: Sttm(root_level=-1), "root_level must be at least 0, got -1"),
        (lambda: Sttm(weighted="yes"), "weighted must be true or false, got 'yes'"),
        (lambda: Scissor(epsilon=-1), "epsilon must be at least 0, got -1"),
        (lambda: CdPruner(theta=1), r"theta must be in \[0, 1\), got 1"),
        (lambda: CdPruner(tokens_per_frame=40).left(1, 36), "no 40 tokens of frames of 36"),
        (lambda: MmTok(text_temperature=0), "text_temperature must be above 0, got 0"),
        (lambda: MmTok(tokens=40).left(1, 36), "no 40 tokens of a video of 36"),
        (lambda: Aim(positions="new"), "positions must be one of renumbered, original"),
    ],
)
def test_a_setting_out_of_bounds_is_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("block_values", [2**22, 5000])
@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 1, 4), (5, 60, 24), (8, 36, 24)])
def test_the_loneliest_token_is_that_of_all_distances_at_once(
    shape: tuple[int, int, int], block_values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity, "BLOCK_VALUES", block_values)
    for still in (0, len(drawn_video(*shape).x) // 2):
        x = drawn_video(*shape).x
        x[:still] = x[:1]
        vectors = similarity.unit(x.flatten(0, 1))
        distance = 1 - vectors @ vectors.T
        assert similarity.loneliest(vectors) == distance.kthvalue(min(2, len(vectors)), dim=1).values.argmax()


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_mmtok_keeps_the_same_tokens_whether_its_matrix_is_held_or_worked_out_again(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = with_facts(drawn_video(8, 36, 24), MmTok.needs)
    held = MmTok(share)(tokens).source
    monkeypatch.setattr(mmtok, "HELD_VALUES", 0)
    assert torch.equal(held, MmTok(share)(tokens).source)

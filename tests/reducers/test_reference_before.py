"""Methods before the LLM against numbers of their released code: which tokens, from which patches, at which places.

The numbers are data of runs of the official code on drawn inputs; `tests/data/methods/cases.json` says of which commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from prunesweep.models.towers import merged_pass
from prunesweep.reducers import Merger, NoCounterpartError
from prunesweep.reducers.aim import Aim
from prunesweep.reducers.cdpruner import CdPruner
from prunesweep.reducers.divprune import DivPrune
from prunesweep.reducers.dycoke import DyCoke
from prunesweep.reducers.evs import Evs
from prunesweep.reducers.fastvid import FastVid
from prunesweep.reducers.flashvid import FlashVid
from prunesweep.reducers.holitom import HoliTom
from prunesweep.reducers.mmtok import MmTok
from prunesweep.reducers.parts.similarity import best, paired_cosine
from prunesweep.reducers.parts.windows import best_windows, cut, frame_similarity, static_patches
from prunesweep.reducers.scissor import Scissor
from prunesweep.reducers.sttm import Sttm
from prunesweep.reducers.tome import ToMe, merge_layer
from prunesweep.reducers.vidcom2 import VidCom2, frame_ratios, likeness
from prunesweep.reducers.visionzip import VisionZip
from prunesweep.types import Contributions, Merged, Tokens, TowerTokens
from prunesweep.types.facts import Fact

FOLDER = Path(__file__).parents[1] / "data" / "methods"
CASES = json.loads((FOLDER / "cases.json").read_text())
TWO_MORE = json.loads((FOLDER / "cases_of_two_more.json").read_text())
TOLERANCE = 1e-5

SPREAD = {"anchor_in_mean": False, "remainder": "spread"}
FASTVID = {
    "fastvid_video_a": SPREAD,
    "fastvid_qwen_a": {**SPREAD, "features": "mean", "still_threshold": 0.95},
}
"""The other two codes of its release."""
Make = Callable[[dict, dict], Merger]
METHODS: dict[str, Make] = {
    "evs": lambda s, _: Evs(s["q"]),
    "vidcom2": lambda s, _: VidCom2(s["ratio"], positions="original"),
    "divprune": lambda s, _: DivPrune(s["ratio"], positions="original"),
    "visionzip_video": lambda s, _: VisionZip(s["tokens_per_frame"] / patches_of(_)),
    "holitom": lambda s, _: HoliTom(s["ratio"], s["tau"], None if s.get("no_beta") else 0.6),
    "flashvid": lambda s, _: FlashVid(
        s["ratio"],
        selected_share=s.get("alpha", 0.7),
        segments=s.get("min_segments", 8) if s.get("segment", True) else 1,
        segment_threshold=0.9 if s.get("segment", True) else -1.0,
        selection=s.get("selection", "attn_div_v2"),
        tree_mean="release",
        single="release",
        positions="original",
    ),
    "fastvid": lambda s, _: FastVid(
        s["ratio"], s["c"], s["tau"], s["d"], s["p"], s["beta"], **FASTVID.get(_["case"], {}), positions="original"
    ),
    "sttm": lambda s, _: Sttm(
        s["threshold"],
        s["temporal"] if s["temporal"] > 0 else None,
        s["root_level"],
        s.get("weighted", False),
        positions="original",
    ),
    "scissor": lambda s, _: Scissor(s["tau"], s.get("epsilon", 0.05), positions="original"),
    "cdpruner": lambda s, _: CdPruner(tokens_per_frame=s["tokens_per_frame"], positions="original"),
    "dycoke": lambda s, _: DyCoke(s["merging_ratio"], positions="original"),
}
"""Of a case's settings and arrays; with original positions where the release keeps one place per token."""
ORIGINAL = {"cdpruner", "sttm", "fastvid", "flashvid", "evs", "vidcom2", "divprune", "dycoke"}


def patches_of(arrays: dict[str, Tensor]) -> int:
    return arrays["tokens"].shape[1]


def part(case: dict) -> dict[str, Tensor]:
    name = case["case"] + "."
    stored = load_file(FOLDER / f"{case['method']}.safetensors")
    return {"case": case["case"]} | {key.removeprefix(name): value for key, value in stored.items() if key.startswith(name)}


def tokens_of(case: dict, arrays: dict[str, Tensor]) -> Tokens:
    x = arrays["tokens"]
    grid = tuple(case["settings"]["grid"]) if "grid" in case["settings"] else None
    facts = {name: Fact(arrays[array]) for name, array in FACTS_FROM.items() if array in arrays}
    return Tokens("video", x, x[:0, 0], grid=grid, facts=facts)


FACTS_FROM = {
    "pooled.attention.received": "attention",
    "pooled.attention.probe": "attention",
    "pooled.key.mean": "key",
    "frame.head": "frame_features",
    "pooled.image.text_space": "image_embeds",
    "question.text_space": "text_embeds",
}


def cases_of(*methods: str, failed: bool = False) -> list:
    own = [case for case in CASES if case["method"] in methods and ("official_error" in case) == failed]
    return [pytest.param(case, id=case["case"]) for case in own]


def shares_of(merged: Merged) -> Contributions:
    """What its tokens are made of; where it does not say, plain means of the patches that went to them."""
    if merged.contributions is not None:
        return merged.contributions
    source = merged.source.flatten()
    patch = (source >= 0).nonzero()[:, 0]
    token = source[patch]
    return Contributions(token, patch, 1 / torch.bincount(token, minlength=len(merged.x))[token].float())


def dense(shares: Contributions, shape: tuple[int, int]) -> Tensor:
    return torch.zeros(shape).index_put_((shares.token.long(), shares.patch.long()), shares.share.float(), accumulate=True)


def require_what_it_says(merged: Merged, tokens: Tokens) -> None:
    """Contributions times tokens are the tokens handed on, and the source has the largest share."""
    flat = tokens.x.flatten(0, 1)
    weights = dense(shares_of(merged), (len(merged.x), len(flat)))
    torch.testing.assert_close(weights @ flat.float(), merged.x.float(), atol=TOLERANCE, rtol=TOLERANCE)
    there = weights.amax(0) > 0
    source = merged.source.flatten()
    assert torch.equal(there, source >= 0)
    own = weights[source.clamp(min=0), torch.arange(len(source))]
    assert torch.equal(own[there], weights.amax(0)[there])


@pytest.mark.parametrize("case", cases_of(*METHODS))
def test_a_method_gives_the_released_tokens(case: dict) -> None:
    if not case["compare"].startswith("exact"):
        pytest.skip(case["compare"])
    arrays = part(case)
    tokens = tokens_of(case, arrays)
    merged = METHODS[case["method"]](case["settings"], arrays)(tokens)
    require_what_it_says(merged, tokens)
    if case["case"] in OWN_WAY:
        OWN_WAY[case["case"]](merged, arrays)
        return
    order = torch.arange(len(merged.x))
    if case["compare"] == TWICE:
        order = matched(merged, arrays)
    torch.testing.assert_close(merged.x[order], arrays["merged"], atol=TOLERANCE, rtol=TOLERANCE)
    if "kept" in arrays and case["method"] in ORIGINAL:
        assert merged.position.tolist() == arrays["kept"].tolist()
    if "per_frame" in arrays and case["method"] in ORIGINAL:
        assert torch.bincount(merged.group, minlength=len(tokens.x)).tolist() == arrays["per_frame"].tolist()
    shape = (len(merged.x), tokens.x.shape[0] * tokens.x.shape[1])
    weights = dense(shares_of(merged), shape)[order]
    torch.testing.assert_close(weights.sum(1), arrays["weight_sums"].float(), atol=TOLERANCE, rtol=TOLERANCE)
    if "weights.value" in arrays:
        released = Contributions(*(arrays[f"weights.{name}"] for name in ("out", "in", "value")))
        torch.testing.assert_close(weights, dense(released, shape), atol=TOLERANCE, rtol=TOLERANCE)
    if "source" in arrays and case["single_source"]:
        assert merged.source.tolist() == arrays["source"].tolist()


TWICE = "exact up to the order of tokens with one place"


def matched(merged: Merged, arrays: dict[str, Tensor]) -> Tensor:
    """For each released token ours of the same place that is nearest to it."""
    elsewhere = merged.position != arrays["kept"][:, None]
    order = torch.cdist(arrays["merged"], merged.x).masked_fill(elsewhere, torch.inf).argmin(1)
    assert sorted(order.tolist()) == list(range(len(merged.x)))
    return order


def six_kinds(merged: Merged, arrays: dict[str, Tensor]) -> None:
    """The release repeats the first token after six picks; ours picks each once."""
    kept = merged.position.tolist()
    assert len(set(kept)) == len(kept) == len(arrays["merged"])
    assert set(arrays["picked"][:6].tolist()) < set(kept)


OWN_WAY: dict[str, Callable[[Merged, dict[str, Tensor]], None]] = {"divprune_ties": six_kinds}
"""Cases that the release answers with a fault that ours does not have."""


@pytest.mark.parametrize("case", cases_of("vidcom2"))
def test_vidcom2_scores_as_released(case: dict) -> None:
    arrays = part(case)
    scores = likeness(arrays["tokens"])
    torch.testing.assert_close(scores.video, arrays["video_score"], atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(scores.frame, arrays["frame_score"], atol=TOLERANCE, rtol=TOLERANCE)
    ratios = frame_ratios(scores.video, case["settings"]["ratio"])
    torch.testing.assert_close(ratios, arrays["frame_ratio"], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("case", cases_of("holitom"))
def test_holitom_finds_the_released_windows(case: dict) -> None:
    arrays, settings = part(case), case["settings"]
    x = arrays["tokens"]
    alike = paired_cosine(x[1:], x[:-1]) > settings["tau"]
    lengths, saved = best_windows(alike, 1024)
    assert (lengths, saved) == (arrays["segment_lengths"].tolist(), int(arrays["saved"]))
    assert static_patches(alike, lengths).tolist() == arrays["static"].bool().tolist()
    found = HoliTom(settings["ratio"]).effective_ratio(x.shape[0] * x.shape[1], saved)
    assert found == pytest.approx(float(arrays["effective_ratio"]), abs=TOLERANCE)


@pytest.mark.parametrize("case", cases_of("flashvid"))
def test_flashvid_cuts_and_counts_as_released_or_as_it_should(case: dict) -> None:
    arrays = part(case)
    tokens = tokens_of(case, arrays)
    released = METHODS["flashvid"](case["settings"], arrays)
    lengths = cut(frame_similarity(tokens.x.mean(1)), released.segment_threshold, released.segments)
    assert lengths == [length for length in arrays["segment_lengths"].tolist() if length]  # it cuts twice at one place
    assert released.budget(tokens.x.shape[1]) == tuple(arrays["budget"].tolist())
    ours = replace(released, tree_mean="true", single="unselected")(tokens)
    require_what_it_says(ours, tokens)
    sums = torch.zeros(len(ours.x)).index_add(0, ours.contributions.token, ours.contributions.share)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert (ours.position[1:] > ours.position[:-1]).all()


@pytest.mark.parametrize("case", cases_of("fastvid", failed=True))
def test_fastvid_takes_less_where_the_release_fails(case: dict) -> None:
    """Fewer frames than segments, or more anchors than a frame has other tokens."""
    arrays, settings = part(case), case["settings"]
    tokens = tokens_of(case, arrays)
    merge = METHODS["fastvid"](settings, arrays)
    merged = merge(tokens)
    require_what_it_says(merged, tokens)
    assert merge.fewest(*tokens.x.shape[:2]) <= len(merged.x) <= len(tokens.x) * merge.budget(tokens.x.shape[1])


@pytest.mark.parametrize("case", cases_of("fastvid"))
def test_fastvid_finds_the_released_segments_and_salient_tokens(case: dict) -> None:
    arrays, settings = part(case), case["settings"]
    x = arrays["tokens"]
    frames = arrays.get("frame_features", x.mean(1))
    assert cut(frame_similarity(frames), settings["tau"], settings["c"]) == arrays["segment_lengths"].tolist()
    if "salient" in arrays:
        merge = METHODS["fastvid"](settings, arrays)
        (salient, *_), *_ = (plan.salient for _, plan in merge.plans(frame_similarity(frames), x.shape[1]))
        found = best(arrays["attention"], salient).flatten().nonzero()[:, 0]
        assert found.tolist() == sorted(arrays["salient"].tolist())


@pytest.mark.parametrize("case", cases_of("sttm"))
def test_sttm_with_real_children_or_whole_groups_leaves_what_was_counted(case: dict) -> None:
    arrays = part(case)
    tokens = tokens_of(case, arrays)
    released = METHODS["sttm"](case["settings"], arrays)
    if "tokens_if_valid_children_only" in arrays:
        real = replace(released, missing_children="ignored")(tokens)
        require_what_it_says(real, tokens)
        assert len(real.x) == int(arrays["tokens_if_valid_children_only"])
    if case["case"] == "sttm_groups":
        assert len(replace(released, groups="components")(tokens).x) == 31


def test_scissor_loses_no_token_of_a_draw() -> None:
    """Which are drawn is ours, so that the release's case with a draw cannot be had; the same seed draws the same."""
    (case,) = (case for case in CASES if case["case"] == "scissor_sampled")
    tokens = tokens_of(case, part(case))
    one, same, other = (Scissor(0.9, 0.5, seed)(tokens) for seed in (0, 0, 1))
    require_what_it_says(one, tokens)
    assert torch.equal(one.x, same.x)
    assert one.x.shape != other.x.shape or not torch.equal(one.x, other.x)


@pytest.mark.parametrize("case", cases_of("divprune"))
def test_divprune_picks_as_released(case: dict) -> None:
    arrays = part(case)
    picked = DivPrune(case["settings"]["ratio"]).picks(arrays["tokens"].flatten(0, 1)[None])[0].tolist()
    sure = 6 if case["case"] == "divprune_ties" else len(picked)
    assert picked[:sure] == arrays["picked"].tolist()[:sure]


@pytest.mark.parametrize("case", cases_of("visionzip"))
def test_visionzip_of_clip_gives_the_released_tokens_but_the_class_token(case: dict) -> None:
    arrays, settings = part(case), case["settings"]
    features, key = arrays["hidden"][:, 1:], arrays["key"][:, 1:]
    facts = {"features": Fact(features), "key.mean": Fact(key), "attention.class": Fact(arrays["attention_heads"].mean(1))}
    tokens = Tokens("video", features, features[:0, 0], facts=facts)
    merge = VisionZip(
        dominant=settings["dominant"] - 1,
        contextual=settings["contextual"],
        level="tower",
        attention="class",
        positions="original",
    )
    merged = merge(tokens)
    require_what_it_says(merged, tokens)
    frames, size = len(features), settings["dominant"] + settings["contextual"]
    torch.testing.assert_close(
        merged.x.unflatten(0, (frames, -1)), arrays["merged"].unflatten(0, (frames, size))[:, 1:], atol=TOLERANCE, rtol=TOLERANCE
    )
    dominant = merged.position.unflatten(0, (frames, -1))[:, : settings["dominant"] - 1] % features.shape[1]
    assert dominant.tolist() == (arrays["all_indices"].sort(1).values[:, 1:] - 1).tolist()
    frame = torch.arange(frames)[:, None]
    assert merged.source.tolist() == (arrays["source"][:, 1:] - frame - 1).tolist()
    sums = torch.bincount(merged.contributions.token, merged.contributions.share)
    expected = arrays["weight_sums"].unflatten(0, (frames, size))[:, 1:].flatten()
    torch.testing.assert_close(sums.float(), expected.float(), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("case", cases_of("dycoke", failed=True))
def test_where_the_release_fails_ours_says_so(case: dict) -> None:
    arrays = part(case)
    with pytest.raises(NoCounterpartError, match=FAILURES[case["case"]]):
        METHODS[case["method"]](case["settings"], arrays)(tokens_of(case, arrays))


FAILURES = {"dycoke_four": "needs more than 4"}


def test_cdpruner_picks_each_once_beyond_the_rank_of_the_features() -> None:
    (case,) = (case for case in CASES if case["case"] == "cdpruner_rank")
    arrays = part(case)
    merged = METHODS["cdpruner"](case["settings"], arrays)(tokens_of(case, arrays))
    assert len(merged.position.unique()) == case["settings"]["tokens_per_frame"] > len(arrays["kept"])
    rank = arrays["tokens"].shape[2]
    first = CdPruner(tokens_per_frame=rank, positions="original")(tokens_of(case, arrays))
    assert set(first.position.tolist()) <= set(arrays["kept"].tolist())


def two_more(method: str) -> list:
    return [pytest.param(case, id=case["case"]) for case in TWO_MORE if case["method"] == method]


@pytest.mark.parametrize("case", two_more("aim"))
def test_aim_gives_the_released_tokens(case: dict) -> None:
    arrays, settings = part(case), case["settings"]
    x = arrays["hidden_unmerged"][arrays["visual_unmerged"].bool()].view(settings["frames"], settings["patches"], -1)
    tokens = Tokens("video", x, x[:0, 0])
    merge = Aim(0.5 ** settings["merges"])
    merged = merge(tokens)
    require_what_it_says(merged, tokens)
    assert merge.left(*x.shape[:2]).groups == (case["numbers"]["merged_per_frame"],) * len(x)
    torch.testing.assert_close(merged.x, arrays["merged"].flatten(0, 1), atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize("case", two_more("mmtok"))
def test_mmtok_keeps_the_released_tokens(case: dict) -> None:
    arrays, settings = part(case), case["settings"]
    x, tower = (arrays[name].unflatten(0, (settings["frames"], settings["patches"])) for name in ("x", "tower"))
    tokens = Tokens("video", x, x[:0, 0], facts={"pooled.features": Fact(tower), "question.embedded": Fact(arrays["text"])})
    merge = MmTok(
        tokens=settings["keep"],
        visual_weight=settings["alpha"],
        text_temperature=settings["text_temperature"],
        visual_temperature=settings["visual_temperature"],
        positions="original",
    )
    merged = merge(tokens)
    require_what_it_says(merged, tokens)
    assert merged.position.tolist() == arrays["kept"].tolist()


@pytest.mark.parametrize("case", [case for case in cases_of("tome") if "layer" in case.id])
def test_a_layer_of_tome_gives_the_released_tokens(case: dict) -> None:
    arrays, settings = part(case), case["settings"]
    x = arrays["x"]
    size = arrays["size"][..., 0] if "size" in arrays else torch.ones(x.shape[:2])
    tokens = TowerTokens(x, size, torch.arange(x.shape[1]).expand(len(x), -1))
    layer = merge_layer(arrays["metric"], tokens, settings["r"], class_token=settings["class_token"])
    torch.testing.assert_close(layer.x.flatten(0, 1), arrays["merged"], atol=TOLERANCE, rtol=TOLERANCE)
    torch.testing.assert_close(layer.size, arrays["merged_size"], atol=TOLERANCE, rtol=TOLERANCE)
    first = torch.arange(len(x))[:, None] * layer.x.shape[1]
    assert (layer.source + first).tolist() == arrays["source"].tolist()


@pytest.mark.parametrize("case", [case for case in cases_of("tome") if "vit" in case.id])
def test_tome_in_a_stock_tower_gives_the_released_tokens(case: dict) -> None:
    """CLIP's layers with the case's weights, on the case's embeddings."""
    arrays, settings = part(case), case["settings"]
    fewer, inflection = settings["r"] if isinstance(settings["r"], list) else (settings["r"], 0.0)
    merger = ToMe(fewer=fewer, inflection=inflection, proportional=settings["prop_attn"], order="release")
    assert merger.schedule(settings["layers"], 0) == arrays["r_schedule"].tolist()
    own = settings["class_token"]
    seen = merged_pass(stock_tower(arrays, settings), arrays["x"], -1, own, merger)
    frames, patches, left = len(arrays["x"]), arrays["x"].shape[1], arrays["merged_size"].shape[1]
    expected = arrays["merged"].unflatten(0, (frames, left))[:, int(own) :]
    torch.testing.assert_close(seen.features, expected, atol=1e-4, rtol=1e-4)
    source = arrays["source"].view(frames, patches) - torch.arange(frames)[:, None] * left
    again = seen.source - torch.arange(frames)[:, None] * expected.shape[1]
    assert again.tolist() == (source[:, int(own) :] - int(own)).tolist()
    assert seen.tokens[-1] == expected.shape[1]


def stock_tower(arrays: dict[str, Tensor], settings: dict) -> torch.nn.Module:
    from transformers import CLIPVisionConfig, CLIPVisionModel

    width, inner = arrays["x"].shape[2], len(arrays["w.0.mlp.0.bias"])
    tower = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=inner,
            num_hidden_layers=settings["layers"],
            num_attention_heads=settings["heads"],
            hidden_act="gelu",
            layer_norm_eps=1e-5,
        )
    ).eval()
    vision = getattr(tower, "vision_model", tower)
    vision.embeddings = vision.pre_layrnorm = torch.nn.Identity()
    names = {
        "norm1": "layer_norm1",
        "norm2": "layer_norm2",
        "attn.proj": "self_attn.out_proj",
        "mlp.0": "mlp.fc1",
        "mlp.2": "mlp.fc2",
    }
    for number, block in enumerate(vision.encoder.layers):
        for kind in ("weight", "bias"):
            weights = {f"{ours}.{kind}": arrays[f"w.{number}.{theirs}.{kind}"] for theirs, ours in names.items()}
            for name, piece in zip("qkv", arrays[f"w.{number}.attn.qkv.{kind}"].chunk(3), strict=True):
                weights[f"self_attn.{name}_proj.{kind}"] = piece
            block.load_state_dict(weights, strict=False)
    return tower

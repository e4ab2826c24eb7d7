"""Methods inside the LLM end where the released code ended on the same prompts: kept tokens, hidden states, decoding.

The released loop has the whole prompt from the start; ours runs the video first and asks the question late, on caches of
different lengths.  Cases: `data/methods/inside_llm`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prunesweep.engine.plan import inside
from prunesweep.engine.stages import Prune, Writer, changed, looked
from prunesweep.reducers import (
    Reducer,
    aim,
    dart,
    dycoke,
    flashvid,
    framefusion,
    holitom,
    pyramiddrop,
    sparsevlm,
)
from support.tiny_decoder import TinyDecoder, arrays_of, cases_of, entering

LAYERS = 8
CLOSE: dict[str, float] = {"atol": 1e-5, "rtol": 1e-5}
AFTER_ALL: dict[str, float] = {"atol": 2e-5, "rtol": 1e-5}
"""After six layers: one value of 704 is 1.08e-5 off on some processors, whose products round otherwise, and none on others."""


def reducer_of(case: dict[str, Any]) -> Reducer:
    s = case["settings"]
    match case["method"]:
        case "pyramiddrop":
            return Reducer("it", prune=pyramiddrop.PyramidDrop(layers=s["layers"], keep_ratios=s["keep_ratios"]))
        case "holitom_inner":
            return Reducer("it", prune=holitom.Fold(s["layer"], s["drop_ratio"]))
        case "flashvid_inner":
            return Reducer("it", prune=flashvid.Prune(s["layer"], s["keep_ratio"]))
        case "dart":
            return Reducer(
                "it", prune=dart.Prune(s["layer"], s["drop_ratio"], s["visual_pivots"], s["text_pivots"], s["pivot_order"])
            )
        case "dycoke_decode":
            return Reducer("it", decode=dycoke.Decode(s["layer"], s["drop_ratio"], s["similarity_threshold"]))
        case "sparsevlm":
            plus = s["version"] == "2.0"
            return Reducer(
                "it",
                prune=sparsevlm.SparseVLM(
                    tokens=s["keep"] or None,
                    layers=s["full_layers"],
                    budget="rank" if s["version"] == "rank" else "share",
                    recycle=not plus,
                    corrected=plus,
                    positions="original" if plus else "renumbered",
                ),
            )
    raise NotImplementedError(case["method"])


NAMED = ("cost", "similarity_threshold", "ratio_threshold")
METHODS = ("pyramiddrop", "holitom_inner", "flashvid_inner", "dart", "dycoke_decode", "sparsevlm")
CASES = [case for method in METHODS for case in cases_of(method)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['method']}-{case['case']}")
@torch.inference_mode()
def test_the_released_loop_and_ours_end_alike(case: dict[str, Any]) -> None:
    arrays, reducer = arrays_of(case), reducer_of(case)
    model = TinyDecoder(case["settings"]["kv_heads"])
    inputs = arrays.get("decode.inputs", torch.zeros(0, 32))
    model.table(arrays["hidden"], inputs)
    prefix, question = entering(case, arrays, model)
    kept: list[list[int]] = []
    for stage in inside(reducer, question, LAYERS):
        if isinstance(stage, Prune):
            kept.append(changed(stage.pruner(looked(prefix, stage.pruner, model)[0])).keep.tolist())
        prefix = stage(prefix, model)
    assert kept == [arrays[name].tolist() for name in arrays if name.endswith(".kept") and not name.startswith("decode")]
    torch.testing.assert_close(model.normed(prefix.hidden), arrays["final"], **AFTER_ALL)
    assert list(prefix.usage.visual_tokens) == case["numbers"]["visual_tokens"]
    if not len(inputs):
        return
    writer = Writer(prefix, model, reducer.decode)
    written = torch.cat([model.normed(writer.write(token[None])) for token in inputs])
    torch.testing.assert_close(written, arrays["decode.final"], **CLOSE)
    text = case["settings"]["before"] + case["settings"]["after"]
    if "steps" in case["numbers"] and case["method"] == "dycoke_decode":
        attended = torch.tensor([step["attended_per_layer"] for step in case["numbers"]["steps"]])
        since = torch.arange(1, len(attended) + 1)[:, None]
        assert (attended - text - since).sum(0).tolist() == list(writer.attended or ())


@pytest.mark.parametrize("case", cases_of("framefusion"), ids=lambda case: case["case"])
@torch.inference_mode()
def test_framefusion_merges_and_prunes_in_the_released_layers(case: dict[str, Any]) -> None:
    arrays, s, numbers = arrays_of(case), case["settings"], case["numbers"]
    arrays["hidden"] = arrays["step0.hidden"]  # the release writes into what it gets; this was kept before
    fusion = framefusion.FrameFusion(*(s[name] for name in NAMED), budget_layers=s["layers_in_budget"])
    model = TinyDecoder(s["kv_heads"])
    model.table(arrays["hidden"])
    prefix, question = entering(case, arrays, model)
    calls = []
    for stage in inside(Reducer("it", prune=fusion), question, LAYERS):
        before, call = len(prefix.group), ""
        if isinstance(stage, Prune):
            call = f"step{stage.pruner.full_layers + stage.pruner.inside_layer}"
            if f"{call}.kept" in arrays:
                change = changed(stage.pruner(looked(prefix, stage.pruner, model)[0]))
                assert change.keep.tolist() == arrays[f"{call}.kept"].tolist(), call
        prefix = stage(prefix, model)
        if f"{call}.kept" in arrays:
            calls.append((before, len(prefix.group)))
    torch.testing.assert_close(model.normed(prefix.hidden), arrays["final"], **AFTER_ALL)
    assert calls == [(step["entering"], step["leaving"]) for step in numbers["steps"]]
    assert list(prefix.usage.visual_tokens) == numbers["attention_tokens"]
    assert list(prefix.usage.fed_tokens or ()) == numbers["mlp_tokens"]


@pytest.mark.parametrize("case", cases_of("aim"), ids=lambda case: case["case"])
@torch.inference_mode()
def test_aim_keeps_the_released_tokens_by_page_rank(case: dict[str, Any]) -> None:
    """Tokens that are gone do not vote: where that makes a difference in the release, the stages before it are compared."""
    arrays, s = arrays_of(case), case["settings"]
    rank = aim.PageRank(s["first_layer"] + 1, s["decrement"], s["tau_importance"], s["iterations"])
    model = TinyDecoder(s["kv_heads"], s["query_weights_times"])
    model.table(arrays["hidden"])
    same = case["numbers"]["same_if_removed_tokens_did_not_vote"]
    count = len(arrays["hidden"]) - s["before"] - s["after"]
    visual = torch.zeros(len(arrays["hidden"]), dtype=torch.bool)
    visual[s["before"] : s["before"] + count] = True
    arrays |= {"visual": visual, "group": torch.arange(count) // case["numbers"]["merged_per_frame"]}
    prefix, question = entering(case, arrays, model)
    kept = torch.arange(count)
    for stage in inside(Reducer("it", prune=rank), question, LAYERS):
        if isinstance(stage, Prune):
            layer = stage.pruner.full_layers - 1
            kept = kept[changed(stage.pruner(prefix)).keep]
            if same[layer - s["first_layer"]]:
                assert kept.tolist() == arrays[f"layer{layer}.kept"].tolist(), layer
        prefix = stage(prefix, model)
    assert list(prefix.usage.visual_tokens) == case["numbers"]["visual_tokens"]
    if all(same):
        final = model.normed(prefix.hidden)
        torch.testing.assert_close(final[-s["after"] :], arrays["final"][-s["after"] :], **CLOSE)

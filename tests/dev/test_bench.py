"""The reference sides of the benchmarks compute the same; speeds are not tested."""

import re

import pytest
import torch

from prunesweep.dev import bench_processes as processes
from prunesweep.dev.bench import as_released, bench_merge, drawn_video, operations, plain_merge
from prunesweep.dev.bench_engine import CHOOSE, SCALES, bench_engine, build_model, questions_on_one_video, sides_of
from prunesweep.dev.bench_methods import bench_methods, mergers
from prunesweep.dev.bench_plain import Case, bench_plain, cases_of, compared
from prunesweep.dev.bench_roofline import Machine, Work, bench_roofline, layer_weights, vision_bytes
from prunesweep.dev.bench_steps import bench_steps
from prunesweep.embedded.network import TinyShape
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.reducers import Reducer


@pytest.mark.parametrize("shape", [(8, 36, 16), (12, 20, 8), (5, 49, 4)])
def test_the_loop_over_frames_gives_the_tokens_of_the_batched_merge(shape: tuple[int, int, int]) -> None:
    tokens, merge = drawn_video(*shape), as_released(static_threshold=0.5)
    torch.testing.assert_close(plain_merge(tokens, merge), merge(tokens).x, atol=1e-5, rtol=1e-5)


def test_a_merge_of_32_frames_dispatches_at_most_a_fifth_of_the_loops_operations() -> None:
    tokens, merge = drawn_video(32, 196, 16), as_released(static_threshold=0.5)
    assert operations(lambda: merge(tokens)) * 5 <= operations(lambda: plain_merge(tokens, merge))


def test_the_engine_bench_runs_every_side_and_holds_it_against_its_flops() -> None:
    small = TinyShape(hidden=48, layers=6, mlp=96, vision_hidden=32, vision_layers=1, vision_mlp=64)
    text = bench_engine("test", SCALES["0.5b"]._replace(small=small, layers=(1, 2, 3, 4), wide=small, wide_layer=2), rounds=1)
    assert "80 configurations of PruneVid, one video of 8 frames, one question: same answers on all sides" in text
    sides = [line.split("  ")[0].strip() for line in text.splitlines()]
    assert [sides.count(side) for side in ("one at a time", "one at a time, vision kept", "shared")] == [2, 2, 2]
    assert "prefill of 288 visual tokens" in text


def test_the_engine_bench_refuses_sides_that_answer_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(TinyShape(hidden=48, layers=2, vision_layers=1))
    sample = questions_on_one_video()[0]
    jobs = [Job(name, plan(sample, 2, Reducer(name), CHOOSE, model)) for name in ("one", "other")]
    monkeypatch.setattr(
        "prunesweep.dev.bench_engine.on_kept_features", lambda model, jobs: evaluate_jobs(model, jobs[:1], Clock())
    )
    with pytest.raises(ValueError, match="sharing changed an answer"):
        sides_of(model, jobs, frames=2)


def test_the_bench_prints_both_sides() -> None:
    text = bench_merge((8, 20, 8), rounds=1)
    assert "equals the loop" in text
    assert "loop, by float32 products" in text


def test_the_roofline_shows_each_stage_by_its_roof_and_as_it_was() -> None:
    small = TinyShape(hidden=48, layers=6, mlp=96, vision_hidden=32, vision_layers=1, vision_mlp=64)
    text = bench_roofline("7b", SCALES["7b"]._replace(small=small, layers=(1, 2, 3, 4)), rounds=1)
    there, here = text.split("\n\n")
    for part, stages in ((there, ("vision", "prefill", "decoding")), (here, ("vision", "merge", "prefill", "decoding"))):
        rows = [line.split()[:2] for line in part.splitlines()]
        assert [row for row in rows if row[0] == "prunevid"] == [["prunevid", stage] for stage in stages]


def test_a_stage_takes_what_the_slower_of_its_two_peaks_needs() -> None:
    machine = Machine("it", flops=100.0, bytes=10.0, value=2)
    assert (Work(200, 10).roof(machine), Work(200, 10).bound(machine)) == (2.0, "FLOPs")
    assert (Work(200, 30).roof(machine), Work(200, 30).bound(machine)) == (3.0, "memory")


def test_weights_of_a_layer_are_those_of_the_network() -> None:
    model = build_model(TinyShape(hidden=48, layers=2, mlp=96, vision_layers=1))
    layer = model.network.model.language_model.layers[0]
    matrices = sum(weight.numel() for name, weight in layer.named_parameters() if weight.ndim == 2)
    assert layer_weights(model.shape) == matrices
    parts = (model.network.model.vision_tower, model.network.model.multi_modal_projector)
    seeing = [(name, weight) for part in parts for name, weight in part.named_parameters()]
    products = [weight.numel() for name, weight in seeing if weight.ndim > 1 and not re.search("position|head", name)]
    assert vision_bytes(model.shape, 0, 1) == sum(products)


def test_the_bench_of_methods_prints_each_that_merges() -> None:
    text = bench_methods((8, 16, 8), 1, ["evs"])
    assert "\nevs " in text
    assert "prumerge_plus" in dict(mergers())
    with pytest.raises(ValueError, match="no reducer fastv that merges; those that do: aim, "):
        bench_methods((8, 16, 8), 1, ["fastv"])


@pytest.mark.parametrize("case", cases_of((8, 36, 64)), ids=lambda case: case.name)
def test_plain_code_gives_the_tokens_of_the_method(case: Case) -> None:
    assert min(compared(case)) >= 0
    with pytest.raises(ValueError, match="other tokens than the plain code"):
        compared(case._replace(plain=lambda: case.plain() + 1))


def test_the_bench_of_plain_code_prints_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunesweep.dev.bench_plain.LEAST_SECONDS", 0.0)
    rows = [line.split()[0] for line in bench_plain((8, 36, 64), 1, ["dart", "aim"]).splitlines()[4:]]
    assert rows == ["aim", "dart", "aim,"]
    with pytest.raises(ValueError, match="no evs among what is compared with plain code: DPC-KNN of frames, aim, "):
        bench_plain((8, 36, 64), 1, ["evs"])


def test_the_bench_of_steps_prints_each_that_acts_inside_the_llm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunesweep.dev.bench_steps._extra_memory", lambda *_: 0.0)
    rows = [line.split() for line in bench_steps((8, 16, 96), 1).splitlines()[3:]]
    left = {name: int(count) for name, count, *_ in rows}
    assert {"fastv", "prunevid", "dart", "framefusion", "pyramiddrop", "sparsevlm", "aim", "vtw"} <= set(left)
    assert left["vtw"] == 0
    assert left["fastv"] == 64
    assert all(0 <= count < 8 * 16 for count in left.values())
    with pytest.raises(ValueError, match="no reducer evs with a step inside the LLM"):
        bench_steps((8, 16, 96), 1, ["evs"])


def test_the_processes_bench_prints_both_sides_and_their_ratio() -> None:
    text = processes.bench_processes(1, questions=4, rounds=2, trials=processes.TRIALS[:2])
    assert "2 trials on 4 questions" in text
    assert "same records on both sides" in text
    assert [line.split("  ")[0] for line in text.splitlines()[-3:-1]] == ["1 process", "1 processes"]
    assert text.splitlines()[-1].startswith("one / several")


def test_the_processes_bench_refuses_sides_that_answer_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(_: int, samples: object, trials: object):
        records, timing = processes._one(processes.load_with_one_thread(), samples, trials)
        return {name: frame.reverse() for name, frame in records.items()}, timing

    monkeypatch.setattr(processes, "_several", other)
    with pytest.raises(SystemExit, match="several processes answered differently from one"):
        processes.bench_processes(2, questions=2, rounds=1, trials=processes.TRIALS[:1])


def test_the_decoding_bench_runs_all_numbers_of_decoders_and_refuses_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunesweep.dev import bench_decoding as decoding

    monkeypatch.setattr(decoding, "SIZES", {"tiny": (48, 64)})
    text = decoding.bench_decoding([1, 2], videos=3, frames=4, rounds=1)
    rows = [line.split() for line in text.splitlines() if line.count("%") == 1 and " s " in line]
    assert [row[2] for row in rows if row[-1] in ("yes", "no")] == ["0", "1", "2"] * len(decoding.PACES)
    walked = decoding.walked
    monkeypatch.setattr(decoding, "walked", lambda videos, count, pause: walked(videos[: 3 - count], count, pause))
    with pytest.raises(SystemExit, match="clips that were decoded ahead are others"):
        decoding.bench_decoding([1], videos=3, frames=4, rounds=1)

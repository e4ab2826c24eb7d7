"""Token maps: what is drawn is what the stages did."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from prunesweep.cli import app
from prunesweep.cli import run as sweep_command
from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer, prunevid, pyramiddrop, random
from prunesweep.report import token_maps, token_pictures
from prunesweep.report.token_maps import DROPPED, Trace

WORDS = Protocol("words", "choose")
PRUNEVID = Reducer("prunevid", prunevid.Merge(static_threshold=0.5, cluster_ratio=0.5), prunevid.Prune(layer=3, keep_ratio=0.4))


def drawn(source: list[list[int]], kept: list[bool], **changes) -> Trace:
    """A trace of frames with four patches."""
    frames = np.full((len(source), 8, 8, 3), 120, dtype=np.uint8)
    times = tuple(float(i) for i in range(len(source)))
    own = Trace("t", "q", "what?", "yes", "no", False, frames, times, (2, 2), np.array(source), (), np.array(kept), None)
    return replace(own, **changes)


def test_a_trace_holds_what_the_stages_did(model, samples) -> None:
    found = token_maps.trace(model, samples[0], 8, PRUNEVID, WORDS, "prunevid")
    assert found.frames.shape[0] == len(found.source) == sum(found.segments) == 8
    assert found.kept.sum() == -(-len(found.kept) * 4 // 10)  # ceil(0.4 n)
    ((layers, tokens, kept),) = found.pruned
    assert (layers, tokens) == (3, found.kept.sum())
    assert (kept == found.kept).all()
    assert found.attention.shape == found.kept.shape
    assert found.attention[found.kept].min() >= found.attention[~found.kept].max()
    assert set(found.source.ravel()) == set(range(len(found.kept)))
    edges = np.cumsum((0, *found.segments))
    for first, last in pairwise(edges):  # what is merged over time is so in a whole segment
        assert (found.over_time[first:last] == found.over_time[first]).all()


def test_a_trace_answers_as_the_evaluation_does(model, samples) -> None:
    from prunesweep.engine.candidate import Candidate
    from prunesweep.sweep.evaluate import evaluate

    records = evaluate(lambda: model, samples[:4], [Candidate("prunevid", PRUNEVID, 8, WORDS)], progress=False).records[
        "prunevid"
    ]
    for sample, said, right in records.select("sample_id", "prediction", "correct").iter_rows():
        found = token_maps.trace(model, next(s for s in samples if s.id == sample), 8, PRUNEVID, WORDS, "prunevid")
        assert (found.answer, found.correct) == (said, right)


def test_a_method_that_drops_tokens_leaves_holes(model, samples) -> None:
    found = token_maps.trace(model, samples[0], 8, Reducer("random", random.Drop(keep_ratio=0.25)), WORDS, "random")
    assert (found.source == DROPPED).mean() == pytest.approx(0.75)
    assert (found.surviving == (found.source != DROPPED)).all()
    assert not found.over_time.any()
    assert (found.segments, found.pruned, found.attention) == ((), (), None)


def test_a_title_says_which_caches_stay_whole(model, samples) -> None:
    for earlier, said in (("cut", "36 kept after layer 3"), ("whole", "36 kept after layer 3, all in the caches before it")):
        pruned = Reducer("random_layer", prune=random.Prune(layer=3, keep_ratio=0.125, earlier_caches=earlier))
        found = token_maps.trace(model, samples[0], 8, pruned, WORDS, "random_layer")
        assert token_pictures._numbers(found) == f"all 288 tokens enter the LLM, {said}"


def test_a_title_counts_what_each_step_leaves(model, samples) -> None:
    found = token_maps.trace(model, samples[0], 8, Reducer("pyramiddrop", prune=pyramiddrop.PyramidDrop()), WORDS, "pyramiddrop")
    assert [step[:2] for step in found.pruned] == [(2, 144), (4, 72), (6, 36)]
    assert [int(step.kept.sum()) for step in found.pruned] == [144, 72, 36]
    assert all((after.kept <= before.kept).all() for before, after in pairwise(found.pruned)), "nothing comes back"
    titles = [strip.title for strip in token_pictures.strips(found)]
    after = [title.partition(":")[0] for title in titles if title.startswith("after")]
    assert after == ["after layer 2", "after layer 4", "after layer 6"]
    assert not any("merged" in title or "enter" in title for title in titles), "rows that mean nothing are not drawn"
    said = "all 288 tokens enter the LLM, 144 kept after layer 2, 72 after 4, 36 after 6, caches whole up to each"
    assert token_pictures._numbers(found) == said
    idle = replace(found, pruned=((1, 288), (2, 144), (4, 72), (5, 72), (6, 36)))
    assert token_pictures._numbers(replace(idle, pruned=tuple(token_maps.Pruned(*step) for step in idle.pruned))) == said


def test_masks_by_hand() -> None:
    found = drawn([[0, 1, 2, DROPPED], [0, 3, 3, 4]], [True, False, True, True, False])
    assert found.over_time.tolist() == [[True, False, False, False], [True, False, False, False]]
    assert found.shared.tolist() == [[True, False, False, False], [True, True, True, False]]
    assert found.surviving.tolist() == [[True, False, True, False], [True, True, True, False]]


def test_jaccard_by_hand() -> None:
    one, other = drawn([[0, 1, 2, 3]], [True, True, False, False]), drawn([[0, 1, 2, 3]], [True, False, True, False])
    found = token_maps.overlap(one, other)
    assert found.jaccard == pytest.approx(1 / 3)
    assert (found.first.tolist(), found.second.tolist()) == ([[False, True, False, False]], [[False, False, True, False]])
    assert token_maps.overlap(one, one).jaccard == 1
    assert "1 of 4 patches reach the end of the latter only, most in frame 0 (1)" in token_maps.flip(one, other).text()
    with pytest.raises(ValueError, match="nothing to lay over each other"):
        token_maps.overlap(one, drawn([[0, 1, 2, 3]] * 2, [True] * 4))


def test_names_leave_out_what_trials_of_one_method_share() -> None:
    assert token_maps.distinct(["fastv layer=2 keep_ratio=0.4", "fastv layer=3 keep_ratio=0.4"]) == [
        "fastv layer=2",
        "fastv layer=3",
    ]
    other = ["fastv layer=2 keep_ratio=0.4", "random keep_ratio=0.4"]
    assert token_maps.distinct(other) == other


def test_colours_say_what_the_masks_say() -> None:
    found = drawn([[0, 1, 1, DROPPED]], [True, False])
    merged = token_pictures.merged_overlay(found, 0)
    assert merged[:, 3].tolist() == pytest.approx([0, 1, 1, 1 - token_pictures.DIM])
    assert merged[1:3, :3] == pytest.approx(120 / 255), "the mean colour of the token's patches"
    assert token_pictures.kept_overlay(found, 0)[:, 3].tolist() == pytest.approx([0, *[1 - token_pictures.DIM] * 3])


def test_pictures_and_movies_are_written(tmp_path: Path) -> None:
    import av
    from PIL import Image

    odd = drawn([[0, 1, 2, 3]] * 3, [True, True, False, False], question="costs $5 or $6_^{?", trial="$x$ <b>", segments=(1, 2))
    token_pictures.trace_figure(odd).savefig(tmp_path / "stages.png")
    token_pictures.overlap_figure(odd, odd).savefig(tmp_path / "overlap.png")
    assert Image.open(tmp_path / "stages.png").size[0] > 300
    for name in ("movie.gif", "movie.mp4"):
        token_pictures.write_movie([odd, odd], tmp_path / name)
    assert Image.open(tmp_path / "movie.gif").n_frames == 3
    with av.open(str(tmp_path / "movie.mp4")) as movie:
        assert len(list(movie.decode(video=0))) == 3
    with pytest.raises(ValueError, match="a .gif or an .mp4, got movie.avi"):
        token_pictures.write_movie([odd], tmp_path / "movie.avi")


def test_rows_are_those_that_mean_something() -> None:
    def rows(*given, **changes) -> list[str]:
        return [strip.title.split(":")[0].split("\n")[0] for strip in token_pictures.strips(drawn(*given, **changes))]

    assert rows([[0, 1, 2, 3]], [True] * 4) == ["frames"]
    assert rows([[0, 1, DROPPED, DROPPED]], [True] * 2) == ["frames", "enter the LLM"]
    assert rows([[0, 1, 1, 0]], [True] * 2) == ["frames", "merged"]
    looked = rows([[0, 1, 2, 3]], [True] * 4, attention=np.ones(4))
    assert looked == ["frames", "attention of"]


def test_tokens_without_places_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="the 32 tokens per frame of st_llm are no square grid"):
        token_maps.square(32, "st_llm")


def test_the_command_draws_flips_of_a_sweep(
    checkpoint: Path, benchmark_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    GlobalHydra.instance().clear()
    monkeypatch.chdir(tmp_path)
    settings = [f"model.checkpoint={checkpoint}", "benchmark=jsonl", f"benchmark.path={benchmark_folder}", "model.frames=4"]
    quiet = ["trainer.progress=false", "logger=none", "hydra.sweep.dir=sweep", "reducer=none,prunevid"]
    monkeypatch.setattr(sys, "argv", ["prunesweep", "-m", *settings, *quiet])
    sweep_command.main()
    capfd.readouterr()

    def tokens(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["prunesweep", "tokens", *arguments])
        app.main()
        return capfd.readouterr().out

    out = tokens("sweep/1")
    assert "#1 against #0: " in out
    sample = "q with/slash" if "lost: " not in out else out.split("lost: ")[1].split(",")[0].split("\n")[0]
    assert (tmp_path / f"sweep/tokens/1/{sample}_overlap.png").stat().st_size > 10_000
    assert f"{sample}_stages.png" in tokens("sweep/1", "--sample", sample, "--out", "elsewhere")
    for arguments, said in (
        (("sweep/1", "--sample", "nothing"), "unknown sample 'nothing'; known: "),
        (("sweep",), "sweep is a sweep; name one of its trials, such as sweep/0"),
    ):
        with pytest.raises(SystemExit, match=said):
            tokens(*arguments, *(() if "--sample" in arguments else ("--sample", "x")))

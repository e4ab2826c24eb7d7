"""What a sweep says before it starts and while it runs."""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from prunesweep.cli import app
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer, fastv, prunevid, random
from prunesweep.report import progress
from prunesweep.results.pending import Note, noted, read_pending
from prunesweep.results.store import Store
from prunesweep.sweep import ahead
from prunesweep.sweep.ahead import Blueprint, Size, Speed, bytes_text, duration_text, stages_ahead
from prunesweep.sweep.evaluate import evaluate
from prunesweep.sweep.work import Addresses, left_to_do
from prunesweep.types import Prefix, Sample

FRAMES = 4
WORDS, FREE = Protocol("words", "choose"), Protocol("words", "generate", most_tokens=3)
PRUNEVID = Reducer("prunevid", prunevid.Merge(cluster_ratio=0.5), prunevid.Prune(layer=3, keep_ratio=0.4))
TRIALS = (
    Candidate("none", Reducer("none"), FRAMES, WORDS),
    Candidate("free", Reducer("none"), FRAMES, FREE),
    Candidate("more frames", Reducer("none"), FRAMES + 1, WORDS),
    Candidate(
        "prunevid", Reducer("prunevid", prunevid.Merge(cluster_ratio=0.5), prunevid.Prune(layer=3, keep_ratio=0.4)), FRAMES, WORDS
    ),
    Candidate("fastv", Reducer("fastv", prune=fastv.Prune(layer=2, keep_ratio=0.5)), FRAMES, WORDS),
    Candidate("random", Reducer("random", random.Drop(keep_ratio=0.5)), FRAMES, WORDS),
)


def addressed(trials: Sequence[Candidate], samples: Sequence[Sample]) -> Addresses:
    return Addresses({trial.name: trial.name for trial in trials}, {sample.id: sample.id for sample in samples})


@pytest.mark.parametrize("share", [True, False])
def test_the_stages_said_beforehand_are_those_that_run(model, samples, tmp_path: Path, share: bool) -> None:
    asked = samples[:4]
    addresses = addressed(TRIALS, asked)
    work = left_to_do(Store.open(tmp_path / "store"), asked, addresses)
    said = stages_ahead(TRIALS, work, addresses, Blueprint(model.layers), share)
    clock = Clock()
    for video in work.videos:
        jobs = [Job((t.name, s.id), plan(s, t.frames, t.reducer, t.protocol, model)) for t in TRIALS for s in video]
        evaluate_jobs(model, jobs, clock, share)
    assert not said.estimated
    assert (said.shared, said.alone) == (clock.run, clock.alone)
    assert said.kinds == {name: number for name, (number, _) in clock.kinds.items()}


def test_records_that_are_there_are_no_stages_ahead(model, samples, tmp_path: Path) -> None:
    asked = samples[:4]
    addresses = addressed(TRIALS, asked)
    store = Store.open(tmp_path / "store")
    evaluate(lambda: model, asked, TRIALS[:2], progress=False, store=store, addresses=addressed(TRIALS[:2], asked))
    work = left_to_do(store, asked, addresses)
    both = stages_ahead(TRIALS[:3], work, addresses, Blueprint(model.layers))
    fresh = left_to_do(Store.open(tmp_path / "empty"), asked, addresses)
    alone = stages_ahead(TRIALS[2:3], fresh, addresses, Blueprint(model.layers))
    assert both == alone


def test_many_videos_are_estimated_from_a_few(samples, tmp_path: Path) -> None:
    asked = [replace(samples[0], id=str(i), video_id=str(i), path=Path(f"{i}.mp4")) for i in range(100)]
    addresses = addressed(TRIALS, asked)
    work = left_to_do(Store.open(tmp_path / "store"), asked, addresses)
    said = stages_ahead(TRIALS, work, addresses, Blueprint(8))
    one = stages_ahead(TRIALS, replace(work, videos=work.videos[:1]), addresses, Blueprint(8))
    assert said.estimated
    assert said.shared == 100 * one.shared


def test_a_question_that_cannot_be_asked_is_no_stage(samples, tmp_path: Path) -> None:
    asked = [replace(samples[0], problem="no such video")]
    addresses = addressed(TRIALS, asked)
    work = left_to_do(Store.open(tmp_path / "store"), asked, addresses)
    assert stages_ahead(TRIALS, work, addresses, Blueprint(8)).alone == 0


def test_time_is_said_only_of_what_was_timed() -> None:
    speed, run = Speed({"Decode": (10, 5.0), "Layers": (100, 2.0)}, Size(8, 300)), Size(8, 300)
    assert speed.seconds({"Decode": 4, "Layers": 50}, run) == pytest.approx(4 * 0.5 + 50 * 0.02)
    assert speed.seconds({"Decode": 4, "Generate": 1}, run) is None
    assert speed.seconds({"Decode": 4, "Generate": 0}, run) == pytest.approx(2.0)
    assert speed.seconds({}, run) == 0
    assert speed.seconds({"Decode": 4}, Size(16, 900)) == pytest.approx(2.0)
    assert speed.seconds({"Decode": 4}, Size(5000, 300)) is None  # other sizes take other times
    assert speed.seconds({"Decode": 4}, Size(8, 100_000)) is None


def test_speeds_are_kept_by_place_and_damage_costs_nothing(tmp_path: Path) -> None:
    ahead.note_speed(tmp_path, "here", {"Decode": (2, 1.0), "Layers": (0, 0.0)}, Size(4, 200))
    ahead.note_speed(tmp_path, "there", {"Decode": (2, 3.0)}, Size(4, 200))
    ahead.note_speed(tmp_path, "here", {"Encode": (1, 4.0)}, Size(4, 200))
    assert ahead.read_speed(tmp_path, "here").taken == {"Decode": (2, 1.0), "Encode": (1, 4.0)}
    assert ahead.read_speed(tmp_path, "there").taken == {"Decode": (2, 3.0)}
    for damaged in (
        "{",
        "[]",
        '{"here": 3}',
        '{"here": {"Decode": [1, 2.0]}}',
        '{"here": {"stages": {"Decode": "x"}, "largest": [1, 2]}}',
    ):
        (tmp_path / ahead.SPEED).write_text(damaged)
        assert ahead.read_speed(tmp_path, "here").taken == {}
        ahead.note_speed(tmp_path, "here", {"Decode": (2, 1.0)}, Size(4, 200))
        assert ahead.read_speed(tmp_path, "here").taken == {"Decode": (2, 1.0)}


def test_sizes_and_durations_read_well() -> None:
    assert [bytes_text(n) for n in (999, 4_160_000, 14_300_000_000)] == ["999 bytes", "4.16 MB", "14.3 GB"]
    assert [duration_text(s) for s in (0.2, 40, 725, 12_000, 187_200)] == ["1 s", "40 s", "12 min", "3 h 20 min", "2 d 4 h"]


def test_the_caches_of_a_video_stay_within_what_is_said(
    model, samples, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The distinct cache tensors of all states that are alive at once, the visual part of each."""
    most = 0.0
    gc.collect()
    gc.freeze()  # what is there is left out from now on, so that a look takes no seconds
    request.addfinalizer(gc.unfreeze)

    def watched(self: Clock, *_: object) -> None:
        nonlocal most
        alive = [one for one in gc.get_objects() if isinstance(one, Prefix)]
        parts = {t.data_ptr(): t.nbytes * float(one.visual.float().mean()) for one in alive for pair in one.kv for t in pair}
        most = max(most, sum(parts.values()))

    monkeypatch.setattr(Clock, "book", watched)
    jobs = [Job((t.name, s.id), plan(s, t.frames, t.reducer, t.protocol, model)) for t in TRIALS for s in samples[:2]]
    evaluate_jobs(model, jobs, Clock())
    shape = model.shape
    sizes = {"llm": {"layers": shape.layers, "kv_heads": shape.kv_heads, "head_size": shape.head_size}}
    per_frame = 36
    said = ahead.cache_bytes({"sizes": sizes, "tokens_per_frame": per_frame, "dtype": "float32"}, Size(FRAMES + 1, 0))
    assert said is not None
    assert said / 8 < most < said


COMMAND = """
import atexit, sys
from prunesweep.cli import run
from prunesweep.sweep import ahead
heavy = ("torch", "transformers", "lightning", "wandb", "matplotlib", "optuna")
atexit.register(lambda: print("imported", [name for name in heavy if name in sys.modules], file=sys.stderr))
lines = ahead.Forecast.lines
def said(self):
    print(*lines(self), sep="\\n", file=sys.stderr)
    raise SystemExit
ahead.Forecast.lines = said
run.main()
"""


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", COMMAND, *arguments, "benchmark.limit=20", "logger=none", "trainer.accelerator=cpu"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_sweep_says_what_it_will_do_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    done = started(tmp_path, "-m", "reducer=none,prunevid,fastv", "hydra.sweep.dir=sweep")
    lines = done.stderr.splitlines()
    assert lines[0] == "plan        3 trials x 20 questions on 4 videos: 0 records are kept in store, 60 to make"
    assert "stages after sharing" in lines[1]
    assert lines[-2] == "            results go to sweep, every record in store as it is made"
    assert lines[-1] == "imported []"


@pytest.mark.parametrize(
    "bad",
    [
        "race.rounds=abc",
        "race.alpha=5",
        "race.alpha=abc",
        "+race.rouns=3",
        "reducer.prune.keep_ratio=1.4",
        "reducer.merge.static_threshold=x",
        "reducer.prune.layer=8",
        "video.frames=0",
        "protocol.style=rhyme",
    ],
)
def test_bad_values_are_refused_before_anything_heavy_is_imported(bad: str, tmp_path: Path) -> None:
    done = started(tmp_path, bad)
    assert done.returncode == 1
    assert bad.partition("=")[0].rpartition(".")[2] in done.stderr
    assert "plan  " not in done.stderr
    assert done.stderr.splitlines()[-1] == "imported []"


def test_a_second_run_knows_what_is_there_and_how_long_it_takes(run, tmp_path: Path) -> None:
    _, _, first = run("reducer=none", "benchmark.limit=4")
    _, _, again = run("reducer=none", "benchmark.limit=4")
    _, _, more = run("reducer=none", "benchmark.limit=6")
    assert "0 records are kept in store, 4 to make" in first
    assert "4 records are kept in store, 0 to make" in again
    assert "stages" not in again
    assert "4 records are kept in store, 2 to make" in more


# While it runs


def note(folder: Path, **changes) -> None:
    own = psutil.Process()
    values = {"trials": {"a": "k"}, "samples": ["s"], "store": "gone", "host": platform.node(), "process": own.pid}
    values |= {"began": own.create_time(), **changes}
    (folder / f"pending-{len(list(folder.iterdir()))}.json").write_text(json.dumps(values))


def test_a_running_evaluation_can_be_read(model, samples, tmp_path: Path, capsys, monkeypatch) -> None:
    asked, trials = samples[:4], TRIALS[:2]
    store = Store.open(tmp_path / "store")
    addresses = addressed(trials, asked)
    sweep = tmp_path / "sweep"
    with noted(sweep, dict(addresses.trials), [s.id for s in asked], store.folder):
        evaluate(lambda: model, asked, trials[:1], progress=False, store=store, addresses=addressed(trials[:1], asked))
        monkeypatch.setattr(sys, "argv", ["prunesweep", "show", str(sweep)])
        app.main()
        said = capsys.readouterr().out.splitlines()
        assert said[0] == "4 of 8 records, running"
        assert said[3].split()[:4] == ["none", "4", "of", "4"]
        assert len(said) == 4
    assert read_pending(sweep) == []


def test_an_interrupted_evaluation_stays_readable_until_the_next_run(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    with pytest.raises(KeyboardInterrupt), noted(tmp_path / "sweep", {"a": "k"}, ["s", "t"], store.folder):
        raise KeyboardInterrupt
    (left,) = read_pending(tmp_path / "sweep")
    stopped = replace(left, process=2**22 + 5)
    assert progress.lines(stopped) == ["0 of 2 records, not running: the same command goes on from there"]


def test_a_process_number_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    own = psutil.Process()
    mine = Note(host=platform.node(), process=os.getpid(), began=own.create_time())
    assert mine.running
    assert not replace(mine, began=own.create_time() - 1000).running
    assert not replace(mine, host="elsewhere").running
    child = subprocess.Popen([sys.executable, "-c", ""])
    dead = replace(mine, process=child.pid, began=psutil.Process(child.pid).create_time())
    while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert not dead.running  # ended, and its parent has not looked
    child.wait()
    assert not dead.running


def test_notes_of_dead_processes_go_with_the_next_run_and_others_stay(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    folder = tmp_path / "sweep"
    folder.mkdir()
    note(folder, process=2**22 + 5)
    note(folder, host="elsewhere")
    (folder / "pending-x.json").write_text("{")
    with noted(folder, {"a": "k"}, ["s"], store.folder):
        assert sorted(one.host for one in read_pending(folder)) == sorted(["elsewhere", platform.node()])
    assert [one.host for one in read_pending(folder)] == ["elsewhere"]


def test_a_store_that_is_gone_is_one_line(tmp_path: Path, monkeypatch) -> None:
    note(tmp_path)
    monkeypatch.setattr(sys, "argv", ["prunesweep", "show", str(tmp_path)])
    with pytest.raises(SystemExit, match="gone is no store"):
        app.main()


def test_a_log_gets_a_line_every_few_percent(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunesweep.sweep.evaluate.LOG_SECONDS", 0.0)
    _, _, err = run("reducer=none", "trainer.progress=true")
    lines = [line for line in err.splitlines() if line.startswith("evaluated ")]
    assert 1 < len(lines) <= 20
    assert "\r" not in err
    assert " (100 %) in " in lines[-1]

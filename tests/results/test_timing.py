"""The line "time": what takes time has a name, and the parts sum to the whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from prunesweep.report.text import SHARES, time_line
from prunesweep.results.timing import TIMING, Timing, add_timing, own_timing, read_timing
from prunesweep.sweep.evaluate import _timing
from support.places import ROOT

SPACE = "+hydra.sweeper.space={reducer.prune.layer: 'choice(2,4)'}"
RUNS = {
    "a run": ([], {"load", "plan", "prompts", "LLM", "store"}),
    "a multirun": (["-m", "reducer.prune.layer=2,4"], {"start", "compose", "plan", "load", "prompts", "LLM", "store", "records"}),
    "a matched one": (["-m", "reducer=random", "reducer.match={flops: 0.3}"], {"match", "LLM"}),
    "a race": (["-m", "reducer=none,prunevid", "race.rounds=2"], {"race", "load", "LLM"}),
    "a measured one": (["-m", "reducer=none", "engine.measure=true"], {"measure", "LLM"}),
    "a search": (
        ["-m", "hydra/sweeper=search", "+sampler=random", "hydra.sweeper.trials=2", SPACE],
        {"search", "compose", "plan", "LLM"},
    ),
}


def parts(out: str) -> tuple[float, dict[str, float]]:
    """The whole and its parts, as printed."""
    line = next(line for line in out.splitlines() if line.startswith("time  "))
    whole, _, rest = line.removeprefix("time").strip().partition(" s: ")
    named = (part.rsplit(" ", 2) for part in rest.partition(";")[0].split(", "))
    return float(whole), {name: float(seconds) for name, seconds, _ in named}


@pytest.mark.parametrize("kind", RUNS)
def test_the_parts_are_named_and_sum_to_the_whole(run, kind: str, tmp_path: Path) -> None:
    given, named = RUNS[kind]
    code, out, err = run(*given, "hydra.sweep.dir=sweep", "benchmark.limit=10")
    assert code == 0, err
    whole, found = parts(out)
    hidden = 0.05 * (len(SHARES) + 1)  # what is below a twentieth of a second is not shown, the rest rounded to a tenth
    assert sum(found.values()) == pytest.approx(whole, abs=hidden)
    assert set(found) <= {*SHARES, "other"}
    if "-m" in given:
        noted = [entry["seconds"] for entry in read_timing(tmp_path / "sweep")]
        assert named <= {name for seconds in noted for name in seconds}
        assert all(value > -0.01 for seconds in noted for value in seconds.values())


def test_what_was_spent_besides_is_part_of_the_whole() -> None:
    timing = Timing({"LLM": 2.0}, 3.0, 1, 1).besides("load", 4.0).besides("load", 1.0)
    assert (timing.seconds, timing.total) == ({"LLM": 2.0, "load": 5.0}, 8.0)


def test_processes_start_and_wait_for_the_last_one() -> None:
    clocks = [
        {"seconds": {"LLM": 2.0}, "run": 1, "alone": 2, "made": 3, "began": 10.0, "ended": 13.0},
        {"seconds": {"LLM": 4.0}, "run": 1, "alone": 2, "made": 3, "began": 11.0, "ended": 16.0},
    ]
    timing = _timing(clocks, 8.0, 0)
    assert timing.evaluating == 6.0
    assert timing.seconds == {"LLM": 3.0, "waiting": 2.0, "processes": 2.0}
    assert _timing([], 8.0, 5) == Timing({}, 8.0, 0, 0, 0, 5)


def test_seconds_of_other_workers_of_a_study_are_not_this_ones(tmp_path: Path) -> None:
    add_timing(tmp_path, [Timing({"LLM": 1.0}, 1.0, 1, 1)], 1.0, {})
    theirs = read_timing(tmp_path)[0]
    with (tmp_path / TIMING).open("a") as file:
        file.write(json.dumps({**theirs, "by": "elsewhere-1"}) + "\n")
    assert len(read_timing(tmp_path)) == 3
    assert time_line(own_timing(tmp_path), 2.0) == "time        2.0 s: LLM 1.0 s, other 1.0 s"


def test_every_part_is_explained() -> None:
    page = (ROOT / "docs" / "speed.md").read_text()
    table = page[page.index("| part | is |") :]
    assert set(re.findall(r"`(\w+)`", table.partition("\n\n")[0])) >= set(SHARES)

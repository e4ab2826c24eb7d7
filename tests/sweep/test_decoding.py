"""`trainer.decoders`: how many there are, what it refuses, and that records do not know of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.engine import devices
from prunesweep.engine.devices import decoders_for


@pytest.mark.parametrize(
    ("cores", "ranks", "decoders"), [(1, 1, 0), (2, 1, 1), (4, 1, 3), (5, 1, 4), (64, 1, 4), (16, 8, 1), (8, 8, 0), (4, 8, 0)]
)
def test_auto_takes_a_devices_share_of_the_cores_but_one_and_four_at_most(cores: int, ranks: int, decoders: int) -> None:
    assert decoders_for("auto", ranks, cores) == decoders
    assert decoders_for(7, ranks, cores) == 7


def test_auto_counts_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: {0, 3, 4})
    assert decoders_for("auto", 1) == 2


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("many", "trainer.decoders must be auto or a whole number, got 'many'"),
        ("-1", "trainer.decoders must be at least 0, got -1"),
        ("1.5", "trainer.decoders must be a whole number, got 1.5"),
        ("true", "trainer.decoders must be a whole number, got True"),
    ],
)
def test_what_is_no_number_of_decoders_is_refused(value: str, said: str, run) -> None:
    code, out, err = run(f"trainer.decoders={value}")
    assert code != 0
    assert said in f"{code} {out} {err}"


def test_another_number_of_decoders_finds_the_same_records(run, tmp_path: Path) -> None:
    stored = []
    for decoders in ("0", "2", "auto"):
        code, _, err = run("reducer=none", f"trainer.decoders={decoders}")
        assert code == 0, err
        stored.append({path: path.stat().st_mtime_ns for path in (tmp_path / "store").rglob("*.parquet")})
    assert len(stored[0]) > 0
    assert stored[0] == stored[1] == stored[2], "nothing was evaluated again"

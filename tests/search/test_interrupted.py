"""A search that is told to stop in the middle of anything goes on as if it had not been."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from prunesweep.disk.locks import uninterrupted
from prunesweep.search.study import open_storage
from support.searches import make_task, plan, search

TRIALS = 4
PARTS = 10
WATCHED = ("optuna", "prunesweep/search", "prunesweep/disk/locks")


def stop(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def told_to_stop() -> Iterator[None]:
    """SIGTERM is what it is to the command."""
    before = signal.signal(signal.SIGTERM, stop)
    yield
    signal.signal(signal.SIGTERM, before)


@contextmanager
def stopped_at(place: int) -> Iterator[list[int]]:
    """SIGTERM arrives with this call of a function of Optuna's or of the search's own; counts them."""
    calls = [0]

    def count(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and any(part in frame.f_code.co_filename for part in WATCHED):
            calls[0] += 1
            if calls[0] == place:
                signal.raise_signal(signal.SIGTERM)

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def study_in(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="prunesweep", storage=open_storage(None, folder))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, list[dict[str, Any]]]:
    """A task, how many calls a search of it has, and what it proposes."""
    folder = tmp_path_factory.mktemp("unbroken")
    task = make_task(folder / "task")
    with stopped_at(-1) as calls:
        trials, _ = search(task, folder / "s", plan(TRIALS))
    return task, calls[0], [trial.params for trial in trials]


@pytest.mark.parametrize("part", range(PARTS))
def test_whenever_a_search_is_told_to_stop_it_goes_on_as_if_it_had_not_been(
    part: int, unbroken: tuple[Path, int, list[dict[str, Any]]], tmp_path: Path, told_to_stop: None
) -> None:
    task, calls, proposed = unbroken
    with suppress(KeyboardInterrupt), stopped_at(1 + calls * part // PARTS + 7 * part):
        search(task, tmp_path / "s", plan(TRIALS))
    if (tmp_path / "s" / "study.journal").exists():
        with suppress(KeyError):  # told before there was a study
            study = study_in(tmp_path / "s")
            assert not study.get_trials(states=(TrialState.RUNNING,))
            begun = [trial.params for trial in study.trials]
            assert begun == proposed[: len(begun)], "none is half a proposal"
    trials, _ = search(task, tmp_path / "s", plan(TRIALS))
    assert [trial.params for trial in trials] == proposed
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


def test_an_interruption_waits_for_what_must_not_be_halved(told_to_stop: None) -> None:
    done = []

    def told_in_the_middle() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            done.append("the rest")

    with pytest.raises(KeyboardInterrupt):
        told_in_the_middle()
    assert done == ["the rest"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)

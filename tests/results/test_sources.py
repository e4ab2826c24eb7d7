"""Finished trials of a sweep's folder and of a store are the same trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.analysis.outcomes import collect, read_outcomes
from prunesweep.results.read import read_source, reread, with_names
from prunesweep.results.store import Store
from support.records import drawn, made, store_of


@pytest.mark.parametrize("commit", [True, False])
def test_a_store_gives_the_outcomes_of_its_trials(tmp_path: Path, commit: bool) -> None:
    trials = drawn()
    (found,) = read_outcomes(store_of(tmp_path, trials, commit).folder)
    (expected,) = collect(trials)
    rows = {row.llm_flops_ratio: row.accuracy for row in expected.table}
    assert {row.llm_flops_ratio: row.accuracy for row in found.table} == rows
    assert len(set(found.names)) == len(trials)
    assert "none" in found.names
    again = reread(found.folders[0], ("sample_id", "correct"))
    assert again["correct"].mean() == found.table[0].accuracy


def test_trials_of_a_store_are_called_by_what_varies() -> None:
    infos = [one.info for one in drawn()]
    assert {info.name for info in with_names(infos)} == {info.name for info in infos}
    twice = with_names([infos[1], infos[1]])
    assert len({info.name for info in twice}) == 1  # equal keys, equal names: one trial


def test_what_is_no_sweep_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist; name the folder of a sweep"):
        list(read_source(tmp_path / "none"))
    assert list(read_source(tmp_path)) == []
    empty = Store.open(tmp_path / "store")
    with pytest.raises(ValueError, match="holds no finished trial"):
        read_outcomes(empty.folder)
    (empty.folder / "store.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="has store format 99"):
        read_outcomes(empty.folder)
    store_of(tmp_path / "other", [made("none", "+-")], commit=False)

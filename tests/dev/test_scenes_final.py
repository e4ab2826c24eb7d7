"""The final split of `scenes` beside the test split: what a page says is read back, and what changed is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunesweep.dev.scenes_final import agreement, page_of, said_by
from prunesweep.dev.scenes_results import DEFAULT, DENSE, PAGE, Said
from prunesweep.results.records import write_trial
from support.places import ROOT
from support.records import made


def test_all_tables_of_the_page_are_read() -> None:
    said = said_by((ROOT / "docs" / PAGE).read_text(encoding="utf-8"))
    assert set(said) == {"points from the defaults", "points from dense", "points, whole minus cut", "points from PruneVid"}
    assert all(len(rows) > 5 for rows in said.values())
    assert DEFAULT not in said["points from the defaults"]
    worse = said["points from the defaults"]["prunevid static_threshold=0.6"]
    assert worse.significant
    assert not worse.better


def test_only_what_is_significant_on_both_in_one_direction_holds() -> None:
    before = {"a": Said("+5.0 ± 1.0", "p < 1e-12"), "b": Said("-5.0 ± 1.0", "p = 0.01"), "c": Said("+0.1 ± 1.0", "p = 0.9")}
    before["d"] = Said("-2.0 ± 1.0", "p = 0.04")
    now = {"a": Said("+4.0 ± 1.0", "p = 0.001"), "b": Said("+5.0 ± 1.0", "p = 0.01"), "c": Said("+4.0 ± 1.0", "p = 0.002")}
    now["d"] = Said("-1.0 ± 1.0", "p = 0.3")
    told = agreement(before, now)
    assert "Of 3 differences" in told
    assert "1 are so here, in the same direction, and 1 in the other" in told
    assert "Of the other 1, 1 is significant here only" in told
    assert "Of the other" not in agreement({"a": before["a"]}, now)


def test_a_page_of_no_sweeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds none of the sweeps settings, caches, matched"):
        list(page_of(tmp_path, ""))


def test_a_page_says_which_sweeps_are_missing_and_compares_the_others(tmp_path: Path) -> None:
    right, wrong = "+" * 30 + "-" * 10, "-" * 30 + "+" * 10
    for number, (name, answers) in enumerate({DENSE: right, DEFAULT: wrong}.items()):
        trial = made(name, answers)
        write_trial(tmp_path / "settings" / str(number), trial.info, trial.records)
    head = "| trial | points from the defaults | p |\n| --- | --- | --- |\n"
    page = "\n".join(page_of(tmp_path, f"{head}| {DENSE} | +8.7 ± 1.1 | p = 2e-05 |\n"))
    assert "Not run on this split yet: caches, matched." in page
    assert "Of 1 differences that are significant on the test split (corrected p below 0.05), 1 are so here" in page
    assert f"| {DENSE} | 0.750 ± " in page
    assert "| +8.7 ± 1.1 | p = 2e-05 | +50.0 ± " in page

"""The short table of `scenes` in docs/methods.md is that of its own page."""

from pathlib import Path

import pytest

from prunesweep.dev.scenes_results import BEGIN, METHODS_PAGE, PAGE, short_table, write_short
from support.places import ROOT

DOCS = ROOT / "docs"
PAGE_OF_THREE = """## All methods at the published operating point

Reference: prunevid positions=original match={flops:0.23} with 0.8 ± 0.1 (n=9) at 0.233x. Costs are shown.

| trial | accuracy | LLM prefill | tokens in | points from PruneVid | p |
| --- | --- | --- | --- | --- | --- |
| evs positions=original | 0.9 ± 0.1 (n=9) | 0.230x | 0.4x | +10.0 ± 1.0 | p = 0.5 |
| prunevid positions=renumbered | 0.75 ± 0.1 (n=9) | 0.233x | 0.4x | -5.0 ± 1.0 | p = 1 |
| evs positions=renumbered | 0.7 ± 0.1 (n=9) | 0.230x | 0.4x | -10.0 ± 1.0 | p = 0.4 |
"""


def test_each_method_has_its_better_setting_beside_the_reference() -> None:
    *_, first, second = short_table(PAGE_OF_THREE).splitlines()
    assert first == "| evs | 0.9 ± 0.1 (n=9) | 0.230x | +10.0 ± 1.0 | p = 0.5 |"
    assert second.startswith("| prunevid | 0.8 ± 0.1 (n=9) | 0.233x | the reference |")


def test_the_page_of_methods_has_the_table_of_scenes() -> None:
    table = short_table((DOCS / PAGE).read_text(encoding="utf-8"))
    assert f"{BEGIN}\n{table}\n" in (DOCS / METHODS_PAGE).read_text(encoding="utf-8")


def test_the_table_takes_the_marked_place_and_no_other(tmp_path: Path) -> None:
    (tmp_path / PAGE).write_text(PAGE_OF_THREE, encoding="utf-8")
    (tmp_path / METHODS_PAGE).write_text("before\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no place"):
        write_short(tmp_path)
    (tmp_path / METHODS_PAGE).write_text(f"before\n{BEGIN}old\n<!-- scenes: end -->\nafter\n", encoding="utf-8")
    twice = [write_short(tmp_path).read_text(encoding="utf-8") for _ in range(2)]
    assert twice[0] == twice[1]
    assert twice[0].startswith("before\n")
    assert twice[0].endswith("after\n")
    assert "old" not in twice[0]

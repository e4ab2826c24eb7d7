"""Answers that name no option, or several: every view says how many, and no trial is called like another that says nothing."""

from __future__ import annotations

import math
from pathlib import Path

import polars as pl
import pytest

from prunesweep.analysis import significance
from prunesweep.analysis.outcomes import Outcomes, collect, read_outcomes
from prunesweep.analysis.summary import says_enough
from prunesweep.analysis.table import summarize, table_frame
from prunesweep.cli import app
from prunesweep.report import overview
from prunesweep.report import tables as paper
from prunesweep.report import text as tables
from prunesweep.report.html import report_data
from prunesweep.report.verdict import headline, text, verdict
from prunesweep.report.wandb import sweep_content, trial_content
from prunesweep.results.records import Trial, read_trial, write_trial
from prunesweep.results.store import Store, row_schema
from support.records import made

QUESTIONS = 40


def generated(name: str, answers: str, none: int = 0, several: int = 0, visual: tuple[int, int] = (8, 8)) -> Trial:
    """A trial whose first answers name no option, and the next ones several; both are wrong."""
    whole = "-" * (none + several) + answers[none + several :]
    trial = made(name, whole, visual=visual)
    named = pl.Series([0] * none + [2] * several + [1] * (len(whole) - none - several))
    chosen = pl.when(pl.col("named") == 1).then(0).cast(pl.Int64)
    frame = trial.records.with_columns(named=named, generated_tokens=pl.lit(1)).with_columns(chosen=chosen)
    return trial._replace(records=frame)


GOOD = "+-" * (QUESTIONS // 2)


def swept(*trials: Trial) -> Outcomes:
    (found,) = collect(trials)
    return found


def test_the_shares_are_of_generated_answers() -> None:
    row = summarize(generated("none", GOOD, 4, 2))
    assert (row.unclear, row.ambiguous) == (0.1, 0.05)
    scored = summarize(made("none", GOOD))
    assert math.isnan(scored.unclear)
    assert math.isnan(scored.ambiguous)
    assert says_enough(scored)


def test_every_view_says_how_many_answers_name_no_option_and_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    trials = [generated("none", GOOD, 1), generated("prunevid layer=2", GOOD, 4, 2, (4, 2))]
    found = swept(*trials)
    for number, trial in enumerate(trials):
        write_trial(tmp_path / str(number), trial.info, trial.records)
    single = tables.single(summarize(trials[1]), trials[1])
    assert "answers     10.0 % of the generated ones name no option, 5.0 % several" in single
    shown = overview.sweep(found.table, "llm_flops_ratio").splitlines()
    assert shown[0].endswith("no option  several")
    assert any(" prunevid " in line and line.endswith("10.0 %    5.0 %") for line in shown)
    assert table_frame(found.table)["unclear"].to_list() == [0.025, 0.1]
    said = text(verdict(found, with_importance=False))
    assert "answers     10.0 % of the generated ones name no option, 5.0 % several in prunevid layer=2, the most of all" in said
    against = paper.against_table(found)
    assert against.header[-2:] == ("no option", "several")
    assert sorted(row[-2:] for row in against.rows) == [("10.0 %", "5.0 %"), ("2.5 %", "0.0 %")]
    (group,) = report_data([found], tmp_path)["groups"]
    assert [(t["unclear"], t["ambiguous"]) for t in group["trials"]] == [(0.025, 0), (0.1, 0.05)]
    assert "name no option" in dict(group["words"])["answers"]
    metrics = trial_content(trials[1], found.table[1]).metrics
    assert (metrics["unclear"], metrics["ambiguous"]) == (0.1, 0.05)
    summed = sweep_content([found], {}, None)
    assert (summed.metrics["most_unclear"], summed.metrics["most_ambiguous"]) == (0.1, 0.05)
    assert "name no option" in summed.notes
    monkeypatch.setattr("sys.argv", ["prunesweep", "compare", str(tmp_path / "1"), str(tmp_path / "0")])
    app.main()
    assert "layer=2 on blocks, tiny; 10.0 % of the generated ones name no option, 5.0 % several" in capsys.readouterr().out


def test_where_options_are_scored_no_view_speaks_of_it() -> None:
    found = swept(made("none", GOOD), made("prunevid", GOOD, visual=(4, 2)))
    assert "no option" not in overview.sweep(found.table, "llm_flops_ratio")
    assert "no option" not in text(verdict(found, with_importance=False))
    assert "no option" not in paper.against_table(found).header


def test_trials_that_say_nothing_are_like_no_other() -> None:
    """Both only say "!!!!": no answer differs, and nothing is known."""
    silent = swept(generated("none", GOOD, QUESTIONS), generated("prunevid", GOOD, QUESTIONS, visual=(4, 2)))
    against = significance.against_dense(silent)
    assert against is not None
    assert (against.difference.mean[1], against.holm[1]) == (0, 1)
    assert (against.within_margin, against.worse, against.unclear) == ((), (), ())
    said = verdict(silent, with_importance=False)
    assert headline(said) == "Nothing can be compared with dense: 100.0 % of its answers name no option, or several."
    assert "in most answers of none, prunevid no one option is named: like no other trial" in text(said)
    budget = significance.under_budget(silent, 1.0)
    assert budget is not None
    assert budget.may_be_best == ()


def test_the_rule_holds_at_half_of_the_answers_and_for_either_trial() -> None:
    half = QUESTIONS // 2
    for none, several, alike in ((half, 0, True), (half + 1, 0, False), (half, 1, False), (0, half, True)):
        row = summarize(generated("none", GOOD, none, several))
        assert says_enough(row) is alike, (none, several)
    right = "-" * half + "-+" * (half // 2)  # wrong where the other says nothing, so that no answer differs
    talkative = made("none", "-" + right[1:])
    mute = generated("prunevid", right, half + 1, visual=(4, 2))
    for trials in ((talkative, mute), (generated("none", right, half + 1), made("prunevid", right, visual=(4, 2)))):
        against = significance.against_dense(swept(*trials))
        assert against is not None
        assert (against.within_margin, against.worse, against.unclear) == ((), (), ())
    against = significance.against_dense(swept(talkative, generated("prunevid", right, half, visual=(4, 2))))
    assert against is not None
    assert (against.within_margin, against.worse, against.unclear) == ((), (), (1,))


def test_records_of_before_say_what_they_know(tmp_path: Path) -> None:
    """Whether an option was named, not how many; the oldest do not even know that."""
    trial = generated("none", GOOD, 4, 2)
    old = trial.records.drop("named")
    write_trial(tmp_path / "sweep" / "0", trial.info, old)
    write_trial(tmp_path / "oldest" / "0", trial.info, old.drop("chosen"))
    (found,) = read_outcomes(tmp_path / "sweep")
    assert (found.table[0].unclear, found.table[0].ambiguous) == (0.15, 0.0)
    assert read_trial(tmp_path / "sweep" / "0").records["named"].to_list() == [0] * 6 + [1] * 34
    (found,) = read_outcomes(tmp_path / "oldest")
    assert math.isnan(found.table[0].unclear)
    store = Store.open(tmp_path / "store")
    rows = trial.records.with_columns(key=pl.lit("k"), sample_key=pl.col("sample_id"), at=pl.lit(0.0))
    store.add(rows.select([name for name in row_schema() if name != "named"]))
    assert sorted(store.records(["k"])["named"].to_list()) == [0] * 6 + [1] * 34

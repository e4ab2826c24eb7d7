"""Statistics of outcomes, against the same worked out record by record, by hand, or by simulation."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from prunesweep.analysis import ablation as effects
from prunesweep.analysis import resampling, significance
from prunesweep.analysis.accuracy import accuracy
from prunesweep.analysis.comparison import paired
from prunesweep.analysis.front import hypervolume, knee_point, on_front, pareto_front
from prunesweep.analysis.outcomes import collect, read_outcomes
from prunesweep.report import formats, tables
from prunesweep.report.verdict import headline, lines, text, verdict
from prunesweep.results.records import Trial, TrialInfo, write_trial
from support.records import drawn, grid_trials, made


def test_accuracies_of_a_matrix_equal_those_of_each_trials_records() -> None:
    trials = drawn()
    (found,) = collect(trials)
    for scores, trial in zip(significance.accuracies(found), trials, strict=True):
        expected = accuracy(trial.records)
        assert scores[2:4] == expected[2:4]
        assert scores == pytest.approx(expected)


def test_paired_tests_of_a_matrix_equal_those_of_each_pair_of_records() -> None:
    trials = drawn()
    (found,) = collect(trials)
    against = significance.paired_with(found, 0)
    for index, trial in enumerate(trials):
        expected = paired(trial.records, trials[0].records)
        values = [getattr(against, name)[index] for name in expected._fields]
        assert values == pytest.approx(list(expected), rel=1e-9)


def test_the_order_of_samples_and_missing_rows_change_nothing() -> None:
    trials = drawn()
    shuffled = [t._replace(records=t.records.sample(fraction=1, shuffle=True, seed=i)) for i, t in enumerate(trials)]
    (one,), (other,) = collect(trials), collect(shuffled)
    assert significance.accuracies(one) == significance.accuracies(other)
    np.testing.assert_array_equal(significance.paired_with(one, 0).p_value, significance.paired_with(other, 0).p_value)


def test_videos_without_an_answer_are_no_videos_of_any_number() -> None:
    """Two of six videos that no trial answers, and one that the second trial lacks."""
    videos = [*"aabbccdd", *"xxyy"]
    pairs = {"none": "++++-+++", "prunevid layer=2": "+-++--??"}
    more = [made(name, f"{answers}????", videos) for name, answers in pairs.items()]
    fewer = [made(name, answers, videos[:8]) for name, answers in pairs.items()]
    (found,), (expected,) = collect(more), collect(fewer)
    assert found.answered_videos == expected.answered_videos == expected.videos == 4
    said = text(verdict(found))
    assert "on 4 videos" in said
    assert "6 videos" not in said
    assert paired(more[1].records, more[0].records).videos == 3
    assert significance.paired_with(found, 0).videos.tolist() == [4, 3]
    np.testing.assert_array_equal(resampling.resampled(found, 50), resampling.resampled(expected, 50))
    assert resampling.paired_bootstrap(found, 1, 0, 50) == resampling.paired_bootstrap(expected, 1, 0, 50)
    (silent,) = collect([made("none", "??")])
    assert silent.answered_videos == 0
    assert np.isnan(resampling.resampled(silent, 5)).all()


def test_models_and_benchmarks_are_kept_apart() -> None:
    one, other = made("none", "+-"), made("none", "++")
    other = other._replace(info=TrialInfo(**{**vars(other.info), "benchmark": "else"}))
    assert [(o.benchmark, len(o.table)) for o in collect([one, other])] == [("blocks", 1), ("else", 1)]


def test_an_exact_interval_covers_what_the_binomial_says() -> None:
    assert significance.exact_interval(100, 100) == pytest.approx((0.025 ** (1 / 100), 1))
    assert significance.exact_interval(0, 100) == pytest.approx((0, 1 - 0.025 ** (1 / 100)))
    low, high = significance.exact_interval(8, 10)  # Clopper and Pearson's own table: 0.444 to 0.975
    assert (low, high) == pytest.approx((0.4439, 0.9748), abs=1e-4)


def test_benjamini_hochberg_and_holm_on_a_worked_example() -> None:
    p = [0.01, 0.04, math.nan, 0.03, 0.5]
    assert significance.benjamini_hochberg(p)[[0, 1, 3, 4]] == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert significance.holm(p)[[0, 1, 3, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert math.isnan(significance.holm(p)[2])


def test_clustered_intervals_cover_the_truth_where_questions_of_a_video_agree() -> None:
    draw, covered, naive = np.random.default_rng(0), 0, 0
    for _ in range(400):
        right = np.repeat(draw.random(25) < 0.7, 4)  # four questions per video, all alike
        trial = made("none", "".join("+" if r else "-" for r in right), [str(i // 4) for i in range(100)])
        scores = accuracy(trial.records)
        low, high = significance.accuracy_interval(scores)
        covered += low <= 0.7 <= high
        naive += abs(scores.mean - 0.7) <= 1.96 * math.sqrt(scores.mean * (1 - scores.mean) / 100)
    assert 0.92 <= covered / 400 <= 0.98
    assert naive / 400 < 0.8


def test_a_detectable_effect_is_found_as_often_as_its_power_says() -> None:
    error, videos = 0.02, 200
    effect = significance.detectable_effect(error, videos)
    found = np.abs(np.random.default_rng(0).normal(effect, error, 20_000)) > significance.t_quantile(0.975, videos) * error
    assert found.mean() == pytest.approx(significance.POWER, abs=0.01)
    assert significance.samples_needed(effect, error, 500, videos) == 500
    wanted = significance.samples_needed(effect / 2, error, 500, videos)
    assert 1980 < wanted < 2000, "a little less than four times as many, for the t quantile shrinks as well"
    assert significance.detectable_with(wanted, error, 500, videos) <= effect / 2
    assert significance.detectable_with(wanted - 1, error, 500, videos) > effect / 2


def test_videos_that_all_changed_alike_have_an_exact_interval_and_a_sign_test() -> None:
    videos = [str(i // 2) for i in range(40)]
    dense, lost, half = made("none", "+" * 40, videos), made("a", "-" * 40, videos), made("b", "+-" * 20, videos)
    outcomes = collect([dense, lost, half])[0]
    against = significance.paired_with(outcomes, 0)
    others = 1 - 0.025 ** (1 / 20)  # the share of videos that may change otherwise though none of 20 did
    assert against.p_value.tolist() == [1.0, 2 * 0.5**20, 2 * 0.5**20]
    assert against.low.tolist() == pytest.approx([-others, -1, -0.5 - 0.5 * others])
    assert against.high.tolist() == pytest.approx([others, -1 + 2 * others, -0.5 + 1.5 * others])
    for index, trial in enumerate((dense, lost, half)):
        alone = paired(trial.records, dense.records)
        ours = tuple(float(of[index]) for of in (against.mean, against.error, against.low, against.high, against.p_value))
        assert alone[:5] == pytest.approx(ours)


def test_different_questions_of_one_id_are_no_pair() -> None:
    ours, theirs = made("none", "+-", ["yoga", "yoga"]), made("random", "-+", ["cooking", "cooking"])
    with pytest.raises(ValueError, match="two different questions of blocks are called q0; .*benchmark.name=..."):
        collect([ours, theirs])
    with pytest.raises(ValueError, match="sample q0 is another question in each trial"):
        paired(ours.records, theirs.records)
    both = ours._replace(records=pl.concat([ours.records, theirs.records]))
    with pytest.raises(ValueError, match="two different questions of blocks are called q0"):
        collect([both])


def test_the_front_of_many_draws_is_the_front_of_each() -> None:
    draw = np.random.default_rng(0)
    costs = draw.integers(0, 6, 12) / 5
    costs[3] = math.nan
    accuracy_ = draw.integers(0, 8, (50, 12)) / 8
    accuracy_[7, 5] = math.nan
    found = on_front(costs, accuracy_)
    for row, on in zip(accuracy_, found, strict=True):
        assert on.tolist() == pareto_front(list(zip(costs.tolist(), row.tolist(), strict=True)))


def test_resampling_draws_videos_for_all_trials_alike() -> None:
    (found,) = collect(drawn())
    weights = resampling.draw_videos(found.videos, replicates=30)
    assert (weights.sum(1) == found.videos).all()
    values = resampling.resampled(found, replicates=30)
    picked = weights[7][found.video]  # how often each sample was drawn
    for row, answers in zip(values[7], found.correct, strict=True):
        assert row == pytest.approx((picked * (answers == 1)).sum() / (picked * (answers >= 0)).sum())


def test_probabilities_of_the_front_tell_a_clear_case_from_a_coin_toss() -> None:
    good = "+" * 90 + "-" * 10
    trials = [
        made("none", "+" * 95 + "-" * 5, visual=(8, 8)),
        made("cheap", good, visual=(2, 2)),
        made("hopeless", "-" * 100, visual=(4, 4)),
        made("alike", good[::-1], visual=(2, 2)),  # as cheap and as good on average, on other questions
    ]
    (found,) = collect(trials)
    front = resampling.front(found)
    dense, cheap, hopeless, alike = front.probability
    assert dense > 0.8
    assert hopeless == 0
    assert 0.4 < cheap < 0.65
    assert 0.4 < alike < 0.65
    assert (front.low <= front.best).all()
    assert (front.best <= front.high).all()


def test_hypervolume_and_knee_by_hand() -> None:
    cost, best = np.array([0.25, 0.5, 1.0]), np.array([0.4, 0.8, 0.9])
    assert hypervolume(cost, best, 1.0) == pytest.approx(0.25 * 0.4 + 0.5 * 0.8)
    assert knee_point(cost, best) == 1
    assert knee_point(cost[:2], best[:2]) is None


def test_who_loses_less_than_the_margin_who_is_worse_and_of_whom_nothing_can_be_told() -> None:
    dense = "+" * 900 + "-" * 100
    trials = [
        made("none", dense),
        made("near", "-+" + dense[2:], visual=(3, 3)),
        made("nearer", dense[:-1] + "+", visual=(5, 5)),
        made("far", "-" * 100 + dense[100:], visual=(2, 2)),
        made("hardly", "-" * 9 + dense[9:-5] + "+" * 5, visual=(2, 3)),
        made("partial", dense[:5] + "?" * 995, visual=(1, 1)),
    ]
    (found,) = collect(trials)
    against = significance.against_dense(found)
    classes = (against.within_margin, against.worse, against.unclear)
    assert [[found.names[i] for i in one] for one in classes] == [["near", "nearer"], ["far"], ["hardly"]]
    assert against.needed[4] > 1000
    assert against.needed[[0, 1, 2, 3, 5]].tolist() == [0] * 5
    flips = significance.agreement(found, 3, 0)
    assert (flips.both_right, flips.both_wrong, len(flips.lost), flips.gained) == (800, 100, 100, ())
    said = text(verdict(found))
    assert "2 of 5 trials are shown to lose less than 1 point (paired score test" in said
    assert "the cheapest: near at" in said
    assert "1 of 5 trials is less accurate than dense" in said
    assert "cannot tell 1 of 5 trials; the cheapest: hardly at" in said
    assert "1 of 5 answered fewer questions than dense, or name no option: nothing is claimed of them" in said
    (strict,) = collect(trials, margin=0.001)
    assert significance.against_dense(strict).within_margin == ()


def test_main_effects_of_a_grid_are_differences_of_its_means() -> None:
    trials = grid_trials({"layer": [1, 2, 4], "keep": [0.2, 0.4]}, lambda layer, keep: 0.5 + 0.1 * layer - 0.1 * (keep == 0.2))
    (found,) = collect(trials)
    (ablation,) = effects.ablations(found)
    layer, keep = ablation.main
    means = {row.trial: row.accuracy for row in found.table}
    of_four = sum(value for name, value in means.items() if "layer=4" in name) / 2
    assert layer.levels[2].accuracy.value == pytest.approx(of_four)
    assert sum(level.effect.value for level in layer.levels) == pytest.approx(0)
    assert keep.range == pytest.approx(0.1, abs=0.05)
    assert layer.p_value < 1e-6
    assert keep.p_value < 1e-6
    assert ablation.confounded == ()


def test_the_error_of_an_effect_is_that_of_the_paired_difference() -> None:
    trials = grid_trials({"keep": [0.2, 0.4]}, lambda keep: 0.5 + keep / 2)
    (found,) = collect(trials)
    ((effect,),) = (a.main for a in effects.ablations(found))
    difference = paired(trials[1].records, trials[0].records)
    assert effect.levels[1].effect.value == pytest.approx(difference.mean / 2)
    assert effect.levels[1].effect.error == pytest.approx(difference.error / 2)
    assert effect.p_value == pytest.approx(difference.p_value)  # F(1, v) is the square of t(v)


def test_an_interaction_is_found_where_there_is_one_and_not_where_effects_add_up() -> None:
    levels = {"layer": [1, 2], "keep": [0.2, 0.4]}
    (joint,) = collect(grid_trials(levels, lambda layer, keep: 0.9 if (layer, keep) == (2, 0.4) else 0.5))
    assert effects.ablations(joint)[0].interactions[0].p_value < 1e-6
    (additive,) = collect(grid_trials(levels, lambda layer, keep: 0.4 + 0.1 * layer + keep / 2))
    assert effects.ablations(additive)[0].interactions[0].p_value > 0.01


def test_false_alarms_of_effects_stay_at_their_level() -> None:
    draw, alarms = np.random.default_rng(1), 0
    for _ in range(200):
        rows = [made(f"prunevid layer={i}", "".join(draw.choice(list("+-"), 60)), prune={"layer": i}) for i in range(3)]
        alarms += effects.ablations(collect(rows)[0])[0].main[0].p_value < 0.05
    assert alarms / 200 < 0.1


def test_settings_that_always_move_together_are_named_not_guessed() -> None:
    trials = [made(f"prunevid layer={i}", "+-" * 10, prune={"layer": i, "keep": i / 10}) for i in (1, 2)]
    (ablation,) = effects.ablations(collect(trials)[0])
    assert ablation.confounded == ("reducer.prune.layer", "reducer.prune.keep")
    assert ablation.main == ()
    assert "not told apart by these trials: layer, keep" in text(verdict(collect(trials)[0]))


def test_the_parameter_that_matters_is_the_important_one() -> None:
    trials = grid_trials({"layer": [1, 2, 3, 4], "keep": [0.2, 0.4, 0.6]}, lambda layer, keep: 0.3 + 0.15 * layer + 0.02 * keep)
    (found,) = collect(trials)
    (importance,) = effects.importances(found)
    assert next(iter(importance.shares)) == "reducer.prune.layer"
    assert 0.97 < sum(importance.shares.values()) < 1, "what the two explain jointly is left"
    assert importance == effects.importances(found)[0]
    assert importance == effects.importances(collect(trials[::-1])[0])[0]


def test_a_grid_with_switched_off_parts_and_words_has_importances() -> None:
    settings = list(product([None, 0.8, 0.9], "ab", (1, 2)))
    trials = [
        made(f"prunevid t={t} order={o} {i}", "+" * right + "-" * (12 - right), merge={"t": t, "order": o})
        for i, (t, o, again) in enumerate(settings)
        if (right := 2 + 3 * (t is None) + 4 * (o == "a") + again)
    ]
    (importance,) = effects.importances(collect(trials)[0])
    assert set(importance.shares) == {"reducer.merge.t", "reducer.merge.order"}


def test_every_trial_that_is_named_in_words_has_its_number(tmp_path: Path) -> None:
    trials = grid_trials({"layer": [0, 1, 2, 3, 4, 5]}, lambda layer: 0.5 + 0.08 * layer)
    trials = [one._replace(records=one.records.with_columns(visual_tokens=[8 - i, 8 - i])) for i, one in enumerate(trials[::-1])]
    dense = made("none", "".join("+" if right else "-" for right in trials[0].records["correct"]))
    for index, one in enumerate([dense, *trials]):
        write_trial(tmp_path / str(index), one.info, one.records)
    (found,) = read_outcomes(tmp_path, margin=0.2)
    judged = verdict(found, with_importance=False)
    said = dict(lines(judged))
    assert set(said) >= {"in margin", "worse", "knee"}
    numbers = {row.trial: row.number for row in found.table}
    for words in (said["in margin"], said["knee"], headline(judged) or ""):
        named = re.findall(r"(#\d+ )?(prunevid layer=\d)", words)
        assert named, words
        assert all(number == f"#{numbers[name]} " for number, name in named)


def test_several_models_are_rows_and_benchmarks_are_columns() -> None:
    trials = []
    for model, benchmark, method in product(("pllava_7b", "tiny"), ("mvbench", "videomme"), ("none", "fastv")):
        one = made(method, "+-+", visual=(8, 8) if method == "none" else (8, 2))
        name = f"{method} model={model} benchmark={benchmark}"
        trials.append(one._replace(info=replace(one.info, name=name, model=model, benchmark=benchmark)))
    table = tables.methods_table(collect(trials))
    assert table.header[:7] == ("#", "model", "method", "retained", "FLOPs", "mvbench", "videomme")
    assert [row[1:3] for row in table.rows] == [(m, t) for m in ("pllava_7b", "tiny") for t in ("none", "fastv")]
    assert all(tables.DASH not in row[:7] for row in table.rows)
    assert table.header[-2:] == ("published mvbench", "published videomme")
    assert table.rows[0][-2:] == ("0.466", "0.444")


def test_tables_export_and_escape() -> None:
    odd = "prunevid a_b|c & <i>50%</i>"
    (found,) = collect([made("none", "+-+-", tasks="aabb"), made(odd, "++--", tasks="aabb", visual=(2, 1))])
    table = tables.methods_table([found], tasks=True)
    assert table.header == ("#", "method", "retained", "FLOPs", "blocks", "blocks/a", "blocks/b")
    assert r"a\_b\|c & \<i\>50%\</i\>" in formats.to_markdown(table)
    latex = formats.to_latex(table)
    assert r"a\_b$|$c \& $<$i$>$50\%$<$/i$>$" in latex
    assert latex.count(r"\\") == 1 + 2 + 1
    numbers = list(csv.reader(formats.to_csv(table).splitlines()))
    assert numbers[0][1:9] == ["method", "retained", "FLOPs", "blocks", "blocks SE", "blocks n", "blocks low", "blocks high"]
    assert numbers[1][1:5] == ["none", "1.0", "1.0", "0.5"]
    assert tables.components_table(found).rows[0][2:5] == ("–", "–", "–")


def test_published_numbers_stand_beside_the_same_experiment_only() -> None:
    import polars as pl

    def trial(name: str, visual: tuple) -> Trial:
        own = made(name, "+-+-", visual=visual)
        info = TrialInfo(**{**vars(own.info), "model": "pllava_7b", "benchmark": "mvbench"})
        return Trial(info, own.records.with_columns(dense_tokens=pl.lit(6, dtype=pl.Int64)), None)

    (found,) = collect([trial("none", (6, 6)), trial("fastv", (6, 6)), trial("prunevid", (3, 1))])
    rows = {row[1]: row for row in tables.methods_table([found]).rows}
    assert rows["none"][-1] == "0.466"
    assert rows["prunevid"][-3:] == ("16.2 %", "0.23x", "0.476")  # ours: 16.7 % in the last layer
    assert rows["fastv"][-3:] == ("–", "–", "–")  # the published FastV keeps 30 %
    assert "published" not in " ".join(tables.methods_table(collect([made("none", "+-")])).header)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (["+-+-"], "1 trial of tiny on blocks, 4 questions on 4 videos"),
        (["????", "????"], "2 trials of tiny on blocks, none of which has an answer: nothing can be said"),
        (["++++", "????"], "1 without any answer"),
        (["++++", "++++"], "0 of 1 trial are shown to lose less than 1 point"),
    ],
)
def test_odd_sweeps_get_a_sentence(answers: list[str], said: str) -> None:
    trials = [made("none" if i == 0 else f"random {i}", a, visual=(8, 8) if i == 0 else (4, 4)) for i, a in enumerate(answers)]
    (found,) = collect(trials)
    assert said in text(verdict(found))
    for table in (tables.methods_table([found]), tables.tasks_table(found), tables.effects_table(found)):
        assert formats.to_text(table)


def test_the_headline_leads_with_the_margin_and_says_what_it_takes_to_tell() -> None:
    def said(times: int, theirs: str = "+-++") -> str:
        return str(headline(verdict(collect([made("none", "++-+" * times), made("fastv", theirs * times, visual=(3, 3))])[0])))

    few = said(5)
    assert few.startswith("No trial is shown to lose less than 1 point against dense; of 1 these questions cannot tell, ")
    assert few.endswith("more questions.")
    assert "; 1 of 1 trial is worse" in said(50, "+--+")
    assert said(250, "++-+").startswith("1 of 1 trial is shown to lose less than 1 point against dense, it at 0.")
    assert "alike" not in few + said(1)
    assert "indistinguishable" not in few + said(1)


def test_a_sweep_without_a_dense_trial_says_what_to_add() -> None:
    assert ("dense", "no trial without reduction: add reducer=none to compare with it") in lines(
        verdict(collect([made("random 1", "+-", visual=(4, 4))])[0])
    )

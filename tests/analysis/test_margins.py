"""Non-inferiority within a margin: against the likelihood's own maximum, and in sweeps whose trials all lose the margin."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from prunesweep.analysis import margins
from prunesweep.analysis.outcomes import collect
from prunesweep.dev import calibration
from support.records import made


@pytest.mark.parametrize(("gained", "lost", "margin"), [(0, 3, 0.01), (5, 9, 0.01), (20, 4, 0.03), (0, 0, 0.02)])
def test_the_variance_is_that_of_the_likeliest_loss_of_the_margin(gained: int, lost: int, margin: float) -> None:
    samples = 200

    def unlikely(share: float) -> float:
        chances = np.array([share, share + margin, 1 - 2 * share - margin])
        return -float((np.array([gained, lost, samples - gained - lost]) * np.log(np.maximum(chances, 1e-300))).sum())

    share = minimize_scalar(unlikely, bounds=(0, (1 - margin) / 2), method="bounded", options={"xatol": 1e-10}).x
    counts = (np.array(float(count)) for count in (gained, lost, samples))
    assert margins.variance_at(*counts, margin) == pytest.approx(2 * share + margin - margin**2, abs=1e-6)


@pytest.mark.parametrize("sizes", ["1 question a video", "5 questions a video", "1 to 8 questions", "very unequal"])
def test_sweeps_whose_trials_all_lose_the_margin_seldom_name_one(sizes: str) -> None:
    draw = np.random.default_rng(9)
    for gain, alike in ((0.0, "apart"), (0.02, "partly"), (0.05, "wholly")):
        found = [calibration.named_safe(0.01, gain, alike, calibration.SIZES[sizes](300), 100, draw) for _ in range(2)]
        assert np.mean([one.after for one in found]) <= 0.05, (gain, alike)
        assert np.mean([one.before for one in found]) > 0.2


def test_the_questions_that_are_asked_for_tell() -> None:
    pair = margins.Pair(gained=10, lost=10, samples=400, design=1.2, freedom=199)
    needed = margins.questions_needed(pair, 0.01, safe=0.025, worse=0.05, power=0.8)
    draw = np.random.default_rng(10)
    videos = needed // 2
    gained, lost = calibration.changes(0.025, 0.025, "apart", np.full(videos, 2), 2000, draw)
    counts = (gained.sum(1), lost.sum(1), np.full(2000, 2.0 * videos))
    p_value = margins.loss_p_values(*counts, np.ones(2000) * 1.2, np.full(2000, videos - 1.0), 0.01)
    shown = (p_value <= 0.025).mean()
    assert shown >= 0.78, "a design effect of 1.2 is asked for, of questions that are apart"
    assert margins.questions_needed(pair._replace(lost=40), 0.01, 0.025, 0.05, 0.8) < needed, "a large loss is soon seen"
    assert margins.questions_needed(pair, 0.02, 0.025, 0.05, 0.8) < needed
    assert margins.questions_needed(pair._replace(lost=14), 0.01, 0.025, 0.05, 0.8) > needed, "on the edge it takes more"


@pytest.mark.parametrize("margin", [0, 1, -0.01])
def test_a_margin_is_a_share(margin: float) -> None:
    with pytest.raises(ValueError, match=r"margin must be in \(0, 1\), such as 0.01 for 1 point, got"):
        collect([made("none", "+-")], margin=margin)

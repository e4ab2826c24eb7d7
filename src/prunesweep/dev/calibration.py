"""Do the intervals cover and the tests reject as often as they say?  Simulated, with the plain formulas beside ours.

    python -m prunesweep.dev.calibration        prints the tables of docs/statistics.md

Answers are drawn from a known truth: a video's accuracy is a beta variable, so that its questions correlate by `alike`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from prunesweep.analysis import ablation, clusters, margins, resampling, significance
from prunesweep.analysis.accuracy import accuracies_of
from prunesweep.analysis.front import hypervolume, steps
from prunesweep.analysis.selection import area_interval, front_weights
from prunesweep.console.layout import markdown
from prunesweep.dev import parser_of
from prunesweep.errors import write_anywhere

if TYPE_CHECKING:
    from jaxtyping import Float, Int

    Sizes = Int[np.ndarray, " videos"]
    Table = Float[np.ndarray, "draws videos"]

LEVEL = 1 - clusters.CONFIDENCE


def _unequal(videos: int) -> Sizes:
    """Log-normal: a tenth of the videos has about half of the questions."""
    from scipy.special import ndtri

    return np.maximum(1, np.round(np.exp(1 + 1.2 * ndtri((np.arange(videos) + 0.5) / videos)))).astype(int)


SIZES: Mapping[str, Callable[[int], Sizes]] = {
    "1 question a video": lambda videos: np.ones(videos, dtype=int),
    "5 questions a video": lambda videos: np.full(videos, 5),
    "1 to 8 questions": lambda videos: 1 + np.arange(videos) % 8,
    "very unequal": _unequal,
    "one video has half": lambda videos: np.r_[2 * videos, np.full(videos - 1, 2)],
}
"""Questions of each of so many videos."""
VIDEOS = (10, 20, 50, 200)
ACCURACIES = (0.5, 0.7, 0.9, 0.95, 0.98, 0.99)
ALIKE = (0.0, 0.1, 0.3, 0.6, 1.0)
"""Correlation of a video's questions."""
FLIPPED = (0.03, 0.1, 0.3)
"""Of the answers that differ between two trials which are as good."""


def shares(accuracy: float, alike: float, sizes: Sizes, draws: int, generator: np.random.Generator) -> Table:
    """Right answers of each video."""
    shape = (draws, len(sizes))
    if alike == 1:
        return np.where(generator.random(shape) < accuracy, sizes, 0).astype(float)
    if alike == 0:
        return generator.binomial(sizes, accuracy, shape).astype(float)
    total = 1 / alike - 1
    return generator.binomial(sizes, generator.beta(accuracy * total, (1 - accuracy) * total, shape)).astype(float)


class Changes(NamedTuple):
    """Answers gained and lost on each video."""

    gained: Table
    lost: Table


def changes(gain: float, loss: float, alike: str, sizes: Sizes, draws: int, generator: np.random.Generator) -> Changes:
    """Of a trial that truly gains and loses these shares of the answers.

    Questions of a video flip on their own (`apart`), by a Dirichlet variable's shares (`partly`), or together (`wholly`).
    """
    shape = (draws, len(sizes))
    if alike == "wholly":
        drawn = generator.random(shape)
        return Changes(np.where(drawn < gain, sizes, 0).astype(float), np.where(drawn > 1 - loss, sizes, 0).astype(float))
    chance = np.broadcast_to([gain, loss, 1 - gain - loss], (*shape, 3))
    if alike == "partly":
        drawn = generator.gamma(np.maximum(2 * chance, 1e-9))
        chance = drawn / drawn.sum(-1, keepdims=True)
    gained = generator.binomial(sizes, chance[..., 0])
    lost = generator.binomial(sizes - gained, np.clip(chance[..., 1] / np.maximum(1 - chance[..., 0], 1e-12), 0, 1))
    return Changes(gained.astype(float), lost.astype(float))


FLIPPING = ("apart", "partly", "wholly")


class Plain(NamedTuple):
    """The clustered error with the factor G/(G-1) and G-1 degrees of freedom, whatever the videos' sizes."""

    mean: np.ndarray
    error: np.ndarray
    quantile: float


def plain(sums: Table, sizes: Sizes) -> Plain:
    videos, samples = len(sizes), sizes.sum()
    mean = sums.sum(1) / samples
    squares = ((sums - mean[:, None] * sizes) ** 2).sum(1)
    error = np.sqrt(videos / (videos - 1) * squares) / samples
    return Plain(mean, error, significance.t_quantile(1 - LEVEL / 2, videos))


class Share(NamedTuple):
    """Of the draws, with the plain formulas and with ours."""

    before: float
    after: float


def coverage(accuracy: float, alike: float, sizes: Sizes, draws: int, generator: np.random.Generator) -> Share:
    """How often the interval of an accuracy holds the true one."""
    right = shares(accuracy, alike, sizes, draws, generator)
    before, scores = plain(right, sizes), accuracies_of(right, sizes[None].astype(float))
    low, high = np.array([significance.accuracy_interval(one) for one in scores]).T
    same = (before.mean == 0) | (before.mean == 1)  # exact, each video counted once, before and after
    ours = (low <= accuracy) & (accuracy <= high)
    theirs = np.where(same, ours, np.abs(before.mean - accuracy) <= before.quantile * before.error)
    return Share(float(theirs.mean()), float(ours.mean()))


def false_alarms(flipped: float, alike: str, sizes: Sizes, draws: int, generator: np.random.Generator) -> Share:
    """How often a paired test rejects that two trials are as good, which they are."""
    gained, lost = changes(flipped / 2, flipped / 2, alike, sizes, draws, generator)
    before = plain(gained - lost, sizes)
    found = clusters.difference_means(gained - lost, gained + lost, sizes[None].astype(float))
    ours = significance.compared(found, (gained + lost).sum(1)).p_value < LEVEL
    theirs = (before.error > 0) & (np.abs(before.mean) > before.quantile * before.error)
    return Share(float(theirs.mean()), float(ours.mean()))


def effect_alarms(rank: int, sizes: Sizes, draws: int, generator: np.random.Generator) -> Share:
    """How often the joint test of `rank` differences rejects though all trials are as good: F(q, G-1) before, then ours.

    A question is as hard for all trials, and each trial has a liking of its own for each video.
    """
    from scipy.special import fdtrc, ndtri

    videos, starts = len(sizes), np.r_[0, np.cumsum(sizes)[:-1]]
    contrasts = np.eye(rank, rank + 1) - np.eye(rank, rank + 1, 1)
    p_values = np.full((draws, 2), np.nan)
    for row in p_values:
        liking = generator.normal(0, np.sqrt(0.4), (rank + 1, videos)).repeat(sizes, axis=1)
        noise = generator.normal(0, np.sqrt(0.3), (rank + 1, sizes.sum()))
        right = liking + noise + generator.normal(0, np.sqrt(0.3), sizes.sum()) < ndtri(0.8)
        answers = ablation.Answers(right.astype(float), starts, sizes.astype(float))
        sums = answers.by_video(contrasts @ answers.right)
        residuals = sums - sums.sum(1, keepdims=True) / sizes.sum() * sizes
        mean, covariance = sums.sum(1), videos / (videos - 1) * residuals @ residuals.T
        row[:] = fdtrc(rank, videos - 1, mean @ np.linalg.lstsq(covariance, mean)[0] / rank), ablation.wald(contrasts, answers)
    return Share(*(float((column < LEVEL).mean()) for column in p_values.T))


def named_safe(margin: float, gain: float, alike: str, sizes: Sizes, draws: int, generator: np.random.Generator) -> Share:
    """How many sweeps of TRIALS that all lose exactly the margin name one that loses less.

    Before: by the lower end of each trial's own interval; now by the corrected score test.  The trials answer on their own,
    which is the worst case for choosing among them.
    """
    gained, lost = changes(gain, gain + margin, alike, sizes, draws * TRIALS, generator)
    found = clusters.difference_means(gained - lost, gained + lost, sizes[None].astype(float))
    counts = gained.sum(1), lost.sum(1), found.samples
    loss = margins.loss_p_values(*counts, found.design, found.freedom, margin).reshape(draws, TRIALS)
    before = plain(gained - lost, sizes)
    low = np.where(before.error > 0, before.mean - before.quantile * before.error, -1).reshape(draws, TRIALS)
    return Share(float((low > -margin).any(1).mean()), float((loss.min(1) * TRIALS <= LEVEL / 2).mean()))


TRIALS = 80


def area_coverage(trials: int, sizes: Sizes, draws: int, generator: np.random.Generator) -> Share:
    """How often the interval of the hypervolume holds the true one: before, 95 % of the draws of a bootstrap; then ours.

    Accuracy grows with cost from 0.6 to 0.8, with 4 points of luck of each setting; a question is as hard for all trials.
    """
    from scipy.special import ndtri

    costs = np.sort(generator.uniform(0.1, 1, trials))
    truth = 0.6 + 0.2 * costs + generator.normal(0, 0.04, trials)
    area = float(front_weights(costs, truth) @ truth)
    video = np.arange(len(sizes)).repeat(sizes)
    bounds = ndtri(truth)[:, None]
    held = np.zeros((draws, 2), dtype=bool)
    for row in held:
        shared = generator.normal(0, np.sqrt(0.2), len(sizes))[video] + generator.normal(0, np.sqrt(0.4), len(video))
        right = (shared + generator.normal(0, np.sqrt(0.4), (trials, len(video))) < bounds).astype(float)
        by_video = np.add.reduceat(right, np.r_[0, np.cumsum(sizes)[:-1]], axis=1)
        weights = resampling.draw_videos(len(sizes), 200, int(generator.integers(2**31)))
        drawn = weights @ by_video.T / (weights @ sizes)[:, None]
        volumes = hypervolume(*steps(costs, drawn), costs[-1])
        low, high = area_interval(costs, by_video, np.broadcast_to(sizes, by_video.shape))
        row[:] = np.quantile(volumes, LEVEL / 2) <= area <= np.quantile(volumes, 1 - LEVEL / 2), low <= area <= high
    return Share(*held.mean(0).tolist())


def areas_table(draws: int, generator: np.random.Generator) -> list[str]:
    rows = []
    for trials, (name, videos) in product((10, 40, 100), (("5 questions a video", 40), ("1 to 8 questions", 200))):
        sizes = SIZES[name](videos)
        found = [area_coverage(trials, sizes, max(draws // 40, 1), generator) for _ in range(4)]
        before, after = (float(np.mean([one[i] for one in found])) for i in range(2))
        rows.append((str(trials), name, str(videos), f"{before:.3f}", f"{after:.3f}"))
    return markdown(("trials", "videos' sizes", "videos", "coverage before", "now"), rows)


def _worst(found: Sequence[Share], of: Callable[[Sequence[float]], float]) -> tuple[str, str]:
    return f"{of([one.before for one in found]):.3f}", f"{of([one.after for one in found]):.3f}"


def coverage_table(draws: int, generator: np.random.Generator) -> list[str]:
    rows = []
    for (name, sizes), videos in product(SIZES.items(), VIDEOS):
        found = [coverage(p, alike, sizes(videos), draws, generator) for p, alike in product(ACCURACIES, ALIKE)]
        rows.append((name, str(videos), *_worst(found, min)))
    return markdown(("videos' sizes", "videos", "least coverage before", "now"), rows)


def alarms_table(draws: int, generator: np.random.Generator) -> list[str]:
    rows = []
    for (name, sizes), videos in product(SIZES.items(), VIDEOS):
        found = [false_alarms(q, alike, sizes(videos), draws, generator) for q, alike in product(FLIPPED, FLIPPING)]
        rows.append((name, str(videos), *_worst(found, max)))
    return markdown(("videos' sizes", "videos", "most rejections before", "now"), rows)


def margins_table(draws: int, generator: np.random.Generator) -> list[str]:
    rows = []
    for (name, sizes), gain in product(list(SIZES.items())[:4], (0.0, 0.02, 0.05)):
        found = [named_safe(0.01, gain, alike, sizes(400), max(draws // 10, 1), generator) for alike in FLIPPING]
        rows.append((name, f"{gain:g}", *_worst(found, max)))
    return markdown(("sizes of 400 videos", "share gained besides", "sweeps that name one before", "now"), rows)


EFFECTS = ((10, 1), (10, 4), (10, 8), (45, 1), (45, 8), (45, 16), (200, 16))
"""Videos and differences tested together."""


def effects_table(draws: int, generator: np.random.Generator) -> list[str]:
    rows = []
    for name, (videos, rank) in product(("1 question a video", "5 questions a video", "1 to 8 questions"), EFFECTS):
        found = effect_alarms(rank, SIZES[name](videos), draws, generator)
        rows.append((name, str(videos), str(rank), f"{found.before:.3f}", f"{found.after:.3f}"))
    return markdown(("videos' sizes", "videos", "differences", "rejections before", "now"), rows)


TABLES: Mapping[str, Callable[[int, np.random.Generator], list[str]]] = {
    "95 % intervals of an accuracy of 0.5 to 0.99": coverage_table,
    "Paired tests at 5 % of two trials that are as good": alarms_table,
    "95 % intervals of the hypervolume, a tenth of the draws": areas_table,
    f"{TRIALS} trials that all lose exactly 1 point, a tenth of the draws": margins_table,
    "Joint tests at 5 % of settings without an effect": effects_table,
}


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, (__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000, help="of each case (2000)")
    arguments = parser.parse_args()
    if arguments.draws < 1:
        parser.error(f"--draws must be at least 1, got {arguments.draws}")
    for title, table in TABLES.items():
        print(f"\n**{title}** ({arguments.draws} draws a case)\n", *table(arguments.draws, np.random.default_rng(0)), sep="\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Free answers compared with the right one word by word: exact match to the end, and the F1 of words.

The protocol's parser asks which option an answer begins with: "northwest first second" names "northwest first".  These two ask
for all of it.
Words are compared as in SQuAD (Rajpurkar et al., 2016): small letters, no punctuation, no articles.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from prunesweep.analysis.accuracy import Accuracy, accuracy, clustered_error, codes

if TYPE_CHECKING:
    import polars as pl

ARTICLES = frozenset({"a", "an", "the"})
WORD = re.compile(r"\w+")


class FreeAnswers(NamedTuple):
    """Over generated answers whose right one is known; NaN where there are none.  Errors are clustered by video."""

    exact_match: float
    exact_error: float
    token_f1: float
    token_f1_error: float


def words(text: str) -> list[str]:
    return [word for word in WORD.findall(text.casefold()) if word not in ARTICLES]


def is_exact(prediction: str, target: str) -> bool:
    """Whether all words are the same, in the same order, up to the end."""
    return words(prediction) == words(target)


def token_f1(prediction: str, target: str) -> float:
    """Harmonic mean of the shares of words that the two have in common; their order does not count."""
    said, meant = words(prediction), words(target)
    if not said or not meant:
        return float(said == meant)
    return 2 * (Counter(said) & Counter(meant)).total() / (len(said) + len(meant))


def scored_exactly(records: pl.DataFrame) -> pl.DataFrame:
    """The records with `correct` by exact match wherever an answer was generated: for every number and test that reads it."""
    import polars as pl

    exact = [
        is_exact(prediction or "", target) if tokens and target and correct is not None else correct
        for prediction, target, tokens, correct in records[["prediction", "target", "generated_tokens", "correct"]].rows()
    ]
    return records.with_columns(correct=pl.Series(exact, dtype=pl.Boolean))


def free_answers(records: pl.DataFrame) -> FreeAnswers:
    import polars as pl

    read = {"prediction", "target", "generated_tokens"}.issubset(records.columns)
    if not read or not (records["generated_tokens"] > 0).any():
        return FreeAnswers(math.nan, math.nan, math.nan, math.nan)
    generated = records.filter((pl.col("generated_tokens") > 0) & (pl.col("target") != "") & pl.col("correct").is_not_null())
    exact, f1 = accuracy(scored_exactly(generated)), _f1(generated)
    return FreeAnswers(exact.mean, exact.error, f1.mean, f1.error)


def _f1(generated: pl.DataFrame) -> Accuracy:
    import numpy as np

    if not len(generated):
        return Accuracy(math.nan, math.nan, 0)
    values = np.array([token_f1(prediction or "", target) for prediction, target in generated[["prediction", "target"]].rows()])
    video = codes(generated["video_id"])
    sums = np.bincount(video, values - values.mean())
    alike = np.ptp(values) == 0
    error = math.nan if alike else clustered_error(sums.tolist(), len(values), np.bincount(video).tolist())
    return Accuracy(float(values.mean()), error, len(values), len(sums))

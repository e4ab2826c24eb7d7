"""What methods answer, and the code that answers, change only on purpose.

A rewrite that changes no answer passes the first test and not the second: `python -m prunesweep.dev.alike BEFORE` then says that
the new code counts as the old, and stored records stay in use.  One that changes answers needs both files of `data/` anew:
`PYTHONPATH=tests python tests/support/golden.py`, and the same with `tests/laws/test_golden.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from prunesweep.dev.alike import combinations
from prunesweep.results.keys.code import code_of
from prunesweep.results.records import completed
from support import golden

CODE = golden.KEPT.with_name("code.json")
SCORES = "choice_scores"
LAST_BITS = 1e-3
"""Log-likelihoods of another machine's kernels differ by far less, those of another answer by more."""


def fingerprints() -> dict[str, str]:
    """Of the code behind every method and model, as stores know it."""
    return {" ".join(roots): code_of(roots).digest for roots in combinations()}


def test_every_method_answers_as_it_did(tmp_path: Path) -> None:
    expected, found = completed(pl.read_parquet(golden.KEPT)), golden.records(tmp_path)
    assert found.drop(SCORES).equals(expected.select(found.columns).drop(SCORES))
    one, other = (frame[SCORES].explode().drop_nulls() for frame in (expected, found))
    assert len(one) == len(other)
    assert (one - other).abs().max() < LAST_BITS


def test_rewritten_code_counts_as_what_it_was() -> None:
    assert fingerprints() == json.loads(CODE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    CODE.write_text(json.dumps(fingerprints(), indent=1) + "\n", encoding="utf-8")

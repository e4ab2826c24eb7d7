"""One question about one video, with a setting and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunesweep.types import Sample
from prunesweep.use.ask import DENSE, ask
from support.trials import GENERATE, reducer_of


def test_both_answers_are_the_engine_s_and_have_their_cost(model: Any, samples: list[Sample]) -> None:
    sample = samples[0]
    reducers = {DENSE: reducer_of("none"), "fastv": reducer_of("fastv")}
    dense, pruned = ask(model, sample.path, sample.question, reducers, 12, GENERATE)
    assert (dense.setting, pruned.setting) == (DENSE, "fastv")
    assert dense.flops == pytest.approx(1)
    assert pruned.flops < 1
    assert pruned.usage.visual_tokens[-1] < dense.usage.visual_tokens[-1]
    assert min(dense.seconds, pruned.seconds) > 0
    assert len(dense.row()) == 6


@pytest.mark.parametrize(("video", "question", "said"), [("gone.mp4", "what ?", "there is no video"), (None, " ", "is empty")])
def test_what_cannot_be_asked_says_so(model: Any, samples: list[Sample], video: str | None, question: str, said: str) -> None:
    path = Path(video) if video else samples[0].path
    with pytest.raises(ValueError, match=said):
        ask(model, path, question, {DENSE: reducer_of("none")}, 12, GENERATE)


def test_a_broken_file_is_one_line(model: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no film")
    with pytest.raises(ValueError, match=r"broken\.mp4") as raised:
        ask(model, broken, "what ?", {DENSE: reducer_of("none")}, 12, GENERATE)
    assert "\n" not in str(raised.value)

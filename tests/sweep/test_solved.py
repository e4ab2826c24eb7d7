"""Settings that were solved for a cost are kept, and nothing but what would be solved again comes back."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunesweep.engine import budget
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Match, Reducer
from prunesweep.results.keys import code as answering
from prunesweep.results.keys.fingerprint import Files
from prunesweep.results.store import Store
from prunesweep.sweep import solved
from prunesweep.sweep.planned import Planned
from prunesweep.sweep.solved import Place, matched
from prunesweep.sweep.upkeep import merge, problems
from prunesweep.types import Sample
from support.trials import CHOOSE, FRAMES, reducer_of

MATCH = Match(flops=0.4, videos=2, tolerance=0.5)


def planned(reducer: Reducer, seconds: float = 60.0) -> Planned:
    video = {"frames": FRAMES, "seconds": seconds}
    spec = SimpleNamespace(name="t", trainer={"accelerator": "cpu"}, benchmark={"name": "b"}, video=video)
    return Planned(spec, reducer, CHOOSE)  # type: ignore[arg-type]


@dataclass
class Asking:
    """Solves in one store, and counts how often it really does."""

    model: LlavaOnevision
    store: Store
    load: dict[str, Any]
    solvings: int = 0

    def __call__(self, reducer: Reducer, samples: list[Sample], load: dict[str, Any] | None = None, seconds: float = 60.0) -> Any:
        """What was found, and whether it was solved anew."""
        before = self.solvings
        place = Place(self.store, load or self.load, Files(), samples)
        found = matched([planned(replace(reducer, match=MATCH), seconds)], lambda: self.model, place)
        return [(one.reducer, one.solution) for one in found[0]] or found[1], self.solvings > before


@pytest.fixture
def ask(model: LlavaOnevision, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asking:
    load = {"_target_": "prunesweep.models.llava_onevision.load", "name": "small", "checkpoint": str(checkpoint)}
    asking = Asking(model, Store.open(tmp_path / "store"), load)

    def counted(*arguments: Any) -> Any:
        asking.solvings += 1
        return budget.solve(*arguments)

    monkeypatch.setattr(solved, "solve", counted)
    return asking


@pytest.mark.parametrize("name", ["random", "pooling", "vtw", "fastv", "none"])
def test_what_was_solved_comes_back_the_same_and_is_not_solved_again(ask: Asking, samples: list[Sample], name: str) -> None:
    """A share, a grid, a layer; what is out of reach and what has nothing to solve, with the reason."""
    first, anew = ask(reducer_of(name), samples)
    assert anew
    again, anew = ask(reducer_of(name), samples)
    assert not anew
    assert again == first
    assert repr(again) == repr(first)
    assert not problems(ask.store)


def test_whatever_decides_a_solution_has_it_solved_again(ask: Asking, samples: list[Sample], tmp_path: Path) -> None:
    random = reducer_of("random")
    ask(random, samples)
    other = tmp_path / "other"
    other.mkdir()
    for file in Path(ask.load["checkpoint"]).iterdir():
        content = file.read_bytes()
        (other / file.name).write_bytes(content[:-1] + b"\1" if file.suffix == ".safetensors" else content)
    film = tmp_path / "film.mp4"
    film.write_bytes(samples[0].path.read_bytes() + b"\0")
    changed = [
        ("another setting", (replace(random, name="other"), samples)),
        ("another question", (random, [replace(samples[0], question="which?"), *samples[1:]])),
        ("another order", (random, samples[::-1])),
        ("fewer questions", (random, samples[:-1])),
        ("another film", (random, [replace(samples[0], path=film), *samples[1:]])),
        ("other weights", (random, samples, {**ask.load, "checkpoint": str(other)})),
        ("another limit", (random, samples, None, 30.0)),
    ]
    for what, given in changed:
        assert ask(*given)[1], what
        assert not ask(*given)[1], what
    assert not ask(random, samples)[1]


METHOD = """
from dataclasses import dataclass
from prunesweep.reducers.random import Prune

@dataclass(frozen=True)
class Mine(Prune):
    seed: int = {seed}
"""


@pytest.fixture
def method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Somebody's own pruner, written with a number in it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(seed: int) -> Any:
        (tmp_path / "minesolved.py").write_text(METHOD.format(seed=seed))
        answering.forget()
        import minesolved  # type: ignore[import-not-found]

        return minesolved.Mine

    yield write
    sys.modules.pop("minesolved", None)
    answering.forget()


def test_edited_code_of_a_method_is_solved_again(ask: Asking, samples: list[Sample], method: Callable[..., Any]) -> None:
    """The object is as it was; what counts is the code that a next process would run."""
    mine = Reducer("mine", prune=method(seed=1)(layer=2, keep_ratio=0.5), knob="prune.keep_ratio")
    assert ask(mine, samples)[1]
    assert not ask(mine, samples)[1]
    method(seed=2)
    assert ask(mine, samples)[1]


def test_code_that_solves_is_part_of_the_key(ask: Asking, samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    ask(reducer_of("random"), samples)
    monkeypatch.setattr(solved, "SOLVING", ("prunesweep.engine.budget.mean_cost",))
    assert ask(reducer_of("random"), samples)[1]


def test_what_an_error_had_a_part_in_is_not_kept(ask: Asking, samples: list[Sample], tmp_path: Path) -> None:
    video = samples[0].video_id
    gone = [replace(one, path=tmp_path / "gone.mp4") if one.video_id == video else one for one in samples]
    chosen = budget.Calibration(ask.model, gone).chosen(1)[0][0]
    some = [one for one in gone if one.video_id in (video, chosen.video_id)]
    for _ in range(2):
        found, anew = ask(reducer_of("random"), some)
        assert anew
        assert len(found[0][1].videos) == 1


def test_a_damaged_or_foreign_solution_is_named_and_written_anew(ask: Asking, samples: list[Sample], tmp_path: Path) -> None:
    first, _ = ask(reducer_of("random"), samples)
    (path,) = (ask.store.folder / "solved").iterdir()
    whole = path.read_text()
    for text in ("", "[]", json.dumps({**json.loads(whole), "made_of": {}}), whole.replace('"value"', '"worth"')):
        path.write_text(text)
        again, anew = ask(reducer_of("random"), samples)
        assert anew
        assert again == first
        assert path.read_text() == whole
    path.write_text("[]")
    assert [problem.reason for problem in problems(ask.store)] == ["not the solution that it is named after"]
    path.write_text(whole)
    other = Store.open(tmp_path / "other")
    merge(other, ask.store)
    assert (other.folder / "solved" / path.name).read_text() == whole

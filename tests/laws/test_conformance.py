"""Every method in conf/reducer holds the laws of `prunesweep.testing`, and these find methods that do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunesweep.reducers import INNER, Left, Merger, Reducer, keep_tokens
from prunesweep.reducers.pyramiddrop import PyramidDrop
from prunesweep.reducers.sparsevlm import SparseVLM
from prunesweep.reducers.tome import ToMe
from prunesweep.targets import instantiate as ours
from prunesweep.testing import check, laws_of
from prunesweep.types import Merged, Prefix, Tokens, TowerTokens
from support.places import REDUCERS
from support.trials import reducer_of


def failing(method: Any, knob: str | None = None) -> dict[str, str]:
    found = {}
    for law in laws_of(method, knob):
        try:
            law()
        except AssertionError as error:
            found[str(law)] = str(error)
    return found


@pytest.mark.parametrize("name", REDUCERS)
def test_every_configured_method_holds_the_laws(name: str) -> None:
    assert failing(reducer_of(name)) == {}


@pytest.mark.parametrize("slot", INNER)
def test_steps_are_tried_in_both_places(slot: str) -> None:
    step = reducer_of("fastv").prune
    assert failing(Reducer("it", **{slot: step}, knob=f"{slot}.keep_ratio")) == {}


@dataclass(frozen=True)
class Checkerboard:
    """The method of notebook 04, with its count said."""

    period: int = 2

    def left(self, frames: int, patches: int) -> None:
        return None

    def __call__(self, tokens: Tokens) -> Merged:
        frames, patches, _ = tokens.x.shape
        side = round(patches**0.5)
        place = torch.arange(patches)
        diagonal = place // side + place % side + torch.arange(frames)[:, None]
        return keep_tokens(tokens, (diagonal % self.period == 0).flatten().nonzero()[:, 0], "original")


class Stepping(Checkerboard):
    knob_bounds = {"period": (1, 4)}  # noqa: RUF012


@pytest.mark.parametrize("law", [*laws_of(Checkerboard()), *laws_of(Stepping(), "period")], ids=str)
def test_a_method_of_ones_own_in_three_lines(law: Callable[[], None]) -> None:
    law()


def test_whatever_breaks_a_law_is_said_in_one_line() -> None:
    for broken, law, words in BROKEN:
        found = failing(broken)
        name = next((name for name in found if law in name), None)
        assert name is not None, (broken, found)
        assert words in found[name]
        assert "\n" not in found[name]


@dataclass(frozen=True)
class Wrong(Checkerboard):
    """With one mistake."""

    mistake: Callable[[Merged], Merged] = lambda merged: merged

    def __call__(self, tokens: Tokens) -> Merged:
        return self.mistake(super().__call__(tokens))


class SaysTooMany(Checkerboard):
    def left(self, frames: int, patches: int) -> Left:
        return Left(frames * patches)


class FewestTooLow(Checkerboard):
    def fewest(self, frames: int, patches: int) -> int:
        return max(1, frames * patches // 9)


class FewestTooHigh(Checkerboard):
    def fewest(self, frames: int, patches: int) -> int:
        return frames * patches


class Draws(Checkerboard):
    def __call__(self, tokens: Tokens) -> Merged:
        size = tokens.x.shape[0] * tokens.x.shape[1]
        return replace(keep_tokens(tokens, torch.randperm(size)[: size // 2 + 1].sort().values, "original"), flops=2)


class Writes(Checkerboard):
    def __call__(self, tokens: Tokens) -> Merged:
        merged = super().__call__(tokens)
        tokens.x.mul_(2)
        return merged


class Widens(Checkerboard):
    def __call__(self, tokens: Tokens) -> Merged:
        return super().__call__(replace(tokens, x=tokens.x.float()))


class NeedsTooMuch(Checkerboard):
    needs = ("frame.head",)


class NeedsWhatIsNoFact(Checkerboard):
    needs = ("attention.recieved",)


class KeepsTheLoudest(Checkerboard):
    def __call__(self, tokens: Tokens) -> Merged:
        kept = tokens.x.norm(dim=2).flatten().argsort()[: len(tokens.x)].sort().values
        return keep_tokens(tokens, kept, "original")


@dataclass(frozen=True)
class Keeps:
    """A step that reads no question, or so it says."""

    layer: int = 2
    earlier_caches = "whole"
    reads_question = False

    @property
    def full_layers(self) -> int:
        return self.layer

    def __call__(self, prefix: Prefix) -> torch.Tensor:
        return torch.arange(0, len(prefix.group), 2)


class SaysTooFew(Keeps):
    def left(self, entering: Left) -> int:
        return 1


class MostTooLow(Keeps):
    def most(self, tokens: int) -> int:
        return tokens // 3


class MostTooHigh(Keeps):
    def most(self, tokens: int) -> int:
        return (tokens + 1) // 2 + 1

    def left(self, entering: Left) -> int | None:
        return (entering.tokens + 1) // 2 if entering.groups == (entering.tokens,) else None


class AsksForNothing(Keeps):
    reads_question = True


class ReadsAfterAll(Keeps):
    def __call__(self, prefix: Prefix) -> torch.Tensor:
        return torch.arange(0, len(prefix.group), 2 + len(prefix.visual) % 3)


@dataclass(frozen=True)
class OneTooMany:
    """A step whose scale is of a share, rounded up by one too many; all but one token at its end."""

    scale: float = 1.0
    full_layers = 2
    earlier_caches = "whole"
    reads_question = False
    knob_bounds: ClassVar = {"scale": (2.0**-12, 2.0)}

    def left(self, entering: Left) -> int:
        return max(1, min(entering.tokens - 1, round(self.scale / 2 * entering.at_first) + 1))

    def __call__(self, prefix: Prefix) -> torch.Tensor:
        return torch.arange(self.left(Left(len(prefix.group))))


@dataclass(frozen=True)
class CannotDoWithout(Checkerboard):
    shift: int | None = 0

    def __call__(self, tokens: Tokens) -> Merged:
        return super().__call__(tokens) if self.shift == 0 else super().__call__(replace(tokens, x=tokens.x[self.shift + 1 :]))


@dataclass(frozen=True)
class OfSquares(Checkerboard):
    """It has no columns to look at in other frames, where it keeps what lies outside."""

    def __call__(self, tokens: Tokens) -> Merged:
        rows, columns = tokens.grid or (0, 0)
        return keep_tokens(tokens, torch.arange(0, tokens.x.shape[0] * tokens.x.shape[1] + (rows > columns), 2), "original")


class ForgetsSizes(ToMe):
    def __call__(self, key: torch.Tensor, tokens: TowerTokens, fewer: int, class_token: bool) -> TowerTokens:
        merged = super().__call__(key, tokens._replace(size=torch.ones_like(tokens.size)), fewer, class_token)
        return merged._replace(size=super().__call__(key, tokens, fewer, class_token).size)


class MergesTheClassToken(ToMe):
    def __call__(self, key: torch.Tensor, tokens: TowerTokens, fewer: int, class_token: bool) -> TowerTokens:
        return super().__call__(key, tokens, fewer, False)


class TakesOneMore(ToMe):
    def schedule(self, layers: int, patches: int) -> list[int]:
        return [fewer + 1 for fewer in super().schedule(layers, patches)]


@dataclass(frozen=True)
class HasAList(Checkerboard):
    """As Hydra hands over a list of YAML."""

    layers: Any = ()


BROKEN: list[tuple[Any, str, str]] = [
    (Wrong(mistake=lambda merged: replace(merged, group=merged.group * 0)), "frame's group", "must be in a group"),
    (Wrong(mistake=lambda merged: replace(merged, position=merged.position.flip(0))), "valid", "unsorted positions"),
    (Wrong(mistake=lambda merged: replace(merged, x=merged.x * 2)), "contributions", "say with Merged.contributions"),
    (Wrong(mistake=lambda merged: replace(merged, flops=1)), "FLOPs", "multiply-adds twice, got 1"),
    (SaysTooMany(), "left is", "count in one place"),
    (FewestTooLow(), "fewest", "raise it"),
    (FewestTooHigh(), "fewest", "lower it"),
    (Draws(), "same again", "seeded torch.Generator"),
    (Writes(), "same again", "writes into its input"),
    (Widens(), "half precision", "type"),
    (NeedsTooMuch(), "needs", "leave it out"),
    (KeepsTheLoudest(), "FLOPs", "count what is compared"),
    (HasAList(layers=[1, 2]), "make a key", "make a tuple of it"),
    (Reducer("it", merge=Checkerboard(), knob="merge.period"), "solved for", "knob_bounds = {'period': (1, 16)}"),
    (Reducer("it", merge=Checkerboard(), knob="merge.colour"), "solved for", "has no setting colour"),
    (SaysTooFew(), "left is", "count in one place"),
    (MostTooLow(), "most is", "raise it"),
    (MostTooHigh(), "most is", "lower it"),
    (AsksForNothing(), "asked first", "reads_question = False"),
    (ReadsAfterAll(), "asked first", "reads_question = True"),
    (Reducer("it", prune=OneTooMany(), knob="prune.scale"), "follows the knob", "mend the rounding"),
    (CannotDoWithout(), "left is", "TypeError"),
    (OfSquares(), "left is", "of 4 frames of 5x3 tokens: IndexError"),
    (ForgetsSizes(), "are means", "weigh them"),
    (MergesTheClassToken(), "class token", "the first one, of itself alone"),
    (Reducer("it", input=TakesOneMore(), knob="input.keep_ratio"), "share of 1", "keep all"),
]


def test_the_suite_counts_its_laws_and_stops_at_the_first_that_does_not_hold() -> None:
    assert check(Checkerboard()) == len(laws_of(Checkerboard()))
    with pytest.raises(AssertionError, match="count in one place"):
        check(SaysTooMany())


def test_a_fact_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match=r"'attention\.recieved'; did you mean attention\.received\?"):
        laws_of(NeedsWhatIsNoFact())


def test_lists_in_yaml_are_accepted_where_methods_take_tuples() -> None:
    """As Hydra's own instantiate hands them over, and as ours does."""
    for kind, settings in (
        (PyramidDrop, {"layers": [2, 4], "keep_ratios": [0.5, 0.25]}),
        (SparseVLM, {"layers": [2, 4], "tokens": [9, 4]}),
    ):
        node = OmegaConf.create({"_target_": f"{kind.__module__}.{kind.__qualname__}", **settings})
        expected = kind(**{name: tuple(value) for name, value in settings.items()})
        for found in (instantiate(node), ours(node), ours(OmegaConf.to_container(node))):
            assert found == expected
            assert hash(found) == hash(expected)


def test_what_the_next_stage_would_cut_from_caches_that_never_held_it_is_refused() -> None:
    with pytest.raises(ValueError, match="earlier_caches must be whole with recycle=true"):
        SparseVLM(earlier_caches="cut")
    assert SparseVLM(earlier_caches="cut", recycle=False).steps(8)


def test_a_merger_is_told_from_a_step_by_what_it_has() -> None:
    merger: Merger = Checkerboard()
    assert {str(law).partition(":")[0] for law in laws_of(merger)} == {"merge"}
    assert {str(law).partition(":")[0] for law in laws_of(Keeps())} == {"prune"}
    assert {str(law).partition(":")[0] for law in laws_of(ToMe())} == {"input"}

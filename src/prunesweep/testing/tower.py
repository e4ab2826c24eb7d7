"""Laws of what merges inside the vision tower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prunesweep.lazy import torch
from prunesweep.reducers import Reducer, called
from prunesweep.testing.counts import is_share, require_one_way, require_proportional
from prunesweep.testing.decoder import same_tensors
from prunesweep.testing.law import Law, require
from prunesweep.testing.settings import add, knob_of, switched, turned
from prunesweep.types.tower import TowerMerger, TowerTokens

LAYERS = 4
CHANNELS, HEAD = 12, 5
SIZES = ((3, 16), (2, 25), (1, 36))
"""Frames and patches."""
CLOSE = 1e-4


@dataclass(frozen=True)
class Walk:
    """Frames on their way through a tower whose layers do nothing but merge."""

    merger: TowerMerger
    frames: int
    patches: int
    class_token: bool
    kind: torch.dtype | None = None

    def __str__(self) -> str:
        own = " and a class token" if self.class_token else ""
        return f"{self.merger} on {self.frames} frames of {self.patches} patches{own}"

    def first(self) -> TowerTokens:
        dice, count = torch.Generator().manual_seed(self.patches), self.patches + self.class_token
        x = torch.randn(self.frames, count, CHANNELS, generator=dice).to(self.kind or torch.float32)
        return TowerTokens(x, x.new_ones(self.frames, count), torch.arange(count).expand(self.frames, -1))

    def layers(self) -> Iterator[tuple[int, TowerTokens, TowerTokens]]:
        """How many a layer is to take, what came to it and what it left."""
        dice, tokens = torch.Generator().manual_seed(7), self.first()
        for fewer in self.merger.schedule(LAYERS, self.patches):
            key = torch.randn(*tokens.x.shape[:2], HEAD, generator=dice).to(tokens.x.dtype)
            before = tokens
            if fewer:
                tokens = self.merger(key, tokens, fewer, self.class_token)
            yield fewer, before, tokens

    def end(self) -> TowerTokens:
        """As the frames leave the tower."""
        tokens, own = [after for *_, after in self.layers()][-1], int(self.class_token)
        return self.merger.ordered(TowerTokens(tokens.x[:, own:], tokens.size[:, own:], tokens.source[:, own:] - own))


def tower_laws(reducer: Reducer) -> list[Law]:
    if not isinstance(reducer.input, TowerMerger):
        return []
    claims: dict[str, Callable[[Reducer], None]] = {
        "tokens are means of the patches that they stand for": means,
        "a layer takes what the schedule says, of at most half": as_scheduled,
        "the class token stays by itself": class_token_stays,
        "the same again is the same": deterministic,
        "half precision comes and goes": types_kept,
        "4. the count follows the knob": follows_knob,
        "3. a share of 1 keeps all": keeps_all,
    }
    return [Law(f"input: {name}", lambda claim=claim: claim(reducer)) for name, claim in claims.items()]


def walks(reducer: Reducer) -> Iterator[Walk]:
    """With each switch turned and some values of the knob."""
    values = turned(reducer, "input")
    some = {f"{reducer.knob}={value}": values[value] for value in list(values)[1::3]}
    for merger in (switched(reducer.input) | some).values():
        for frames, patches in SIZES:
            for class_token in (False, True):
                yield Walk(merger, frames, patches, class_token)


def means(reducer: Reducer) -> None:
    for walk in walks(reducer):
        start, end, own = walk.first(), walk.end(), int(walk.class_token)
        made_of = torch.nn.functional.one_hot(end.source, end.x.shape[1]).float()
        size = made_of.sum(1)
        require(
            torch.equal(size, end.size.float()) and bool((size > 0).all()),
            lambda: f"{walk}: sizes {end.size[0].tolist()[:9]} must be how many patches a token stands for, each of one at least",
        )
        off = float((made_of.mT @ start.x[:, own:].float() / size[..., None] - end.x.float()).abs().max())
        require(
            off <= CLOSE,
            lambda: f"{walk}: tokens are off by {off:.2g} from means of their patches, bound {CLOSE}; weigh them",
        )


def as_scheduled(reducer: Reducer) -> None:
    for walk in walks(reducer):
        schedule = walk.merger.schedule(LAYERS, walk.patches)
        require(
            len(schedule) == LAYERS and min(schedule) >= 0,
            lambda: f"{walk}: the schedule of {LAYERS} layers must be as many numbers from 0 on, got {schedule}",
        )
        for fewer, before, after in walk.layers():
            count = before.x.shape[1]
            real, wanted = count - after.x.shape[1], min(fewer, (count - walk.class_token) // 2)
            require(real == wanted, lambda: f"{walk}: a layer of {count} tokens took {real} of the {wanted} that it was to")


def class_token_stays(reducer: Reducer) -> None:
    for walk in walks(reducer):
        for *_, after in walk.layers() if walk.class_token else ():
            alone = bool((after.source[:, 0] == 0).all() and (after.source[:, 1:] > 0).all())
            require(alone, lambda: f"{walk}: the class token must stay the first one, of itself alone")


def deterministic(reducer: Reducer) -> None:
    for walk in walks(reducer):
        for fewer, before, _ in walk.layers() if not walk.class_token else ():
            key = torch.randn(*before.x.shape[:2], HEAD, generator=torch.Generator().manual_seed(1))
            copies = [x.clone() for x in (key, *before)]
            one, other = (walk.merger(key, before, fewer, walk.class_token) for _ in range(2))
            require(same_tensors(one, other), lambda: f"{walk}: two calls differ; draw with a seeded torch.Generator")
            require(same_tensors(copies, [key, *before]), lambda: f"{walk}: writes into its input; work on a copy")


def types_kept(reducer: Reducer) -> None:
    for kind in (torch.float16, torch.bfloat16):
        end = Walk(reducer.input, *SIZES[0], False, kind).end()  # type: ignore[arg-type]
        require(end.x.dtype == kind, lambda: f"{called(reducer.input)}: {kind} must come back as it came")


def _left(merger: Any, patches: int) -> int:
    return patches - sum(merger.schedule(LAYERS, patches))


def follows_knob(reducer: Reducer) -> None:
    name = knob_of(reducer, "input")
    for _, patches in SIZES if name else ():
        counts = {value: _left(merger, patches) for value, merger in turned(reducer, "input").items()}
        who = f"{called(reducer.input)} on {patches} patches by {name}"
        require_one_way(who, counts, 0)
        if is_share(reducer.input, name):
            require_proportional(who, {value: count for value, count in counts.items() if value * patches >= 1}, patches)


def keeps_all(reducer: Reducer) -> None:
    name, found = knob_of(reducer, "input"), dict[str, Any]()
    if is_share(reducer.input, name):
        add(found, name, reducer.input, {name: 1.0})
    for merger in found.values():
        most = _left(merger, SIZES[0][1])
        require(most == SIZES[0][1], lambda: f"{merger}: {most} of {SIZES[0][1]} patches stay with {name}=1; keep all")

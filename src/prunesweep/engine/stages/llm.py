"""Between the LLM's layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from prunesweep.cost import Usage, scoring_flops
from prunesweep.engine.validity import require_valid_caches, require_valid_change
from prunesweep.lazy import F, torch
from prunesweep.reducers import Change, Evictor, Step, earlier_caches, reads_of
from prunesweep.types import Look, Looks, Memory, Model, Prefix, Run, Seen

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Layers:
    """Decoder layers `start` to `stop` (exclusive) on the whole sequence; adjoining ranges compose."""

    start: int
    stop: int
    received: bool = False
    """Whether a later stage wants to know how much attention each token received."""
    look: Look | None = None
    """What the next stage reads of the last of these layers, once the question has been asked."""
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        if prefix.depth != self.start:
            raise ValueError(f"layers {self.start} to {self.stop} need a prefix of depth {self.start}, got {prefix.depth}")
        asked = 0 if prefix.words is None else len(prefix.words)
        layers, tokens = self.stop - self.start, len(prefix.hidden)
        run = model.run(
            prefix.hidden,
            prefix.position,
            self.start,
            self.stop,
            look=self.look,
            received=self.received,
            looking=asked,
            given=prefix.given,
        )
        scored = layers * scoring_flops(model.shape, tokens, tokens) if self.received else 0
        if run.attention is not None and not self.received:
            scored += scoring_flops(model.shape, asked, tokens)
        return replace(
            prefix,
            hidden=run.hidden,
            kv=prefix.kv + run.kv,
            next_positions=prefix.next_positions + (prefix.next_position,) * layers,
            key=run.key if self.stop < model.layers else None,  # after the last layer nobody prunes
            query=run.query,
            attention=run.attention[:, :, prefix.visual] if run.attention is not None else None,
            seen=prefix.seen + (Seen(prefix.position, prefix.visual),) * layers,
            received=prefix.received + run.received,
            usage=_through(prefix.usage, len(prefix.group), layers, scored),
        )


def _through(usage: Usage, visual: int, layers: int, scored: int = 0) -> Usage:
    """After so many more layers with so many visual tokens, and FLOPs of scoring tokens in them."""
    return replace(
        usage,
        visual_tokens=(*usage.visual_tokens, *(visual,) * layers),
        cached_tokens=(*(usage.cached_tokens or ()), *(visual,) * layers),
        fed_tokens=None if usage.fed_tokens is None else (*usage.fed_tokens, *(visual,) * layers),
        reduction_flops=usage.reduction_flops + scored,
    )


@dataclass(frozen=True)
class Attend:
    """The first half of one decoder layer on the whole sequence, for a step that stands before the other half."""

    layer: int
    look: Look | None = None
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        if prefix.depth != self.layer:
            raise ValueError(f"layer {self.layer} needs a prefix of depth {self.layer}, got {prefix.depth}")
        run = model.attend(prefix.hidden, prefix.position, self.layer, self.look is not None, prefix.given)
        usage = replace(prefix.usage, fed_tokens=prefix.usage.fed_tokens or prefix.usage.visual_tokens)
        usage = replace(_through(usage, len(prefix.group), 1), fed_tokens=usage.fed_tokens)
        return replace(
            prefix,
            hidden=run.hidden,
            kv=prefix.kv + run.kv,
            next_positions=(*prefix.next_positions, prefix.next_position),
            key=None,
            query=run.query,
            seen=(*prefix.seen, Seen(prefix.position, prefix.visual)),
            usage=usage,
        )


@dataclass(frozen=True)
class Feed:
    """The other half."""

    layer: int
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        fed = (*(prefix.usage.fed_tokens or ()), len(prefix.group))
        return replace(
            prefix, hidden=model.feed(prefix.hidden, self.layer, prefix.given), usage=replace(prefix.usage, fed_tokens=fed)
        )


@dataclass(frozen=True)
class Ask:
    """The question, run as one chunk through the layers that the prefix has already been through."""

    question: tuple[int, ...]
    look: Look | None
    """What the next stage reads of the last of these layers."""
    received: bool = False
    """As in Layers."""
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        words = model.embed(self.question)
        rows = len(words)
        run = through_all(prefix, words, model, 0, self.look, self.received)
        position = model.text_position(prefix.next_position, rows)
        visual = torch.zeros(rows, dtype=torch.bool, device=words.device)
        seen = _longer(prefix.seen, prefix.next_positions, visual, model)
        columns = [len(layer.visual) for layer in seen]
        scored = columns if self.received else columns[-1:] if run.attention is not None else []
        query = None if prefix.query is None or run.query is None else torch.cat([prefix.query, run.query], dim=1)
        return replace(
            prefix,
            hidden=torch.cat([prefix.hidden, run.hidden]),
            position=torch.cat([prefix.position, position]),
            visual=torch.cat([prefix.visual, visual]),
            next_position=prefix.next_position + rows,
            next_positions=tuple(place + rows for place in prefix.next_positions),
            words=words,
            kv=run.kv,
            key=None,
            query=query,
            seen=seen,
            attention=run.attention[:, :, seen[-1].visual] if run.attention is not None else None,
            received=tuple(F.pad(r, (0, rows)) + more for r, more in zip(prefix.received, run.received, strict=True)),
            given=prefix.given and prefix.given.put(len(prefix.hidden), rows),
            usage=_through(prefix.usage, 0, 0, sum(scoring_flops(model.shape, rows, count) for count in scored)),
        )


def _longer(seen: tuple[Seen, ...], start: tuple[int, ...], visual: Tensor, model: Model) -> tuple[Seen, ...]:
    """Each layer's tokens and as many of text from its next position on, put together once for layers that have the same."""
    joined: dict[tuple[int, int], Seen] = {}
    for layer, at in zip(seen, start, strict=True):
        if (id(layer), at) not in joined:
            position = torch.cat([layer.position, model.text_position(at, len(visual))])
            joined[id(layer), at] = Seen(position, torch.cat([layer.visual, visual]))
    return tuple(joined[id(layer), at] for layer, at in zip(seen, start, strict=True))


def through_all(
    prefix: Prefix,
    hidden: Float[Tensor, "s c"],
    model: Model,
    step: int = 0,
    look: Look | None = None,
    received: bool = False,
    kv: tuple[Memory, ...] | None = None,
    layers: tuple[int, int] | None = None,
    apart: tuple[int, ...] = (),
) -> Run:
    """Text tokens, the `step`th and following ones after a prefix, on its caches or on `kv`, through the layers that it has
    been through or some of them; each layer has its own count of positions.

    With `apart` they are several continuations of these lengths.
    """
    caches = prefix.kv if kv is None else kv
    first, last = (0, prefix.depth) if layers is None else layers
    run = Run(hidden, (), None)
    done: tuple[Memory, ...] = ()
    seen: tuple[Tensor, ...] = ()
    for start, stop in _alike(prefix.next_positions, first, last):
        at = prefix.next_positions[start] + step
        position = torch.cat([model.text_position(at, rows) for rows in apart or (len(hidden),)])
        wanted, key = (look, prefix.key) if stop == last else (None, None)
        more: dict[str, Any] = {"apart": apart} if apart else {}
        run = model.run(run.hidden, position, start, stop, caches[start:stop], wanted, key, received, **more)
        done, seen = (*done, *run.kv), (*seen, *run.received)
    return run._replace(kv=done, received=seen)


def _alike(values: tuple[int, ...], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of neighbouring layers with the same value."""
    start = first
    for _, group in groupby(values[first:last]):
        stop = start + len(list(group))
        yield start, stop
        start = stop


@dataclass(frozen=True)
class Prune:
    """What a step inside the LLM leaves of the visual tokens goes on with all text tokens.

    The caches so far are cut to the tokens kept, or stay whole.
    """

    pruner: Step
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        prefix, looking = looked(prefix, self.pruner, model)
        change = changed(self.pruner(prefix))
        require_valid_change(self.pruner, change, prefix)
        keep = ~prefix.visual
        keep[prefix.visual.nonzero()[change.keep, 0]] = True
        kept = keep.nonzero()[:, 0]
        usage = replace(prefix.usage, reduction_flops=prefix.usage.reduction_flops + change.flops + looking)
        going_on = replace(
            prefix,
            hidden=prefix.hidden[kept],
            position=prefix.position[kept],
            visual=prefix.visual[kept],
            group=prefix.group[change.keep],
            place=None if prefix.place is None else prefix.place[change.keep],
            attention=None,
            query=None,
            looks=Looks(),
            carried={**prefix.carried, **change.carried},
            given=prefix.given and prefix.given.at(kept),
            usage=usage,
        )
        if earlier_caches(self.pruner) == "cut":
            going_on = _with_caches_cut(going_on, kept)
        return _renumbered(_with_others(going_on, change), change, model)


def looked(prefix: Prefix, step: Step, model: Model) -> tuple[Prefix, int]:
    """The state as the step reads it, and the FLOPs of looking."""
    reads = reads_of(step)
    if not reads:
        return prefix, 0
    tokens, shape = len(prefix.hidden), model.shape
    ahead = normed = rotation = None
    flops = 0
    if "ahead" in reads:
        ahead = model.ahead(prefix.hidden, prefix.position, prefix.depth)[:, None, prefix.visual]
        flops = 2 * tokens * shape.hidden * (shape.heads + shape.kv_heads) * shape.head_size + scoring_flops(shape, 1, tokens)
    if "normed" in reads:
        normed = model.normed(prefix.hidden)
    if "rotation" in reads:
        rotation = model.rotation(prefix.position)
    return replace(prefix, looks=Looks(ahead, normed, rotation)), flops


def changed(said: Int[Tensor, " kept"] | Change) -> Change:
    """What a step says: indices alone are all that changes."""
    return said if isinstance(said, Change) else Change(said)


def _with_others(prefix: Prefix, change: Change) -> Prefix:
    """With the kept visual tokens as the step has changed them, and those that it has made, right behind them."""
    if change.hidden is not None:
        at = prefix.visual.nonzero()[:, 0]
        prefix = replace(prefix, hidden=prefix.hidden.index_copy(0, at, change.hidden.to(prefix.hidden.dtype)))
    if change.extra is None or not len(change.extra):
        return prefix
    more = len(change.extra)
    last = int(prefix.visual.nonzero()[-1])
    behind = last + 1

    def put(x: Tensor, new: Tensor) -> Tensor:
        return torch.cat([x[:behind], new, x[behind:]])

    return replace(
        prefix,
        hidden=put(prefix.hidden, change.extra.to(prefix.hidden.dtype)),
        position=put(prefix.position, prefix.position[last : last + 1].expand(more, *prefix.position.shape[1:])),
        visual=put(prefix.visual, torch.ones(more, dtype=torch.bool, device=prefix.visual.device)),
        group=torch.cat([prefix.group, prefix.group[-1:].expand(more)]),
        place=None if prefix.place is None else torch.cat([prefix.place, prefix.place[-1:].expand(more)]),
        given=prefix.given and prefix.given.put(behind, more),
    )


def _renumbered(prefix: Prefix, change: Change, model: Model) -> Prefix:
    if change.positions == "original":
        return prefix
    if prefix.position.ndim > 1:
        raise ValueError(
            "tokens with places in time and space cannot be counted anew between layers; set the step's positions=original"
        )
    return replace(prefix, position=model.text_position(0, len(prefix.hidden)), next_position=len(prefix.hidden))


def _with_caches_cut(prefix: Prefix, kept: Int[Tensor, " kept"]) -> Prefix:
    """The caches that hold the sequence as it was, without what is no longer in it."""
    return replace(
        prefix,
        kv=tuple(memory.at(kept) for memory in prefix.kv),
        seen=(Seen(prefix.position, prefix.visual),) * prefix.depth,
        received=tuple(r[:, kept] for r in prefix.received),
        usage=replace(prefix.usage, cached_tokens=(len(prefix.group),) * prefix.depth),
    )


@dataclass(frozen=True)
class Evict:
    """Smaller caches for what comes after the prompt; the prompt itself has been through all layers."""

    evictor: Evictor
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        caches = zip(prefix.caches, prefix.received, prefix.seen, strict=True)
        kept = [self.evictor(kv, received, seen.visual) for kv, received, seen in caches]
        require_valid_caches(self.evictor, kept, prefix)
        return replace(
            prefix,
            kv=tuple(cache.kv for cache in kept),
            seen=(),
            received=(),
            usage=replace(
                prefix.usage,
                cached_tokens=tuple(cache.visual for cache in kept),
                reduction_flops=prefix.usage.reduction_flops + sum(cache.flops for cache in kept),
            ),
        )

"""From the prompt to an answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from prunesweep.cost import Usage, scoring_flops
from prunesweep.engine.stages.llm import through_all
from prunesweep.engine.validity import (
    require_finite_logit,
    require_finite_scores,
)
from prunesweep.lazy import torch
from prunesweep.reducers import Decoding
from prunesweep.types import Answer, KeyValue, Memory, Model, Prefix, Recurrent

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass(frozen=True)
class Choose:
    """The option with the highest log-likelihood as a continuation of the prompt."""

    options: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    decoding: Decoding | None = None
    """As in Generate: options of several tokens are scored token by token then."""
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Answer:
        first = model.logits(prefix.hidden[-1:]).float().log_softmax(-1)
        writers = [Writer(prefix, model, self.decoding) for _ in self.options]
        scores = tuple(self._score(*each, first, prefix, model) for each in zip(self.options, writers, strict=True))
        require_finite_scores(scores)
        best = scores.index(max(scores))
        rows = [len(option) - 1 for option in self.options]
        usage = replace(_asked(prefix), option_rows=sum(rows), option_pairs=sum(n * n for n in rows))
        return Answer(self.texts[best], (), scores, _with_decoding(usage, *writers))

    def _score(self, option: tuple[int, ...], writer: Writer, first: torch.Tensor, prefix: Prefix, model: Model) -> float:
        score = first[0, option[0]]
        if len(option) > 1:
            embedded = model.embed(option[:-1])
            if self.decoding is None:
                hidden = through_all(prefix, embedded, model).hidden
            else:
                hidden = torch.cat([writer.write(token[None]) for token in embedded])
            following = model.logits(hidden).float().log_softmax(-1)
            score = score + following.gather(1, torch.tensor(option[1:], device=following.device)[:, None]).sum()
        return float(score)


@dataclass(frozen=True)
class Generate:
    """Greedy decoding on the pruned caches."""

    most_tokens: int
    decoding: Decoding | None = None
    """Which of the cached tokens each generated token attends to."""
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Answer:
        ids: list[int] = []
        writer = Writer(prefix, model, self.decoding)
        for token in greedy(prefix, model, writer):
            ids.append(token)
            if token in model.stop_ids or len(ids) == self.most_tokens:
                break
        return Answer(model.detokenize(tuple(ids)), tuple(ids), (), answered_usage(prefix, len(ids), writer))


def greedy(prefix: Prefix, model: Model, writer: Writer | None = None) -> Iterator[int]:
    """The likeliest token after a prefix, then the likeliest after that, without end.

    Raises InvalidError where the logits are NaN, or the largest one is infinite.
    """
    writer = writer or Writer(prefix, model)
    logits = model.logits(prefix.hidden[-1:])
    for step in count():
        last = logits[-1].float()
        index, best = torch.stack([last.argmax().float(), last.amax()]).tolist()  # one wait for the device; exact to 2^24
        require_finite_logit(best, step + 1)
        token = int(index)
        yield token
        logits = model.logits(writer.write(model.embed((token,))))


class Writer:
    """Runs generated tokens, one at a time, through all layers on caches that grow."""

    def __init__(self, prefix: Prefix, model: Model, decoding: Decoding | None = None):
        self.prefix, self.model, self.decoding = prefix, model, decoding
        self.kv = prefix.kv
        self.written = 0
        self.earlier: Any = None
        self.flops = 0
        self._attended = [0] * model.layers

    @property
    def attended(self) -> tuple[int, ...] | None:
        """Visual tokens attended to in each layer, summed over the tokens written; None: all in cache, each time."""
        return tuple(self._attended) if self.decoding is not None and self.written else None

    def write(self, token: Float[Tensor, "1 c"]) -> Float[Tensor, "1 c"]:
        """The token's hidden state after the last layer."""
        if self.decoding is None:
            run = through_all(self.prefix, token, self.model, self.written, kv=self.kv)
            self.kv, self.written = run.kv, self.written + 1
            return run.hidden
        full, layers = self.decoding.full_layers, self.model.layers
        before = through_all(self.prefix, token, self.model, self.written, "causal", kv=self.kv, layers=(0, full))
        visual = self.prefix.seen[full - 1].visual.nonzero()[:, 0]
        keep, self.earlier = self.decoding(before.attention[:, 0, visual], self.earlier)  # type: ignore[index]
        self.flops += scoring_flops(self.model.shape, 1, before.attention.shape[2])  # type: ignore[union-attr]
        reduced = tuple(self._reduced(layer, keep) for layer in range(full, layers))
        after = through_all(
            self.prefix, before.hidden, self.model, self.written, kv=(*self.kv[:full], *reduced), layers=(full, layers)
        )
        grown = tuple(_appended(self.kv[full + index], new) for index, new in enumerate(after.kv))
        self.kv, self.written = (*before.kv, *grown), self.written + 1
        for layer in range(layers):
            there = int(self.prefix.seen[layer].visual.sum())
            self._attended[layer] += there if layer < full or keep is None else len(keep)
        return after.hidden

    def _reduced(self, layer: int, keep: Int[Tensor, " kept"] | None) -> Memory:
        """A layer's cache without the visual tokens that are left out for this token."""
        cache = self.kv[layer]
        if keep is None or isinstance(cache, Recurrent):
            return cache
        visual = self.prefix.seen[layer].visual
        there = torch.ones(cache.tokens, dtype=torch.bool, device=visual.device)
        place = visual.nonzero()[:, 0]
        there[place] = False
        there[place[keep]] = True
        return cache.at(there.nonzero()[:, 0])


def _appended(cache: Memory, longer: Memory) -> Memory:
    """A cache with the last token of another."""
    if isinstance(longer, Recurrent):
        return longer
    return KeyValue(*(torch.cat([old, new[:, :, -1:]], dim=2) for old, new in zip(cache, longer, strict=True)))


def answered_usage(prefix: Prefix, generated: int, writer: Writer) -> Usage:
    """Of so many tokens after a prompt."""
    return _with_decoding(replace(_asked(prefix), generated_tokens=generated), writer)


def _with_decoding(usage: Usage, *writers: Writer) -> Usage:
    """With what their tokens attended to, where that is not all in cache, and what it took to choose it."""
    attended = [writer.attended for writer in writers if writer.attended is not None]
    if not attended:
        return usage
    flops = usage.reduction_flops + sum(writer.flops for writer in writers)
    return replace(usage, attended_tokens=tuple(map(sum, zip(*attended, strict=True))), reduction_flops=flops)


def _asked(prefix: Prefix) -> Usage:
    """What the prompt took."""
    return replace(prefix.usage, text_tokens=int((~prefix.visual).sum()))

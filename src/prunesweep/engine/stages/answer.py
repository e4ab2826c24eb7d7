"""From the prompt to an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from prunesweep.cost import Usage, scoring_flops
from prunesweep.engine.stages.llm import through_all
from prunesweep.engine.validity import (
    InvalidError,
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
        writers = [Writer(prefix, model, self.decoding) for _ in self.options]
        first = model.logits(prefix.hidden[-1:]).float().log_softmax(-1)[0]
        scores = first[self._ids([option[0] for option in self.options], first)]
        longer = [index for index, option in enumerate(self.options) if len(option) > 1]
        if longer:
            hidden = self._hidden(
                [self.options[index][:-1] for index in longer], [writers[index] for index in longer], prefix, model
            )
            following = model.logits(hidden).float().log_softmax(-1)
            rows = [index for index in longer for _ in self.options[index][1:]]
            ids = self._ids([token for index in longer for token in self.options[index][1:]], following)
            scores = scores.index_add(0, self._ids(rows, scores), following.gather(1, ids[:, None])[:, 0])
        found = tuple(scores.tolist())
        require_finite_scores(found)
        more = [len(option) - 1 for option in self.options]
        usage = replace(_asked(prefix), option_rows=sum(more), option_pairs=sum(n * n for n in more))
        return Answer(self.texts[found.index(max(found))], (), found, _with_decoding(usage, *writers))

    def _hidden(
        self, options: Sequence[tuple[int, ...]], writers: Sequence[Writer], prefix: Prefix, model: Model
    ) -> Float[Tensor, "rows c"]:
        """After the last layer: of all options in one pass, of which each sees itself only, wherever layers allow it."""
        embedded = [model.embed(option) for option in options]
        if self.decoding is not None:
            return torch.cat([writer.write(row[None]) for rows, writer in zip(embedded, writers, strict=True) for row in rows])
        if len(prefix.caches) < prefix.depth:  # a layer that reads in order cannot leave the others' tokens out
            return torch.cat([through_all(prefix, rows, model).hidden for rows in embedded])
        return through_all(prefix, torch.cat(embedded), model, apart=tuple(map(len, options))).hidden

    @staticmethod
    def _ids(ids: Sequence[int], like: Tensor) -> Int[Tensor, " n"]:
        return torch.tensor(ids, device=like.device)


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


@dataclass
class Written:
    """One row of a batch: what it has said so far."""

    stage: Generate
    ids: list[int] = field(default_factory=list)
    fault: Exception | None = None
    done: bool = False

    def take(self, token: int, best: float, model: Model) -> None:
        """One more token, whose logit is `best`; none any more where it has ended."""
        if self.done:
            return
        try:
            require_finite_logit(best, len(self.ids) + 1)
        except InvalidError as error:
            self.fault, self.done = error, True
            return
        self.ids.append(token)
        self.done = token in model.stop_ids or len(self.ids) == self.stage.most_tokens

    def answer(self, prefix: Prefix, model: Model) -> Answer | Exception:
        ids = tuple(self.ids)
        return self.fault or Answer(model.detokenize(ids), ids, (), answered_usage(prefix, len(ids)))


def generate_together(stages: Sequence[Generate], prefixes: Sequence[Prefix], model: Model) -> list[Answer | Exception]:
    """What each of these stages answers by itself, a token of all of them at a time.

    An InvalidError in the place of an answer whose logits cannot be used.
    """
    written = [Written(stage) for stage in stages]
    rows = written
    branches = model.branches([prefix.kv for prefix in prefixes], [prefix.next_positions for prefix in prefixes])
    logits = model.logits(torch.cat([prefix.hidden[-1:] for prefix in prefixes]))
    while True:
        token, said = _likeliest(logits)
        for row, (index, best) in zip(rows, said, strict=True):
            row.take(int(index), best, model)
        going = [place for place, row in enumerate(rows) if not row.done]
        if not going:
            return [row.answer(prefix, model) for row, prefix in zip(written, prefixes, strict=True)]
        if len(going) <= SPARSE * len(rows):
            branches.keep(going)
            token, rows = token[going], [rows[place] for place in going]
        logits = model.logits(branches.write(model.embed(token)))


SPARSE = 0.5
"""Rows that have ended go along until no more than this share still writes: leaving them out takes a copy of all caches."""


def _likeliest(logits: Float[Tensor, "b vocabulary"]) -> tuple[Int[Tensor, " b"], list[list[float]]]:
    """The likeliest token of each row; and its number and logit, for which the device is waited for once.

    Numbers are exact as floats up to 2^24.
    """
    last = logits.float()
    token = last.argmax(-1)
    return token, torch.stack([token.float(), last.amax(-1)], dim=1).tolist()


def greedy(prefix: Prefix, model: Model, writer: Writer | None = None) -> Iterator[int]:
    """The likeliest token after a prefix, then the likeliest after that, without end.

    Raises InvalidError where the logits are NaN, or the largest one is infinite.
    """
    writer = writer or Writer(prefix, model)
    logits = model.logits(prefix.hidden[-1:])
    for step in count():
        token, ((index, best),) = _likeliest(logits[-1:])
        require_finite_logit(best, step + 1)
        yield int(index)
        logits = model.logits(writer.write(model.embed(token)))


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


def answered_usage(prefix: Prefix, generated: int, *writers: Writer) -> Usage:
    """Of so many tokens after a prompt."""
    return _with_decoding(replace(_asked(prefix), generated_tokens=generated), *writers)


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

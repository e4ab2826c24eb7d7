"""The stages of a trial: frozen callables, each of which turns one state into the next.

A stage's fields are everything it reads besides state and model, so equal stages on equal states give equal results and
are run once.  `plan` is the one place that knows their order:

    Decode -> Encode -> Reduce -> Embed -> Layers(0, M) -> Ask -> Prune -> Layers(M, L) -> Evict -> Choose or Generate

Each stage names the kind of work (`share`) that its seconds are booked under.

The system prompt and the video come before the question, so everything up to Ask is the same for all questions on a
video.  Without pruning M is L, and Ask alone runs the question through all layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from prunesweep.cost import Usage, scoring_flops
from prunesweep.engine.encoder_cache import EncoderCache
from prunesweep.engine.validity import (
    require_finite_logit,
    require_finite_scores,
    require_merged,
    require_valid_caches,
    require_valid_choice,
    require_valid_merge,
    valid_tokens,
)
from prunesweep.lazy import F, torch
from prunesweep.reducers import Evictor, Merger, Pruner, earlier_caches, merges_patches, needs_of
from prunesweep.types import Answer, AttentionVariant, Clip, KeyValue, Merged, Model, Prefix, Sampling, Seen, Tokens
from prunesweep.video.reader import DECODE_SECONDS, read_clip

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


@dataclass(frozen=True)
class Decode:
    """Frames of a video file or of a folder of frames."""

    path: Path
    video_id: str
    frames: int
    start: float | None
    end: float | None
    sampling: Sampling = "even"
    frame_rate: float | None = None
    """Of a folder."""
    seconds: float = field(default=DECODE_SECONDS, compare=False)
    """Most processor time; it decides whether there is an answer, not which."""
    share = "decode"

    def __call__(self, _: None, model: Model) -> Clip:
        part = (self.start, self.end)
        return read_clip(self.path, self.video_id, self.frames, *part, self.sampling, self.frame_rate, self.seconds)


@dataclass(frozen=True)
class Encode:
    """Visual tokens: vision tower, projector, pooling."""

    scale: float = 1.0
    """Of the sides of the frames that the tower sees."""
    needs: tuple[str, ...] = ()
    """Facts that the next stage reads."""
    question: str | None = None
    """Of models whose vision tower reads it: such tokens are shared by trials only, not by questions on a video."""
    share = "encode"

    def __call__(self, clip: Clip, model: Model) -> Tokens:
        return valid_tokens(model.encode(clip, self.scale, self.needs, self.question))


@dataclass(frozen=True)
class Kept:
    """What decoding and encoding give, read from disk if it was computed before."""

    stages: tuple[Decode, Encode]
    cache: EncoderCache = field(compare=False)
    share = "encode"

    def __call__(self, _: None, model: Model) -> Tokens:
        decode, encode = self.stages
        path = self.cache.path_of(self.stages, model)
        kept = self.cache.read(path, decode.video_id, str(model.network.device))
        if kept is not None:
            return valid_tokens(kept)
        tokens = encode(decode(None, model), model)
        self.cache.write(path, tokens)
        return tokens


@dataclass(frozen=True)
class Reduce:
    """The visual tokens that enter the LLM: all of them, or what a merger makes of them."""

    merge: Merger | None
    share = "merge"

    def __call__(self, tokens: Tokens, model: Model) -> Merged:
        if self.merge is None:
            return _unmerged(tokens)
        merged = self.merge(tokens)
        require_merged(self.merge, merged, tokens)
        needed = sum(tokens.facts[name].flops for name in needs_of(self.merge))
        merged = replace(merged, flops=merged.flops + needed)
        if merges_patches(self.merge):
            merged = replace(merged, x=model.project(merged.x))
        require_valid_merge(self.merge, merged, tokens.x.shape[2])
        return merged


def _unmerged(tokens: Tokens) -> Merged:
    frames, patches, _ = tokens.x.shape
    index = torch.arange(frames * patches, device=tokens.x.device)
    return Merged(
        tokens=tokens,
        x=tokens.x.flatten(0, 1),
        group=index // patches,
        source=index.view(frames, patches),
        position=index,
        span=frames * patches,
    )


@dataclass(frozen=True)
class Embed:
    """The prompt up to the question: text before the video, visual tokens, the model's suffix."""

    before: tuple[int, ...]
    share = "LLM"

    def __call__(self, merged: Merged, model: Model) -> Prefix:
        text = model.embed(self.before)
        suffix = merged.tokens.suffix.to(text.dtype)
        hidden = torch.cat([text, merged.x.to(text.dtype), suffix])
        device = hidden.device
        places = model.places(merged)
        start, stop = len(text), len(text) + places.span
        visual = torch.zeros(len(hidden), dtype=torch.bool, device=device)
        visual[start : start + len(merged.x)] = True
        position = torch.cat(
            [
                model.text_position(0, start),
                start + places.visual,
                model.text_position(stop, len(suffix)),
            ]
        )
        return Prefix(
            video_id=merged.tokens.video_id,
            hidden=hidden,
            position=position,
            visual=visual,
            group=merged.group,
            next_position=stop + len(suffix),
            usage=Usage(
                frames=len(merged.tokens.x) if merged.tokens.frames is None else merged.tokens.frames,
                dense_tokens=merged.tokens.dense_tokens,
                reduction_flops=merged.flops,
                cached_tokens=(),
                vision_patches=merged.tokens.vision_patches,
            ),
        )


@dataclass(frozen=True)
class Layers:
    """Decoder layers `start` to `stop` (exclusive) on the whole sequence; adjoining ranges compose."""

    start: int
    stop: int
    received: bool = False
    """Whether a later stage wants to know how much attention each token received."""
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        if prefix.depth != self.start:
            raise ValueError(f"layers {self.start} to {self.stop} need a prefix of depth {self.start}, got {prefix.depth}")
        run = model.run(prefix.hidden, prefix.position, self.start, self.stop, received=self.received)
        layers, tokens = self.stop - self.start, len(prefix.hidden)
        scored = layers * scoring_flops(model.shape, tokens, tokens) if self.received else 0
        return replace(
            prefix,
            hidden=run.hidden,
            kv=prefix.kv + run.kv,
            key=run.key if self.stop < model.layers else None,  # after the last layer nobody prunes
            seen=prefix.seen + (Seen(prefix.position, prefix.visual),) * layers,
            received=prefix.received + run.received,
            usage=_through(prefix.usage, len(prefix.group), layers, scored),
        )


def _through(usage: Usage, visual: int, layers: int, scored: int) -> Usage:
    """After so many more layers with so many visual tokens, and FLOPs of scoring tokens in them."""
    return replace(
        usage,
        visual_tokens=(*usage.visual_tokens, *(visual,) * layers),
        cached_tokens=(*(usage.cached_tokens or ()), *(visual,) * layers),
        reduction_flops=usage.reduction_flops + scored,
    )


@dataclass(frozen=True)
class Ask:
    """The question, run as one chunk through the layers that the prefix has already been through."""

    question: tuple[int, ...]
    attention: AttentionVariant | None
    """What the next stage reads of how the question attends to the visual tokens in the last of these layers."""
    received: bool = False
    """As in Layers."""
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        hidden = model.embed(self.question)
        rows = len(hidden)
        position = model.text_position(prefix.next_position, rows)
        run = model.run(hidden, position, 0, prefix.depth, prefix.kv, self.attention, prefix.key, self.received)
        asked = Seen(position, torch.zeros(rows, dtype=torch.bool, device=hidden.device))
        seen = _longer(prefix.seen, asked)
        columns = [len(layer.visual) for layer in seen]
        scored = columns if self.received else columns[-1:] if self.attention else []
        return replace(
            prefix,
            hidden=torch.cat([prefix.hidden, run.hidden]),
            position=torch.cat([prefix.position, position]),
            visual=torch.cat([prefix.visual, asked.visual]),
            next_position=prefix.next_position + rows,
            kv=run.kv,
            key=None,
            seen=seen,
            attention=run.attention[:, :, seen[-1].visual] if run.attention is not None else None,
            received=tuple(F.pad(r, (0, rows)) + more for r, more in zip(prefix.received, run.received, strict=True)),
            usage=_through(prefix.usage, 0, 0, sum(scoring_flops(model.shape, rows, count) for count in scored)),
        )


def _longer(seen: tuple[Seen, ...], more: Seen) -> tuple[Seen, ...]:
    """Each layer's tokens and `more`, put together once for layers that have the same."""
    distinct = {id(layer): layer for layer in seen}
    joined = {key: Seen(*(torch.cat(pair) for pair in zip(layer, more, strict=True))) for key, layer in distinct.items()}
    return tuple(joined[id(layer)] for layer in seen)


@dataclass(frozen=True)
class Prune:
    """Only the chosen visual tokens and all text tokens go on; the caches so far are cut to them, or stay whole."""

    pruner: Pruner
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Prefix:
        chosen = self.pruner(prefix)
        require_valid_choice(self.pruner, chosen, prefix)
        keep = ~prefix.visual
        keep[prefix.visual.nonzero()[chosen, 0]] = True
        kept = keep.nonzero()[:, 0]
        going_on = replace(
            prefix,
            hidden=prefix.hidden[kept],
            position=prefix.position[kept],
            visual=prefix.visual[kept],
            group=prefix.group[chosen],
            attention=None,
        )
        return going_on if earlier_caches(self.pruner) == "whole" else _with_caches_cut(going_on, kept)


def _with_caches_cut(prefix: Prefix, kept: Int[Tensor, " kept"]) -> Prefix:
    """The caches that hold the sequence as it was, without what is no longer in it."""
    return replace(
        prefix,
        kv=tuple(KeyValue(k.index_select(2, kept), v.index_select(2, kept)) for k, v in prefix.kv),
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
        caches = zip(prefix.kv, prefix.received, prefix.seen, strict=True)
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


METHOD_STAGES = (Reduce, Prune, Evict)
"""Those that run a method's own code."""


@dataclass(frozen=True)
class Choose:
    """The option with the highest log-likelihood as a continuation of the prompt."""

    options: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Answer:
        first = model.logits(prefix.hidden[-1:]).float().log_softmax(-1)
        scores = tuple(self._score(option, first, prefix, model) for option in self.options)
        require_finite_scores(scores)
        best = scores.index(max(scores))
        rows = [len(option) - 1 for option in self.options]
        usage = replace(_asked(prefix), option_rows=sum(rows), option_pairs=sum(n * n for n in rows))
        return Answer(self.texts[best], (), scores, usage)

    def _score(self, option: tuple[int, ...], first: torch.Tensor, prefix: Prefix, model: Model) -> float:
        score = first[0, option[0]]
        if len(option) > 1:
            following = _continue(prefix, option[:-1], model).log_softmax(-1)
            score = score + following.gather(1, torch.tensor(option[1:], device=following.device)[:, None]).sum()
        return float(score)


@dataclass(frozen=True)
class Generate:
    """Greedy decoding on the pruned caches."""

    most_tokens: int
    share = "LLM"

    def __call__(self, prefix: Prefix, model: Model) -> Answer:
        ids: list[int] = []
        for token in greedy(prefix, model):
            ids.append(token)
            if token in model.stop_ids or len(ids) == self.most_tokens:
                break
        usage = replace(_asked(prefix), generated_tokens=len(ids))
        return Answer(model.detokenize(tuple(ids)), tuple(ids), (), usage)


def greedy(prefix: Prefix, model: Model) -> Iterator[int]:
    """The likeliest token after a prefix, then the likeliest after that, without end.

    Raises InvalidError where the logits are NaN, or the largest one is infinite.
    """
    logits, kv = model.logits(prefix.hidden[-1:]), prefix.kv
    for step in count():
        last = logits[-1].float()
        index, best = torch.stack([last.argmax().float(), last.amax()]).tolist()  # one wait for the device; exact to 2^24
        require_finite_logit(best, step + 1)
        token, position = int(index), prefix.next_position + step
        yield token
        run = model.run(model.embed((token,)), model.text_position(position, 1), 0, model.layers, kv)
        logits, kv = model.logits(run.hidden), run.kv


def _continue(prefix: Prefix, ids: tuple[int, ...], model: Model) -> torch.Tensor:
    """Logits after each of a few given tokens, `len(ids) vocabulary`, in float32."""
    hidden = model.embed(ids)
    position = model.text_position(prefix.next_position, len(ids))
    return model.logits(model.run(hidden, position, 0, model.layers, prefix.kv).hidden).float()


def _asked(prefix: Prefix) -> Usage:
    """What the prompt took."""
    return replace(prefix.usage, text_tokens=int((~prefix.visual).sum()))

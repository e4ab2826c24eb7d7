"""LLaVA-Video, pruned, decodes as a second implementation does: plain formulas on the released tensors, by their released names.

Nothing of the engine, of the adapter or of transformers' decoder and caches is in it.  The tower alone is stock SigLIP.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from prunesweep.engine.plan import inside
from prunesweep.engine.stages import Embed, Generate, Reduce
from prunesweep.engine.stages.answer import Writer
from prunesweep.reducers import Reducer
from prunesweep.types import Clip
from support.trials import reducer_of
from support.zoo import clip_of

QUESTION = "what color is the block ?"
GENERATED = 8
SIDE = 3
"""Rows and columns of a frame's tokens."""
WORDS = tuple(range(40, 40 + GENERATED))
"""That the network is made to write: by itself a random one soon says the same again and again."""
CLOSE = 1e-3
"""Of logits, which are summed in another order; the largest are above 5."""
SHORT, LONG = clip_of(3), clip_of(24, 13.0)


class Sequence(NamedTuple):
    """A prompt, embedded."""

    x: Tensor
    visual: Tensor
    question: int
    """Its tokens, which are the last ones."""
    places: int
    """That it takes up, those of dropped tokens among them."""
    at: Tensor


@dataclass
class Plain:
    """Qwen2 with the projector and newlines of the release, a formula a line."""

    folder: Path
    state: dict[str, Tensor] = field(init=False)
    config: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.state = {name: tensor for file in self.folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
        self.config = json.loads((self.folder / "config.json").read_text())

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def normed(self, x: Tensor, name: str) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * self.state[f"{name}.weight"]

    def frame(self, seen: Tensor) -> Tensor:
        """Rows of a frame's tokens: projected, and means of two by two; of seven rows and columns the last go."""
        x = self.linear(F.gelu(self.linear(seen, "model.mm_projector.0")), "model.mm_projector.2")
        x = x.unflatten(0, (7, 7))[: 2 * SIDE, : 2 * SIDE]
        return x.unflatten(1, (SIDE, 2)).unflatten(0, (SIDE, 2)).mean((1, 3))

    def rotated(self, x: Tensor, at: Tensor) -> Tensor:
        half = x.shape[-1] // 2
        angle = at[:, None] / self.config["rope_theta"] ** (torch.arange(half) / half)
        one, other = x[..., :half], x[..., half:]
        return torch.cat([one * angle.cos() - other * angle.sin(), other * angle.cos() + one * angle.sin()], -1)

    def layer(self, x: Tensor, at: Tensor, index: int, past: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Any, Tensor]:
        """What a layer makes of rows at these places; keys and values; the attention of the rows."""
        name, heads = f"model.layers.{index}", self.config["num_attention_heads"]
        h = self.normed(x, f"{name}.input_layernorm")
        query, key, value = (
            self.linear(h, f"{name}.self_attn.{part}_proj").unflatten(1, (-1, x.shape[1] // heads)).transpose(0, 1)
            for part in "qkv"
        )
        query, key = self.rotated(query, at), self.rotated(key, at)
        if past is not None:
            key, value = torch.cat([past[0], key], 1), torch.cat([past[1], value], 1)
        shared = heads // len(key)
        scores = query @ key.repeat_interleave(shared, 0).mT / math.sqrt(query.shape[-1])
        unseen = torch.ones(scores.shape[1:], dtype=torch.bool).triu(scores.shape[2] - len(x) + 1)
        attention = scores.masked_fill(unseen, -torch.inf).softmax(-1)
        mixed = (attention @ value.repeat_interleave(shared, 0)).transpose(0, 1).flatten(1)
        x = x + self.linear(mixed, f"{name}.self_attn.o_proj")
        h = self.normed(x, f"{name}.post_attention_layernorm")
        fed = F.silu(self.linear(h, f"{name}.mlp.gate_proj")) * self.linear(h, f"{name}.mlp.up_proj")
        return x + self.linear(fed, f"{name}.mlp.down_proj"), (key, value), attention

    def logits(self, x: Tensor) -> Tensor:
        return self.linear(self.normed(x[-1], "model.norm"), "lm_head")

    def prompt(self, model: Any, clip: Clip, frame: Callable[[Tensor], list[Tensor]] | None = None) -> Sequence:
        """`frame` gives each row's tokens that are left of a frame's; a newline closes every row."""
        seen = model.network.vision_tower(model._pixels(clip, 56), output_hidden_states=True).hidden_states[-1]
        table, newline = self.state["model.embed_tokens.weight"], self.state["model.image_newline"]
        before, after = (table[list(ids)] for ids in model.prompt(QUESTION))
        rows = [row for patches in seen for row in (frame or list)(self.frame(patches))]
        x = torch.cat([before, *(part for row in rows for part in (row, newline[None])), after])
        marks = [torch.tensor([True] * len(row) + [False]) for row in rows]
        visual = torch.cat([torch.zeros(len(before)), *marks, torch.zeros(len(after))]).bool()
        return Sequence(x, visual, len(after), len(x), torch.arange(len(x)))


class Step(NamedTuple):
    """After a layer: which visual tokens stay, by its attention."""

    layer: int
    share: Callable[[int], int]
    """Of the number that entered."""
    importance: Callable[[Tensor], Tensor] = lambda rows: rows[:, -1].mean(0)
    """Of the question's rows on the visual tokens."""
    cut: bool = False
    """The caches of layers that ran before, too."""
    anew: bool = False
    """Places are counted."""


class Said(NamedTuple):
    """By a network after a prompt."""

    greedy: tuple[int, ...]
    seen: list[int]
    """Visual tokens, by each layer."""
    logits: Tensor
    """After the prompt, and after each of WORDS."""


class Prefill(NamedTuple):
    """A prompt behind the last layer."""

    x: Tensor
    caches: list[tuple[Tensor, Tensor]]
    places: list[int]
    """Where text goes on, in each layer."""
    seen: list[int]


def left(attention: Tensor, prompt: Sequence, step: Step, entered: int) -> Tensor:
    """Rows of a prompt, text among them, that stay after a step."""
    importance = step.importance(attention[:, -prompt.question :][..., prompt.visual])
    best = importance.sort(descending=True, stable=True).indices[: step.share(entered)]
    return torch.cat([(~prompt.visual).nonzero()[:, 0], prompt.visual.nonzero()[best, 0]]).sort().values


def prefill(plain: Plain, prompt: Sequence, steps: tuple[Step, ...]) -> Prefill:
    entered, attention = int(prompt.visual.sum()), torch.empty(0)
    caches: list[tuple[Tensor, Tensor]] = []
    places, seen = [], []
    for index in range(plain.config["num_hidden_layers"]):
        for step in steps:
            if step.layer == index:
                stay = left(attention, prompt, step, entered)
                prompt = prompt._replace(x=prompt.x[stay], visual=prompt.visual[stay], at=prompt.at[stay])
                if step.cut:
                    caches = [(key[:, stay], value[:, stay]) for key, value in caches]
                if step.anew:
                    prompt = prompt._replace(at=torch.arange(len(stay)), places=len(stay))
        x, cache, attention = plain.layer(prompt.x, prompt.at, index, None)
        prompt = prompt._replace(x=x)
        caches.append(cache)
        places.append(prompt.places)
        seen.append(int(prompt.visual.sum()))
    return Prefill(prompt.x, caches, places, seen)


def by_formulas(plain: Plain, prompt: Sequence, steps: tuple[Step, ...]) -> Said:
    begun = prefill(plain, prompt, steps)

    def written(words: tuple[int, ...] | None) -> tuple[list[int], Tensor]:
        """Logits; after the likeliest words, where none are given."""
        caches, logits, said = list(begun.caches), [plain.logits(begun.x)], []
        for step in range(GENERATED):
            said.append(int(logits[-1].argmax()) if words is None else words[step])
            x = plain.state["model.embed_tokens.weight"][said[-1:]]
            for index, place in enumerate(begun.places):
                x, caches[index], _ = plain.layer(x, torch.tensor([place + step]), index, caches[index])
            logits.append(plain.logits(x))
        return said, torch.stack(logits)

    return Said(tuple(written(None)[0]), begun.seen, written(WORDS)[1])


def strided(rows: Tensor) -> list[Tensor]:
    """The corners: the middles of two by two blocks of three rows and columns, rounded down and up."""
    return [rows[0, [0, 2]], rows[1, :0], rows[2, [0, 2]]]


def averaged(rows: Tensor) -> list[Tensor]:
    """A frame's mean, where its first token was."""
    return [rows.mean((0, 1))[None], rows[1, :0], rows[2, :0]]


def at_old_places(prompt: Sequence, frames: int) -> Sequence:
    """Of `strided`: those of the whole video's tokens, of which text after it goes on behind the last."""
    row, empty = [True, False, True, True], [False, False, False, True]
    there = torch.tensor([*row, *empty, *row]).repeat(frames)
    before = int(prompt.visual.nonzero()[0])
    begin = before + len(there)
    at = torch.cat([torch.arange(before), before + there.nonzero()[:, 0], begin + torch.arange(prompt.question)])
    return prompt._replace(at=at, places=begin + prompt.question)


class Method(NamedTuple):
    """A method of the package, and the same in plain words."""

    reducer: Callable[[], Reducer]
    steps: tuple[Step, ...] = ()
    frame: Callable[[Tensor], list[Tensor]] | None = None
    old_places: bool = False


FASTV = Step(2, lambda n: round(0.4 * n))
METHODS = {
    "none": Method(lambda: reducer_of("none")),
    "fastv": Method(lambda: reducer_of("fastv", prune__keep_ratio=0.4), (FASTV,)),
    "prunevid's selection": Method(
        lambda: reducer_of("prunevid", merge=None, prune__layer=3),
        (Step(3, lambda n: math.ceil(0.4 * n), lambda rows: rows.amax((0, 1)), cut=True),),
    ),
    "vtw": Method(lambda: reducer_of("vtw", prune__layer=3), (Step(3, lambda n: 0),)),
    "pyramiddrop": Method(
        lambda: reducer_of("pyramiddrop", prune__layers=(2, 4), prune__attention="last_layer"),
        (Step(2, lambda n: n // 2, anew=True), Step(4, lambda n: n // 4, anew=True)),
    ),
    "stride": Method(lambda: reducer_of("stride", merge__rows=2, merge__columns=2), frame=strided),
    "stride, old places": Method(
        lambda: reducer_of("stride", merge__rows=2, merge__columns=2, merge__positions="original"), frame=strided, old_places=True
    ),
    "pooling": Method(lambda: reducer_of("pooling", merge__rows=1, merge__columns=1), frame=averaged),
    "stride, then fastv": Method(
        lambda: Reducer("both", merge=METHODS["stride"].reducer().merge, prune=METHODS["fastv"].reducer().prune),
        (FASTV,),
        strided,
    ),
}


@torch.inference_mode()
def ours(model: Any, clip: Clip, reducer: Reducer) -> Said:
    before, after = model.prompt(QUESTION)
    state = Embed(before)(Reduce(reducer.merge)(model.encode(clip), model), model)
    for stage in inside(reducer, after, model.layers):
        state = stage(state, model)
    answer, writer = Generate(GENERATED)(state, model), Writer(state, model)
    hidden = [state.hidden[-1:], *(writer.write(model.embed((word,))) for word in WORDS)]
    return Said(answer.token_ids, list(answer.usage.visual_tokens), model.logits(torch.cat(hidden)))


@torch.inference_mode()
def in_plain_words(plain: Plain, model: Any, clip: Clip, method: Method) -> Said:
    prompt = plain.prompt(model, clip, method.frame)
    return by_formulas(plain, at_old_places(prompt, len(clip.frames)) if method.old_places else prompt, method.steps)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_writes_what_plain_formulas_write(models: dict[str, Any], folders: dict[str, Path], name: str) -> None:
    plain, model = Plain(folders["llava_video_released"]), models["llava_video"]
    for clip in (SHORT, LONG):
        here, there = ours(model, clip, METHODS[name].reducer()), in_plain_words(plain, model, clip, METHODS[name])
        assert (here.greedy, here.seen) == (there.greedy, there.seen)
        torch.testing.assert_close(here.logits, there.logits, atol=CLOSE, rtol=0)


def test_the_formulas_tell_these_methods_apart(models: dict[str, Any], folders: dict[str, Path]) -> None:
    """By far more than rounding does, after the prompt and after every word: else equal answers would say nothing."""
    plain, model = Plain(folders["llava_video_released"]), models["llava_video"]
    said = [in_plain_words(plain, model, SHORT, method) for method in METHODS.values()]
    for one, other in combinations(said, 2):
        assert (one.logits - other.logits).abs().amax(1).min() > 10 * CLOSE
    assert len({one.greedy for one in said}) > 3

"""A setting on a stock model that somebody has loaded: its own `generate`, on the engine's pruned caches.

While it is in force, `generate` hands the prompt to the engine (video, merging, layers, steps, question, eviction, as in a
sweep).  Then the stock loop chooses tokens: sampling, stopping, penalties and streaming are transformers' own.  Each chosen
token runs through the engine's layers on the engine's caches.  So what it answers is what was evaluated, token for token.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from prunesweep.cost import Usage
from prunesweep.engine.plan import inside, require_fit
from prunesweep.engine.stages import Embed, Evict, Reduce
from prunesweep.engine.stages.answer import Writer, answered_usage
from prunesweep.lazy import torch
from prunesweep.models.processing import placed
from prunesweep.reducers import Reducer, needs_of
from prunesweep.types import Prefix, TowerMerger
from prunesweep.use.inputs import prompts_of, require_one_video, require_servable
from prunesweep.use.preset import Preset, require_sizes

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor


@dataclass(frozen=True)
class Answered:
    """What one prompt took."""

    usage: Usage
    """Counted as in a record: visual tokens of each layer, cached tokens, generated tokens."""
    map: Int[Tensor, "t p"]
    """The token that each patch went to before the LLM; -1: dropped."""
    left: Int[Tensor, " n"] | None
    """The first patch of each visual token that the last layer saw, counted through the video."""
    prefill_seconds: float
    """Vision tower, merging and the whole prompt."""
    decode_seconds: float


@dataclass
class Pruning:
    """A setting in force; `answered` has an entry for each prompt since then."""

    reducer: Reducer
    answered: list[Answered] = field(default_factory=list)

    @property
    def last(self) -> Answered:
        """Raises ValueError before the first answer."""
        if not self.answered:
            raise ValueError("nothing has been generated yet; call the model's generate inside the with block")
        return self.answered[-1]


@contextmanager
def pruned(network: Any, reducer: Reducer, video_id: str = "", preset: Preset | None = None) -> Iterator[Pruning]:
    """Sets a stock model's `generate` to a reducer's tokens; `video_id` is the seed of methods that draw, as in a sweep.

    `preset` is that of the reducer, whose model must have had the same sizes.

    Batches run row by row.  Raises ValueError for a model of an unknown family and a setting that does not fit it; within, for
    what `generate` is told that has no meaning on pruned caches.
    """
    from prunesweep.models.adapter import of_network

    _require_as_loaded(network)
    if reducer.input is not None and not isinstance(reducer.input, TowerMerger):
        raise ValueError(f"{reducer.name} makes frames smaller before the processor sees them; make them smaller yourself")
    attention = network.config.get_text_config()._attn_implementation
    pruning = Pruning(reducer)
    try:
        model = of_network(network)
        if preset is not None:
            require_sizes(preset, asdict(model.shape))
        require_fit(reducer, model)
        network.generate = _Generation(network, model, pruning, video_id)
        network.forward = _Refused(network)
        yield pruning
    finally:
        vars(network).pop("generate", None)
        vars(network).pop("forward", None)
        network.set_attn_implementation({"text_config": attention})


def _require_as_loaded(network: Any) -> None:
    """Raises ValueError for a model that is unknown, is being trained, or has other ways of its own already."""
    from prunesweep.models.adapter import family_of

    family_of(network)
    if network.training:
        raise ValueError("the model is in training mode; call model.eval() first")
    if isinstance(vars(network).get("generate"), _Generation):
        raise ValueError("a setting is in force on this model already; leave its with block first")
    if replaced := [name for name in ("generate", "forward") if name in vars(network)]:
        raise ValueError(f"the model's {replaced[0]} was replaced, by a compiled one perhaps; give the model as it was loaded")


class _Refused:
    """What stands in for `forward` where no generation runs: it would be dense, and nobody would know."""

    def __init__(self, network: Any):
        self.__wrapped__ = type(network).forward  # its signature is read

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise ValueError("while a setting is in force the model serves generate only; leave the with block to call it directly")


class _Generation:
    """Stands in for `generate`."""

    def __init__(self, network: Any, model: Any, pruning: Pruning, video_id: str):
        self.network, self.model, self.pruning, self.video_id = network, model, pruning, video_id
        self.__wrapped__ = type(network).generate

    def __call__(self, inputs: Any = None, generation_config: Any = None, **given: Any) -> Any:
        prompts, told = prompts_of(self.network, inputs, given)
        require_servable(self.network, generation_config, told, len(prompts))
        made = [self._answer(row, generation_config, told) for row in prompts.rows(self.model.visual_id)]
        if len(made) == 1 and not isinstance(made[0], torch.Tensor):
            return made[0]
        return prompts.joined(made, self.network.generation_config)

    @torch.no_grad()
    def _answer(self, prompt: Mapping[str, Any], config: Any, told: Mapping[str, Any]) -> Any:
        begin = time.perf_counter()
        prefix, source = prefilled(self.model, self.pruning.reducer, placed(dict(prompt), self.network), self.video_id)
        writing = _Writing(self.network, self.model, prefix, self.pruning.reducer)
        prefill = time.perf_counter() - begin
        made = self._written(prompt["input_ids"], writing, config, told)
        decode = time.perf_counter() - begin - prefill
        self.pruning.answered.append(Answered(writing.usage, source, prefix.place, prefill, decode))
        return made

    def _written(self, ids: Int[Tensor, "1 s"], writing: _Writing, config: Any, told: Mapping[str, Any]) -> Any:
        """By the stock loop, whose every step runs through the engine."""
        own = {"attention_mask": torch.ones_like(ids), "position_ids": torch.arange(ids.shape[1], device=ids.device)[None]}
        self.network.forward, self.network.prepare_inputs_for_generation = writing, _only_ids
        try:
            return type(self.network).generate(self.network, ids, config, **own, **told)
        finally:
            del self.network.prepare_inputs_for_generation
            self.network.forward = _Refused(self.network)


def _only_ids(input_ids: Int[Tensor, "1 s"], **kwargs: Any) -> dict[str, Any]:
    """All that a step of the engine reads of what the stock loop keeps, which looks for the name `kwargs`."""
    return {"input_ids": input_ids}


class _Writing:
    """Stands in for `forward` while one prompt is answered: logits of the prompt's last token, then of each chosen one."""

    def __init__(self, network: Any, model: Any, prefix: Prefix, reducer: Reducer):
        self.model, self.prefix = model, prefix
        self.writer = Writer(prefix, model, reducer.decode)
        self.steps = 0
        self.__wrapped__ = type(network).forward  # its signature is read

    def __call__(self, input_ids: Int[Tensor, "1 s"], **_: Any) -> Any:
        from transformers.modeling_outputs import CausalLMOutputWithPast

        hidden = self.writer.write(self.model.embed((int(input_ids[0, -1]),))) if self.steps else self.prefix.hidden[-1:]
        self.steps += 1
        return CausalLMOutputWithPast(logits=self.model.logits(hidden)[None])

    @property
    def usage(self) -> Usage:
        return answered_usage(self.prefix, self.steps, self.writer)


def prefilled(model: Any, reducer: Reducer, inputs: Mapping[str, Any], video_id: str) -> tuple[Prefix, Int[Tensor, "t p"]]:
    """The state after a prompt and every step of a reducer, by the engine's own stages; and where each patch went."""
    require_one_video(inputs)
    tower = reducer.input if isinstance(reducer.input, TowerMerger) else None
    tokens, before, after = model.prepared(inputs, video_id, needs_of(reducer.merge), tower)
    merged = Reduce(reducer.merge, getattr(reducer.input, "positions", "original"))(tokens, model)
    state = Embed(before)(merged, model)
    for stage in inside(reducer, after, model.layers, bool(before)):
        state = stage(state, model)
    if reducer.evict is not None:
        state = Evict(reducer.evict)(state, model)
    return state, merged.source

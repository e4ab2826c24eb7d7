"""The ledger of a configuration, without weights, videos or torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from prunesweep.checks import require_at_least, require_ratio
from prunesweep.console.layout import with_prefix
from prunesweep.console.terminal import table
from prunesweep.cost import (
    CONVENTIONS,
    Shape,
    Usage,
    causal_prefill_flops,
    dycoke_decode,
    ledger,
    published_prefill,
)
from prunesweep.reducers import LayerTokens, Left, Step, layer_tokens, left_by_merge, left_by_step, require_frames, require_layers
from prunesweep.results.records import read_shape
from prunesweep.shares import ceil_share
from prunesweep.targets import instantiate


def shape_in(config: DictConfig) -> Shape:
    """Raises ValueError for a model whose configuration has no sizes."""
    sizes: Any = OmegaConf.to_container(config.model.sizes) if "sizes" in config.model else None
    if sizes is None:
        raise ValueError(
            f"model {config.model.name} has no sizes, which prunesweep cost counts with; name one that has them, such as "
            "llava_onevision_7b, or add them to its YAML as there"
        )
    return read_shape({**sizes["llm"], "vision": sizes["vision"], "linear": sizes.get("linear")})


def planned_tokens(config: DictConfig, layers: int) -> LayerTokens:
    """Visual tokens in each layer and its cache, as the method itself says, which takes importing it.

    Raises ValueError where they depend on the video, or on a layer that the model does not have.
    """
    reducer = instantiate(config.reducer)
    require_layers(reducer, config.model.name, layers)
    try:
        tokens = layer_tokens(reducer.steps(layers), layers, entering(config), _most_by_step)
    except LookupError as error:
        where = f"after {error.args[0].full_layers} layers"
        raise ValueError(f"what {reducer.name} leaves {where} depends on the video; run prunesweep") from None
    return tokens._replace(cached=tuple(evicted(config, tokens.cached)))


def _most_by_step(step: Step, now: Left) -> int:
    """What a step leaves, or leaves at most.  Raises LookupError with the step where neither is known without a video."""
    left = left_by_step(step, now)
    if left is None and not hasattr(step, "most"):
        raise LookupError(step)
    return step.most(now.tokens) if left is None else left  # type: ignore[attr-defined]


def entering(config: DictConfig) -> Left:
    """What the merge leaves: given as `merged`, or asked of the reducer.  Raises ValueError where it depends on the video."""
    if config.merged is not None:
        require_ratio("merged", config.merged)
        return Left(ceil_share(config.frames * config.tokens_per_frame, config.merged))
    left = left_by_merge(instantiate(config.reducer.merge), config.frames, config.tokens_per_frame)
    if left is None:
        raise ValueError(
            f"what {config.reducer.name} merges depends on the video; give the share that is left, such as merged=0.425"
        )
    return left


def evicted(config: DictConfig, cached: Sequence[int]) -> list[int]:
    """Visual tokens left in each layer's cache while decoding; the text is taken to follow the video."""
    evict = instantiate(config.reducer.get("evict"))
    left = [evict.left(count, 0, config.text_tokens) if evict else count for count in cached]
    if None in left:
        raise ValueError(f"what {config.reducer.name} evicts depends on the video; set reducer.evict.text_prior=true")
    return left


def attended(config: DictConfig, cached: Sequence[int]) -> list[int] | None:
    """Visual tokens that each layer attends to, summed over the generated tokens after the first; None: all in its cache."""
    decode = instantiate(config.reducer.get("decode"))
    if decode is None:
        return None
    times = max(0, config.generated - 1)
    return [times * (count if layer < decode.full_layers else decode.left(count)) for layer, count in enumerate(cached)]


class Column(NamedTuple):
    """What the ledger is asked of: a trial's visual tokens by layer."""

    tokens: tuple[int, ...]
    """While the prompt is read."""
    cached: Sequence[int]
    """In the caches while decoding."""
    fed: Sequence[int] | None = None
    attended: Sequence[int] | None = None


def report(config: DictConfig) -> str:
    """The ledger of a configuration as text, beside the dense model's.  Raises ValueError for what sizes do not tell."""
    shape = shape_in(config)
    _require_known(config)
    _require_served(config, shape)
    dense, name = config.frames * config.tokens_per_frame, config.reducer.name
    own = planned_tokens(config, shape.layers)
    whole = Column((dense,) * shape.layers, (dense,) * shape.layers)
    columns = {"dense": whole, name: Column(own.visual, own.cached, own.fed, attended(config, own.cached))}
    costs = {of: ledger(shape, _usage(config, column, dense)) for of, column in columns.items()}
    title = (
        f"{config.model.name}, {config.frames} frames, {dense} visual and {config.text_tokens} text tokens, "
        f"{config.generated} generated; visual tokens by layer: {_runs(columns[name].tokens)}"
    )
    rows: list[Sequence[str]] = [(label, *_cells([getattr(c, part) for c in costs.values()])) for label, part in PARTS]
    rows += _by_convention(config, shape, list(columns.values()))
    rows.append(("KV cache after prefill, half precision", *(f"{c.kv_bytes / 2**20:.1f} MiB" for c in costs.values()), ""))
    ratios = [(label, f"{getattr(costs[name], part):.4f}x") for label, part in KEPT]
    kept = table(("visual tokens kept", "of dense"), ratios)
    return "\n".join([title, "", table(("", "dense", name, "of dense"), rows), "", kept, "", *_notes(config, shape)])


def _require_known(config: DictConfig) -> None:
    for name in ("frames", "tokens_per_frame"):
        require_at_least(name, config[name], 1)
    for name in ("text_tokens", "generated"):
        require_at_least(name, config[name], 0)
    if config.reducer.match is not None:
        raise ValueError("reducer.match is solved on videos, by prunesweep; give prunesweep cost the setting itself")
    if config.reducer.get("input") is not None:
        raise ValueError(f"{config.reducer.name} changes what the vision tower sees, which sizes do not tell; run prunesweep")
    require_frames(instantiate(config.reducer), config.frames, config.model.get("frames_per_step", 1))


def _require_served(config: DictConfig, shape: Shape) -> None:
    """Raises InfeasibleError for a setting that no evaluation would run, because of layers with linear attention."""
    from prunesweep.engine.plan import require_full_attention

    reducer = instantiate(config.reducer)
    require_layers(reducer, config.model.name, shape.layers)
    require_full_attention(reducer, config.model.name, shape)


def _usage(config: DictConfig, column: Column, dense: int) -> Usage:
    return Usage(
        column.tokens,
        config.text_tokens,
        config.generated,
        math.ceil(config.frames / config.model.get("frames_per_step", 1)),
        dense,
        cached_tokens=column.cached,
        fed_tokens=column.fed,
        attended_tokens=column.attended,
    )


def _by_convention(config: DictConfig, shape: Shape, columns: Sequence[Column]) -> Iterator[tuple[str, ...]]:
    """The same as others count it."""
    causal = [causal_prefill_flops(shape, column.tokens, config.text_tokens) for column in columns]
    yield "LLM prefill if causal attention skips half, FLOPs", *_cells(causal)
    for name, convention in CONVENTIONS.items():
        lengths = [[count + config.text_tokens for count in column.tokens] for column in columns]
        yield f"{name} prefill, multiply-adds", *_cells([published_prefill(convention, shape, own) for own in lengths])
    decoded = [
        sum(dycoke_decode(shape, count + config.text_tokens, config.generated) for count in column.cached) for column in columns
    ]
    yield "DyCoke decode, multiply-adds", *_cells(decoded)


def _notes(config: DictConfig, shape: Shape) -> list[str]:
    notes = [
        "FLOPs: 2 per multiply-add, grouped queries, attention in full; not counted: merging and scoring",
        *(f"{name}: {convention.source}" for name, convention in CONVENTIONS.items()),
        "DyCoke decode: DyCoke (arXiv 2411.15024), per layer R(4d^2 + 2dm) + 2 sum d(n + i)",
    ]
    if any(left_by_step(step, entering(config)) is None for step in instantiate(config.reducer).steps(shape.layers)):
        notes.append("grouped selection rounds down in every group, so it keeps a little less than this")
    return notes


PARTS = (
    ("vision tower and projector, FLOPs", "vision"),
    ("LLM prefill, FLOPs", "prefill"),
    ("output head, FLOPs", "head"),
    ("decoding, FLOPs", "decode"),
    ("all of these", "total"),
)
KEPT = (
    ("entering the LLM", "entrance_ratio"),
    ("layer average", "layer_ratio"),
    ("in the last layer", "final_ratio"),
    ("in the KV caches while decoding", "kv_ratio"),
)


def _cells(values: Sequence[float]) -> tuple[str, str, str]:
    dense, own = values
    return with_prefix(dense, 4), with_prefix(own, 4), f"{own / dense:.4f}x" if dense else ""


def _runs(tokens: Sequence[int]) -> str:
    """`2 layers 6272, 26 layers 1568`."""
    runs: list[list[int]] = []
    for n in tokens:
        if runs and runs[-1][1] == n:
            runs[-1][0] += 1
        else:
            runs.append([1, n])
    return ", ".join(f"{layers} layers {n}" for layers, n in runs)

"""The cost ledger: FLOPs as pure functions of a model's shape and the recorded token counts.

A multiply-add counts as two operations.  Attention is counted in full, as the kernels are called and as the field does,
not halved for causality.  Elementwise work (norms, activations, softmax, rotary embedding) is left out, as
`torch.utils.flop_counter` leaves it out; a test holds the ledger against that counter.  Costs are those of a trial that
runs alone, whatever it shared with others.

Every count may also be a numpy array with one number per sample; the costs are then arrays, too.  Layers that hold one and
the same array are worked out once, so that millions of records take seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, NamedTuple


@dataclass(frozen=True)
class VisionShape:
    """A ViT: `layers` that run, `patches` per frame, `patch_inputs` values per patch.

    A tower for pictures of any size has no `patches` of its own; `token_patches` of them become one visual token.
    """

    layers: int
    hidden: int
    mlp: int
    patches: int
    patch_inputs: int
    token_patches: int = 0
    outside: int = 0
    """Multiply-adds of each patch outside the layers (embedding, projector, deep-stack); 0: a projector of two layers on each."""
    window: int = 0
    """Patches that one attends to in layers with windows; those at the edges are taken to be as large."""
    window_layers: int = 0
    class_tokens: int = 0
    """Of a frame, besides the patches."""
    merged_after: int = 0
    """Layers after which the tower itself makes one patch of MERGED; 0: it does not."""


MERGED = 4
CHUNK = 64
"""Tokens that gated linear attention takes at once during prefill, filled up to whole chunks (transformers' default)."""


@dataclass(frozen=True)
class LinearShape:
    """Layers of gated linear attention (Gated DeltaNet, arXiv 2412.06464): all but each `every`-th, which has full attention."""

    every: int
    key_heads: int
    key_size: int
    value_heads: int
    value_size: int
    kernel: int
    """Tokens that the convolution before it sees."""

    @property
    def convolved(self) -> int:
        """Channels."""
        return 2 * self.key_heads * self.key_size + self.value_heads * self.value_size

    @property
    def state(self) -> int:
        """Values that a layer remembers, however many tokens it has read."""
        return self.value_heads * self.key_size * self.value_size + self.convolved * self.kernel


@dataclass(frozen=True)
class Shape:
    """Sizes of a video LLM, as in its config.json."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    mlp: int
    vocabulary: int
    vision: VisionShape
    experts: int = 0
    """That a router scores for each token, on average over the layers; `mlp` is the width of those that run then."""
    gated: bool = False
    """Whether attention has an output gate, as wide as its queries."""
    linear: LinearShape | None = None
    """Of the layers that have no full attention; None: all have it."""

    def attending(self, layers: Sequence[Any]) -> Sequence[Any]:
        """Of one thing for each layer, those of layers with full attention."""
        return layers if self.linear is None else layers[self.linear.every - 1 :: self.linear.every]

    def not_attending(self, layers: Sequence[Any]) -> Sequence[Any]:
        """Those of the others."""
        every = 1 if self.linear is None else self.linear.every
        return [one for index, one in enumerate(layers) if (index + 1) % every]


def layer_flops(shape: Shape, rows: int, columns: int) -> int:
    """One decoder layer on `rows` tokens that attend to `columns` tokens: GQA projections, attention, SwiGLU."""
    return linear_flops(shape, rows) + attention_flops(shape, rows * columns)


def linear_flops(shape: Shape, rows: int) -> int:
    """One decoder layer's projections and feed-forward network."""
    return projection_flops(shape, rows) + feed_forward_flops(shape, rows)


def projection_flops(shape: Shape, rows: int) -> int:
    """One decoder layer's queries, keys, values and what is made of them."""
    queries = shape.hidden * shape.heads * shape.head_size
    return 2 * rows * ((2 + shape.gated) * queries + 2 * shape.hidden * shape.kv_heads * shape.head_size)


def linear_layer_flops(shape: Shape, rows: int, chunk: int = CHUNK) -> int:
    """What a layer of linear attention does in place of full attention: projections, convolution, and its chunks.

    A chunk of one token is a step of decoding.  Solving the triangular system of a chunk is left out, as torch's counter does.
    """
    s = shape.linear
    if s is None:
        return 0
    keys, values = s.key_heads * s.key_size, s.value_heads * s.value_size
    projections = shape.hidden * (2 * keys + 3 * values + 2 * s.value_heads) + s.convolved * s.kernel
    padded = -(-rows // chunk) * chunk
    in_chunk = s.value_heads * (chunk * (2 * s.key_size + s.value_size) + 3 * s.key_size * s.value_size)
    return 2 * rows * projections + 2 * padded * in_chunk


def feed_forward_flops(shape: Shape, rows: int) -> int:
    """One decoder layer's SwiGLU, or its experts that run and the router."""
    return 2 * rows * shape.hidden * (3 * shape.mlp + shape.experts)


def attention_flops(shape: Shape, pairs: int) -> int:
    """Scores and weighted sums of one layer for `pairs` of query and key tokens."""
    return 2 * 2 * pairs * shape.heads * shape.head_size


def over_layers(cost: Callable[[int], int], tokens: Sequence[int]) -> int:
    """The sum of `cost` over the layers, worked out once for neighbours with the same tokens (the same array, that is)."""
    runs = [list(run) for _, run in groupby(tokens, key=id)]
    return sum(len(run) * cost(run[0]) for run in runs)


def with_text(visual: Sequence[int], text: int) -> list[int]:
    """All tokens of each layer; layers with one and the same number have one and the same sum."""
    sums = {id(n): n + text for n in visual}
    return [sums[id(n)] for n in visual]


def prefill_flops(shape: Shape, visual_tokens: Sequence[int], text_tokens: int, fed_tokens: Sequence[int] | None = None) -> int:
    """The decoder layers on the whole prompt; `visual_tokens` holds one count per layer.

    So does `fed_tokens`, of the feed-forward networks, where these see others than the attention.
    """
    mixed = over_layers(
        lambda n: projection_flops(shape, n + text_tokens) + attention_flops(shape, (n + text_tokens) ** 2),
        shape.attending(visual_tokens),
    )
    linear = over_layers(lambda n: linear_layer_flops(shape, n + text_tokens), shape.not_attending(visual_tokens))
    fed = visual_tokens if fed_tokens is None else fed_tokens
    return mixed + linear + over_layers(lambda n: feed_forward_flops(shape, n + text_tokens), fed)


def causal_prefill_flops(shape: Shape, visual_tokens: Sequence[int], text_tokens: int) -> int:
    """The same, but counting only the pairs that the causal mask leaves: what a kernel must do that skips the others."""
    tokens = [n + text_tokens for n in visual_tokens]
    mixed = sum(projection_flops(shape, n) + attention_flops(shape, n * (n + 1) // 2) for n in shape.attending(tokens))
    linear = sum(linear_layer_flops(shape, n) for n in shape.not_attending(tokens))
    return mixed + linear + sum(feed_forward_flops(shape, n) for n in tokens)


def single_flops(shape: Shape, layers: Sequence[Any], rows: int) -> int:
    """Rows that go through all layers one at a time, but for the scores and sums of attention."""
    attending, others = len(shape.attending(layers)), len(shape.not_attending(layers))
    mixed = attending * projection_flops(shape, rows) + others * linear_layer_flops(shape, rows, 1)
    return mixed + len(layers) * feed_forward_flops(shape, rows)


def scoring_flops(shape: Shape, rows: int, columns: int) -> int:
    """Attention scores of `rows` question tokens for all `columns` tokens, once more, to choose by."""
    return 2 * rows * columns * shape.heads * shape.head_size


def clustering_flops(points: int, channels: int, clusters: int = 0) -> int:
    """DPC-KNN's distances of all points, and the means of its clusters as a product with their indicator matrix."""
    return 2 * points**2 * channels + 2 * points * clusters * channels


def head_flops(shape: Shape, rows: int = 1) -> int:
    """The output head on `rows` positions."""
    return 2 * rows * shape.hidden * shape.vocabulary


def vision_flops(shape: Shape, frames: int, patches: int | None = None, by_layer: Sequence[int] | None = None) -> int:
    """Vision tower and projector on every patch of every frame; `patches` per frame, if not those of the shape.

    `by_layer` holds a frame's patches in each layer's attention and behind the last layer, where the tower itself leaves fewer.
    """
    v = shape.vision
    patches = v.patches if patches is None else patches
    if by_layer is not None:
        return frames * _merging_tower_flops(shape, patches, by_layer)
    rows = patches + v.class_tokens
    tower = _tower_flops(v, v.merged_after or v.layers, rows)
    if v.merged_after:
        tower = tower + _tower_flops(v, v.layers - v.merged_after, rows // MERGED)
    outside = v.outside or v.patch_inputs * v.hidden + v.hidden * shape.hidden + shape.hidden**2
    return frames * (tower + 2 * patches * outside)


def _tower_flops(v: VisionShape, layers: int, rows: int) -> int:
    """Some of a tower's layers on one frame."""
    seen = (layers - v.window_layers) * rows
    if v.window_layers:
        seen = seen + v.window_layers * ((rows < v.window) * rows + (rows >= v.window) * v.window)
    return 2 * rows * layers * (4 * v.hidden**2 + 2 * v.hidden * v.mlp) + 4 * rows * seen * v.hidden


def _merging_tower_flops(shape: Shape, patches: int, by_layer: Sequence[int]) -> int:
    """Of one frame."""
    v, rows = shape.vision, with_text(by_layer, shape.vision.class_tokens)
    tower = over_layers(lambda n: 8 * n * v.hidden**2 + 4 * n * n * v.hidden, rows[:-1])
    tower = tower + over_layers(lambda n: 4 * n * v.hidden * v.mlp, rows[1:])
    projector = by_layer[-1] * (v.hidden * shape.hidden + shape.hidden**2)
    return tower + 2 * (patches * v.patch_inputs * v.hidden + projector)


def decode_flops(shape: Shape, cached: Sequence[int], generated: int, attended: Sequence[int] | None = None) -> int:
    """All tokens after the first, one at a time, each attending to the `cached` tokens of a layer and those since.

    Or to `attended` of the tokens before the first, per layer and summed over these tokens.
    """
    steps = (generated > 0) * (generated - 1)
    since = steps * (steps + 1) // 2  # in all steps together
    if attended is None:
        attention = over_layers(lambda n: attention_flops(shape, steps * n + since), shape.attending(cached))
    else:
        attention = over_layers(lambda n: attention_flops(shape, n + since), shape.attending(attended))
    return single_flops(shape, cached, steps) + attention + head_flops(shape, steps)


def option_flops(shape: Shape, cached: Sequence[int], rows: int, pairs: int, attended: Sequence[int] | None = None) -> int:
    """Scoring options of several tokens: the rows of each option after its first token, as one chunk on each layer's cache.

    `rows` of all options together; `pairs` is the sum of each option's squared number of rows.  Or row by row, each on
    `attended` of the cached tokens, per layer and summed over the rows.
    """
    if attended is None:
        attention = over_layers(lambda n: attention_flops(shape, rows * n + pairs), shape.attending(cached))
    else:
        own = (pairs + rows) // 2  # a row sees those before it in its option, and itself
        attention = over_layers(lambda n: attention_flops(shape, n + own), shape.attending(attended))
    return single_flops(shape, cached, rows) + attention + head_flops(shape, rows)


def fastv_layer(shape: Shape, n: int) -> int:
    """4nd^2 + 2n^2d + 2ndm: four full projections, a feed-forward network of two matrices."""
    d, m = shape.hidden, shape.mlp
    return 4 * n * d**2 + 2 * n**2 * d + 2 * n * d * m


def sparsevlm_layer(shape: Shape, n: int) -> int:
    """4nd^2 + 2n^2d + 3ndm: as FastV's, with the three matrices of SwiGLU."""
    return fastv_layer(shape, n) + n * shape.hidden * shape.mlp


def fastvid_layer(shape: Shape, n: int) -> int:
    """2nd^2 + 2nd d_kv + 2n^2d + 3ndm: grouped queries and SwiGLU; d_kv is the width of all key heads."""
    d, m, d_kv = shape.hidden, shape.mlp, shape.kv_heads * shape.head_size
    return 2 * n * d**2 + 2 * n * d * d_kv + 2 * n**2 * d + 3 * n * d * m


def dycoke_decode(shape: Shape, n: int, generated: int) -> int:
    """One layer's R(4d^2 + 2dm) + 2 sum_{i=1..R} d(n + i) for R generated tokens after n cached ones."""
    d, m = shape.hidden, shape.mlp
    return generated * (4 * d**2 + 2 * d * m) + 2 * sum(d * (n + i) for i in range(1, generated + 1))


class Convention(NamedTuple):
    """How a paper counts the FLOPs of a decoder layer's prefill; all of them call a multiply-add one operation."""

    layer: Callable[[Shape, int], int]
    source: str


CONVENTIONS: dict[str, Convention] = {
    "fastv": Convention(fastv_layer, "FastV, arXiv 2403.06764, eq. 5; also PyramidDrop, VisionZip, HoliTom"),
    "sparsevlm": Convention(sparsevlm_layer, "SparseVLM, arXiv 2410.04417, its released code"),
    "fastvid": Convention(fastvid_layer, "FastVID, arXiv 2503.11187, appendix A.2"),
}
"""DyCoke (arXiv 2411.15024) counts prefill as FastV does and adds `dycoke_decode`."""


def published_prefill(convention: Convention, shape: Shape, tokens: Sequence[int]) -> int:
    """The prefill in a paper's convention; `tokens` holds the tokens that it counts, one number per layer."""
    return over_layers(lambda n: convention.layer(shape, n), tokens)


HALF_PRECISION = 2
"""Bytes per value of bfloat16 and float16."""


def kv_bytes(shape: Shape, tokens: Sequence[int], bytes_per_value: int = HALF_PRECISION) -> int:
    """Keys and values of all layers, or what else they remember; `tokens` holds the cached tokens of each layer."""
    remembered = len(shape.not_attending(tokens)) * shape.linear.state if shape.linear else 0
    keys = over_layers(lambda n: 2 * n * shape.kv_heads * shape.head_size, shape.attending(tokens))
    return (keys + remembered) * bytes_per_value


@dataclass(frozen=True)
class Usage:
    """What one answer took, counted: all that its cost follows from.  Columns of the records in this order.

    For `ledger` the numbers may be arrays over many answers.
    """

    visual_tokens: Sequence[int] = ()
    """Per LLM layer, during prefill."""
    text_tokens: int = 0
    """All other tokens of the prompt."""
    generated_tokens: int = 0
    frames: int = 0
    """That the vision tower saw."""
    dense_tokens: int = 0
    """Visual tokens of the same video without any reduction."""
    reduction_flops: int = 0
    """Spent on merging and on scoring tokens."""
    option_rows: int = 0
    """Tokens after the first of all scored options: rows that the LLM ran besides the prompt."""
    option_pairs: int = 0
    """Of these rows, pairs that belong to one option: the sum of their squared numbers."""
    cached_tokens: Sequence[int] | None = None
    """Per LLM layer: visual tokens in its cache while decoding; None: in every layer as many as the last one sees."""
    vision_patches: int | None = None
    """Patches per frame that the tower saw, where they are not those of the model's shape."""
    fed_tokens: Sequence[int] | None = None
    """Per LLM layer: visual tokens that its feed-forward network sees; None: those that its attention sees."""
    attended_tokens: Sequence[int] | None = None
    """Per LLM layer: visual tokens that the generated tokens after the first, or the options' rows, attend to, summed over these;
    None: all in cache."""
    tower_tokens: Sequence[int] | None = None
    """Per layer of the vision tower, of one frame: tokens that its attention sees; then those behind the last layer.  None: its
    patches, in every layer."""

    def dense(self, vision_patches: int | None = None) -> Usage:
        """Of the same question to the model without any reduction."""
        whole = (self.dense_tokens,) * len(self.visual_tokens)
        return replace(
            self,
            visual_tokens=whole,
            cached_tokens=None,
            reduction_flops=0,
            vision_patches=vision_patches,
            fed_tokens=None,
            attended_tokens=None,
            tower_tokens=None,
        )


NOTHING = Usage()


@dataclass(frozen=True)
class Ledger:
    """FLOPs of one answer by part, and its share of visual tokens."""

    vision: int
    reduction: int
    """Merging and scoring tokens."""
    prefill: int
    head: int
    decode: int
    options: int
    """Scoring what follows the first token of each option."""
    entrance_ratio: float
    """Visual tokens entering the LLM, over those of the dense model."""
    final_ratio: float
    """Visual tokens in the last layer, over those of the dense model."""
    layer_ratio: float
    """Mean over the layers of their visual tokens during prefill, over those of the dense model."""
    kv_ratio: float
    """Mean over the layers with full attention of the visual tokens in their caches while decoding, over the dense model's."""
    kv_bytes: int
    """Of these caches with the text tokens of the prompt, in half precision."""

    @property
    def total(self) -> int:
        return self.vision + self.reduction + self.prefill + self.head + self.decode + self.options


def ledger(shape: Shape, usage: Usage) -> Ledger:
    """What one answer costs, or arrays of what many do."""
    visual, dense = usage.visual_tokens, usage.dense_tokens
    in_caches = [visual[-1]] * len(visual) if usage.cached_tokens is None else usage.cached_tokens
    with_cache = shape.attending(in_caches)
    cached = with_text(in_caches, usage.text_tokens)
    steps = (usage.generated_tokens > 0) * (usage.generated_tokens - 1)
    attended = attended_option = None
    if usage.attended_tokens is not None:  # an answer is generated or chosen
        attended = with_text([n * (usage.option_rows == 0) for n in usage.attended_tokens], steps * usage.text_tokens)
        chosen = [n * (usage.option_rows > 0) for n in usage.attended_tokens]
        attended_option = with_text(chosen, usage.option_rows * usage.text_tokens)
    return Ledger(
        vision=vision_flops(shape, usage.frames, usage.vision_patches, usage.tower_tokens),
        reduction=usage.reduction_flops,
        prefill=prefill_flops(shape, visual, usage.text_tokens, usage.fed_tokens),
        head=head_flops(shape),
        decode=decode_flops(shape, cached, usage.generated_tokens, attended),
        options=option_flops(shape, cached, usage.option_rows, usage.option_pairs, attended_option),
        entrance_ratio=visual[0] / dense,
        final_ratio=visual[-1] / dense,
        layer_ratio=over_layers(lambda n: n, visual) / len(visual) / dense,
        kv_ratio=over_layers(lambda n: n, with_cache) / len(with_cache) / dense,
        kv_bytes=kv_bytes(shape, cached),
    )

"""The decoder loop: any range of a stock transformers LLM's layers, on our own hidden states and caches.

Layers are called as the stock forward calls them, so a full run is bit-identical to it (a test says so).  Three rules
keep it so: positions go in through the rotary embedding only (`position_ids` with gaps would be taken for packed
sequences), a full prefill and a single token need no mask, and a chunk after a cache needs an explicit float mask.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from prunesweep.cost import Shape, VisionShape
from prunesweep.models.branches import Branches
from prunesweep.models.caches import LINEAR, LayerCache, RecurrentCache, cache_argument
from prunesweep.models.looks import attention_received, attention_rows, noting_projections, unmasked_rows
from prunesweep.models.processing import chat_of, placed, video_inputs
from prunesweep.types import Clip, KeyValue, Look, Memory, Merged, Places, Run
from prunesweep.types.slots import Given

ATTENTION = "prunesweep_sdpa"
PROCESSORS = ("processor", "image_processor", "qformer_tokenizer")
"""Of a model, what may shape what its encoder sees."""
ENCODING_PACKAGES = ("torch", "torchvision", "transformers")
"""Another version of these may encode to other bits."""


def capturing_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    capture: list[tuple[Tensor, Tensor]] | None = None,
    only_capture: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """SDPA that also hands out queries and keys as the layer used them, to a caller that passes a list."""
    if capture is not None:
        capture.append((query, key))
    if only_capture:
        return query.transpose(1, 2), None  # of the right shape; nobody reads it
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, capturing_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)


class Decoder:
    """The layers of a transformers LLM (Qwen2, Llama and their like) and its output head."""

    network: torch.nn.Module
    """The stock model that the layers are part of; set by the family."""

    def __init__(self, language_model: torch.nn.Module, head: torch.nn.Module):
        """Raises ValueError for layers whose attention is neither full nor linear: pruned tokens have no meaning in them."""
        kinds = getattr(language_model.config, "layer_types", None) or []
        for index, kind in enumerate(kinds):
            if kind not in ("full_attention", "linear_attention"):
                raise ValueError(
                    f"layer {index} of {type(language_model).__name__} has {kind}; only full and linear attention are supported"
                )
        self.language_model = language_model
        self.head = head

    @property
    def layers(self) -> int:
        return len(self.language_model.layers)

    @property
    def device(self) -> torch.device:
        return self.language_model.embed_tokens.weight.device

    @functools.cached_property
    def encoder_fingerprint(self) -> str:
        """Of all weights outside the LLM, their type and device, the settings, and the versions of what computes with them.

        A cache keyed by it answers bit for bit as the encoder itself would.
        """
        digest = hashlib.sha256()
        own = {id(parameter) for module in (self.language_model, self.head) for parameter in module.parameters()}
        for name, tensor in self.network.state_dict(keep_vars=True).items():
            if id(tensor) not in own:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        device = next(self.network.parameters()).device
        place = f"{device.type} {torch.get_num_threads()} threads"
        if device.type == "cuda":
            place = torch.cuda.get_device_name(device)
        versions = [f"{package} {importlib.metadata.version(package)}" for package in ENCODING_PACKAGES]
        processors = (str(getattr(self, name, "")) for name in PROCESSORS)
        for part in (place, *versions, settings_of(self.network), *processors):
            digest.update(part.encode())
        return digest.hexdigest()

    question_conditioned = False
    facts: frozenset[str] = frozenset()

    def places(self, merged: Merged) -> Places:
        """One after the other, as the reducer counts them."""
        return Places(merged.position, merged.span)

    def text_position(self, start: int, count: int) -> Int[Tensor, " count *axes"]:
        return self.text_positions(torch.arange(start, start + count, device=self.device))

    def text_positions(self, counted: Int[Tensor, " s"]) -> Int[Tensor, " s *axes"]:
        """Of text tokens whose places are counted."""
        return counted

    def project(self, features: Float[Tensor, "n v"]) -> Float[Tensor, "n c"]:
        raise ValueError(f"{type(self).__name__} has no projector of single tower features; use a method at the level of tokens")

    def embed(self, ids: tuple[int, ...] | Int[Tensor, " s"]) -> Float[Tensor, "s c"]:
        table = self.language_model.embed_tokens
        return table(torch.as_tensor(ids, dtype=torch.long, device=table.weight.device))

    def branches(self, caches: Sequence[tuple[Memory, ...]], next_positions: Sequence[tuple[int, ...]]) -> Branches:
        return Branches(self, caches, next_positions)

    def run(
        self,
        hidden: Float[Tensor, "s c"],
        position: Int[Tensor, " s *axes"],
        start: int,
        stop: int,
        past: tuple[Memory, ...] = (),
        look: Look | None = None,
        past_key: Float[Tensor, "1 k past d"] | None = None,
        received: bool = False,
        looking: int = 0,
        given: Given | None = None,
        apart: tuple[int, ...] = (),
    ) -> Run:
        """Layers `start` to `stop` on one sequence, each after the cached tokens that `past` has for it, if any.

        With `apart` it is several ones of these lengths, of which each goes on from the cached tokens by itself.
        """
        hidden = hidden[None]
        rotary = self._rotations(hidden, position, start, stop)
        cached = {kv.tokens for kv in past if isinstance(kv, KeyValue)}
        masks = {tokens: chunk_mask(hidden.shape[1], tokens, hidden, apart) for tokens in cached}
        whole = joined_mask(given)
        memories: list[Memory] = []
        captured: list[tuple[Tensor, Tensor]] = []
        projections: dict[str, Tensor] = {}
        for index, earlier in zip(range(start, stop), past or (None,) * (stop - start), strict=True):
            layer = self.language_model.layers[index]
            last = index == stop - 1
            cache = RecurrentCache(earlier) if hasattr(layer, LINEAR) else LayerCache(earlier)
            with noting_projections(layer.self_attn, projections) if last and hasattr(layer, "self_attn") else nullcontext():
                hidden = layer(
                    hidden,
                    attention_mask=masks[earlier.tokens] if isinstance(earlier, KeyValue) else whole,
                    position_embeddings=rotary[index - start],
                    position_ids=None,
                    use_cache=True,
                    capture=captured if received or (look and last) else None,
                    **{cache_argument(type(layer).forward): cache},
                )
            memories.append(cache.content)
            hidden = with_added(hidden, given, index)
        rows, query = self._looked(look, captured, projections, past_key, looking)
        sums = tuple(attention_received(query, key, self.scaling, whole) for query, key in captured) if received else ()
        return Run(hidden[0], tuple(memories), rows, sums, projections.get("k"), query)

    def _looked(
        self,
        look: Look | None,
        captured: list[tuple[Tensor, Tensor]],
        projections: dict[str, Tensor],
        past_key: Float[Tensor, "1 k past d"] | None,
        looking: int,
    ) -> tuple[Float[Tensor, "h q total"] | None, Float[Tensor, "h s d"] | None]:
        """Of the last layer that ran: attention of the last `looking` rows, or queries of all."""
        if look == "causal":
            query, key = captured[-1]
            return attention_rows(query[:, :, -looking:], key, self.scaling), None
        if look == "before_rotary":
            key = projections["k"] if past_key is None else torch.cat([past_key, projections["k"]], dim=2)
            return unmasked_rows(projections["q"][:, :, -looking:], key, self.scaling), None
        return None, captured[-1][0][0] if look == "queries" else None

    @property
    def scaling(self) -> float:
        """Of attention scores."""
        return next(layer.self_attn.scaling for layer in self.language_model.layers if hasattr(layer, "self_attn"))

    def attend(
        self,
        hidden: Float[Tensor, "s c"],
        position: Int[Tensor, " s *axes"],
        layer: int,
        look: bool = False,
        given: Given | None = None,
    ) -> Run:
        """Bit for bit the first half of what the stock layer does.  Raises ValueError for layers of another build."""
        self._two_halves(layer)
        whole = hidden[None]
        captured: list[tuple[Tensor, Tensor]] = []
        mixed, content = self._attention_of(layer, whole, position, joined_mask(given), capture=captured if look else None)
        return Run((whole + mixed)[0], (content,), None, query=captured[0][0][0] if look else None)

    def feed(self, hidden: Float[Tensor, "s c"], layer: int, given: Given | None = None) -> Float[Tensor, "s c"]:
        block = self._two_halves(layer)
        fed = block.mlp(block.post_attention_layernorm(hidden[None]))
        fed = block.post_mlp_layernorm(fed) if hasattr(block, "post_mlp_layernorm") else fed
        return with_added(hidden[None] + fed, given, layer)[0]

    def _two_halves(self, layer: int) -> Any:
        block = self.language_model.layers[layer]
        parts = [name for name, _ in block.named_children()]
        if set(parts) not in (LAYER_PARTS, LAYER_PARTS | NORMS_AFTER) or getattr(block, "norm_after", False):
            raise ValueError(f"layers of {type(block).__name__} ({', '.join(parts)}) do not come apart after the attention")
        return block

    def ahead(self, hidden: Float[Tensor, "s c"], position: Int[Tensor, " s *axes"], layer: int) -> Float[Tensor, "h s"]:
        """In float32, then in the type of the model, as PyramidDrop's released code has it."""
        captured: list[tuple[Tensor, Tensor]] = []
        self._attention_of(layer, hidden[None], position, None, capture=captured, only_capture=True)
        query, key = captured[0]
        return attention_rows(query[:, :, -1:], key, self.scaling)[:, 0].to(hidden.dtype)

    def _attention_of(
        self, layer: int, whole: Float[Tensor, "1 s c"], position: Int[Tensor, " s *axes"], mask: Tensor | None, **how: Any
    ) -> Any:
        """What a layer adds after its attention, and its cache."""
        block = self.language_model.layers[layer]
        cache = LayerCache(None)
        mixed, _ = block.self_attn(
            hidden_states=block.input_layernorm(whole),
            attention_mask=mask,
            position_embeddings=self._rotations(whole, position, layer, layer + 1)[0],
            **how,
            **{cache_argument(type(block).forward): cache},
        )
        mixed = block.post_self_attn_layernorm(mixed) if hasattr(block, "post_self_attn_layernorm") else mixed
        return mixed, cache.content

    def normed(self, hidden: Float[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        return self.language_model.norm(hidden)

    def rotation(self, position: Int[Tensor, " s *axes"]) -> tuple[Float[Tensor, "s d"], Float[Tensor, "s d"]]:
        weight = self.language_model.embed_tokens.weight
        cos, sin = self._rotation(weight[None, :1], position)
        return cos[0], sin[0]

    def _rotations(self, x: Tensor, position: Int[Tensor, " s *axes"], start: int, stop: int) -> list[tuple[Tensor, Tensor]]:
        """Cosines and sines for each of some layers."""
        return [self._rotation(x, position)] * (stop - start)

    def _rotation(self, x: Tensor, position: Int[Tensor, " s *axes"]) -> tuple[Tensor, Tensor]:
        """Cosines and sines; several axes come first in the stock rotary embeddings."""
        return self.language_model.rotary_emb(x, position[None] if position.ndim == 1 else position.T[:, None])

    def stock_logits(self, clip: Clip, text: str) -> Float[Tensor, "s vocabulary"]:
        """Of a whole prompt, by the stock processor and the stock forward alone: what the loop is held against."""
        processor: Any = getattr(self, "processor", None)
        if processor is None:
            raise ValueError(
                f"{type(self).__name__} has no stock processor, so nothing to hold its layers against; give it stock_logits"
            )
        return self.network(**placed(video_inputs(processor, clip, chat_of(processor, text)), self.network)).logits[0]

    def logits_around(self, clip: Clip, text: str, llm: Any) -> Float[Tensor, "s vocabulary"]:
        """The same by a stock LLM on our visual tokens, for families whose other parts no stock class puts together."""
        tokens = self.encode(clip, question=text)  # type: ignore[attr-defined]
        before, after = self.prompt(text)  # type: ignore[attr-defined]
        parts = [self.embed(before), tokens.x.flatten(0, 1), tokens.suffix, self.embed(after)]
        return llm(inputs_embeds=torch.cat([part.to(llm.dtype) for part in parts])[None]).logits[0]

    def logits(self, hidden: Float[Tensor, "s c"]) -> Float[Tensor, "s vocabulary"]:
        return self.head(self.language_model.norm(hidden))


def settings_of(network: Any) -> str:
    """A stock network's configuration; of one put together here those of its stock parts, and its own plain values."""
    if hasattr(network, "config"):
        return str(network.config)
    parts = [str(part.config) for part in network.modules() if hasattr(part, "config")]
    own = {name: value for name, value in vars(network).items() if isinstance(value, (int, float, str, tuple))}
    return str([sorted(own.items()), *dict.fromkeys(parts)])


def chunk_mask(rows: int, cached: int, like: Tensor, apart: tuple[int, ...] = ()) -> Float[Tensor, "1 1 rows total"] | None:
    """Causal float mask of `rows` new tokens after `cached` ones; a single row sees everything and needs none.

    Rows that stand apart, so many each, see the cached tokens and their own.
    """
    if rows == 1:
        return None
    mask = torch.full((rows, cached + rows), torch.finfo(like.dtype).min, dtype=like.dtype, device=like.device)
    mask = mask.triu(cached + 1)
    if len(apart) > 1:
        whose = torch.repeat_interleave(torch.tensor(apart)).to(like.device)
        mask[:, cached:].masked_fill_(whose[:, None] != whose, torch.finfo(like.dtype).min)
    return mask[None, None]


def joined_mask(given: Given | None) -> Bool[Tensor, "1 1 s s"] | None:
    """What each token sees, where some see others than those before them."""
    if given is None or given.joined is None:
        return None
    rows = len(given.joined)
    causal = torch.ones(rows, rows, dtype=torch.bool, device=given.joined.device).tril()
    return (causal | given.joined[:, None] & given.joined)[None, None]


def with_added(hidden: Float[Tensor, "1 s c"], given: Given | None, layer: int) -> Float[Tensor, "1 s c"]:
    """After a layer: what the stock forward adds there."""
    if given is None or given.added is None or layer >= len(given.added):
        return hidden
    return hidden + given.added[layer]


LAYER_PARTS = {"input_layernorm", "self_attn", "post_attention_layernorm", "mlp"}
"""Of layers that are an attention and a feed-forward network, one after the other."""
NORMS_AFTER = {"post_self_attn_layernorm", "post_mlp_layernorm"}
"""Of layers that norm what either adds, as GLM's."""


def llm_shape(text: Any, vision: VisionShape) -> Shape:
    """The ledger's sizes of a stock LLM's configuration, with those of the vision tower before it."""
    return Shape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        mlp=getattr(text, "intermediate_size", 0),  # of networks of experts only, theirs is put in its place
        vocabulary=text.vocab_size,
        vision=vision,
    )

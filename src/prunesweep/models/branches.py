"""Several sequences that go on together, one token each at a time: their caches side by side, padded to one length.

Layers of one sequence may differ in what their caches hold, and so may sequences.  A mask hides the padding; every row is
computed for itself, so that it answers as it would alone but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from prunesweep.models.caches import RecurrentCache, cache_argument
from prunesweep.types import KeyValue, Memory, Recurrent

ROOM = 32
"""Tokens by which caches grow at once: growing copies them."""


class PaddedCache:
    """Of one attention layer: B prompts, padded, and behind them what the sequences have written since."""

    def __init__(self, caches: Sequence[KeyValue]):
        self.longest = max(cache.tokens for cache in caches)
        self.key, self.value = (
            torch.cat([F.pad(tensor, (0, 0, 0, self.longest - tensor.shape[2])) for tensor in column])
            for column in zip(*caches, strict=True)
        )
        self.filled = self.longest

    def update(self, key: Float[Tensor, "b k 1 d"], value: Float[Tensor, "b k 1 d"], *_: Any, **__: Any) -> KeyValue:
        if self.filled == self.key.shape[2]:
            self.key, self.value = (F.pad(tensor, (0, 0, 0, ROOM)) for tensor in (self.key, self.value))
        self.key[:, :, self.filled] = key[:, :, 0]
        self.value[:, :, self.filled] = value[:, :, 0]
        self.filled += 1
        return KeyValue(self.key[:, :, : self.filled], self.value[:, :, : self.filled])

    def at(self, rows: Int[Tensor, " left"]) -> None:
        self.key, self.value = self.key[rows], self.value[rows]


class StackedCache(RecurrentCache):
    """Of one layer of linear attention: B states, which have one size."""

    def __init__(self, states: Sequence[Recurrent]):
        super().__init__(Recurrent(*map(torch.cat, zip(*states, strict=True))))

    def update_recurrent_state(self, state: Tensor, *_: Any, **__: Any) -> Tensor:
        super().update_recurrent_state(state)
        self.past = self.content
        return state

    def at(self, rows: Int[Tensor, " left"]) -> None:
        self.past = Recurrent(*(tensor[rows] for tensor in self.past))


class Branches:
    """B sequences on the layers of one decoder."""

    def __init__(self, decoder: Any, caches: Sequence[tuple[Memory, ...]], next_positions: Sequence[tuple[int, ...]]):
        """Of each sequence the cache of every layer, and the position of its next token there."""
        self.decoder = decoder
        by_layer = list(zip(*caches, strict=True))
        self.caches = [StackedCache(own) if isinstance(own[0], Recurrent) else PaddedCache(own) for own in by_layer]
        self.masks = _masks(by_layer)
        places: list[tuple[int, ...]] = list(zip(*next_positions, strict=True))
        self.ranges = list(_alike(places))
        self.places = [torch.tensor(places[start], device=decoder.device) for start, _ in self.ranges]
        self.written = 0

    def write(self, hidden: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """One more token of each sequence: its hidden state after the last layer."""
        hidden = hidden[:, None]
        masks = {id(mask): F.pad(mask, (0, self.written + 1)) for mask in self.masks if mask is not None}  # all see their own
        for (start, stop), place in zip(self.ranges, self.places, strict=True):
            rotary = self._rotations(hidden, place + self.written, start, stop)
            for index in range(start, stop):
                hidden = self._through(index, hidden, masks.get(id(self.masks[index])), rotary[index - start])
        self.written += 1
        return hidden[:, 0]

    def keep(self, rows: Sequence[int]) -> None:
        """Those of the sequences that still go on."""
        index = torch.tensor(rows, device=self.decoder.device)
        for cache in self.caches:
            cache.at(index)
        made = {id(mask): mask[index] for mask in self.masks if mask is not None}
        self.masks = [None if mask is None else made[id(mask)] for mask in self.masks]
        self.places = [place[index] for place in self.places]

    def _through(
        self, index: int, hidden: Float[Tensor, "b 1 c"], mask: Tensor | None, rotary: tuple[Tensor, Tensor]
    ) -> Float[Tensor, "b 1 c"]:
        layer = self.decoder.language_model.layers[index]
        return layer(
            hidden,
            attention_mask=mask,
            position_embeddings=rotary,
            position_ids=None,
            use_cache=True,
            **{cache_argument(type(layer).forward): self.caches[index]},
        )

    def _rotations(
        self, hidden: Float[Tensor, "b 1 c"], place: Int[Tensor, " b"], start: int, stop: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Cosines and sines of one token in each sequence, as if the tokens were one sequence."""
        position = self.decoder.text_positions(place)
        made = self.decoder._rotations(hidden.transpose(0, 1), position, start, stop)
        turned = {id(cos): (cos.transpose(-3, -2), sin.transpose(-3, -2)) for cos, sin in made}
        return [turned[id(cos)] for cos, _ in made]


def _masks(by_layer: Sequence[tuple[Memory, ...]]) -> list[Tensor | None]:
    """Added to the scores of each layer, as far as the prompts go; None where no row is padded."""
    made: dict[tuple[int, ...], Tensor | None] = {}
    masks: list[Tensor | None] = []
    for caches in by_layer:
        lengths = tuple(cache.tokens for cache in caches if isinstance(cache, KeyValue))
        if lengths not in made:
            made[lengths] = _mask(lengths, caches[0].key) if len(set(lengths)) > 1 else None  # type: ignore[union-attr]
        masks.append(made[lengths])
    return masks


def _mask(lengths: Sequence[int], like: Tensor) -> Float[Tensor, "b 1 1 longest"]:
    place = torch.arange(max(lengths), device=like.device)
    padding = place >= torch.tensor(lengths, device=like.device)[:, None]
    least = torch.finfo(like.dtype).min
    return torch.zeros(padding.shape, dtype=like.dtype, device=like.device).masked_fill(padding, least)[:, None, None]


def _alike(places: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, int]]:
    """Ranges of neighbouring layers in which every sequence goes on from the same position."""
    for _, group in groupby(range(len(places)), key=places.__getitem__):
        layers = list(group)
        yield layers[0], layers[-1] + 1

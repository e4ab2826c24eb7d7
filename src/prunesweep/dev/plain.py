"""Methods as one would write them down first: whole batches, whole matrices, float32, and no account of what came from where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from prunesweep.reducers.cdpruner import CdPruner
    from prunesweep.reducers.mmtok import MmTok
    from prunesweep.reducers.scissor import Scissor
    from prunesweep.types import Tokens, TowerTokens

TINY = 1e-6
"""Beside what is divided by."""


def unit(x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n c"]:
    return F.normalize(x, dim=-1)


def divprune(x: Float[Tensor, "n c"], count: int) -> Int[Tensor, " count"]:
    """With all distances; sorted."""
    vectors = unit(x)
    distance = 1 - vectors @ vectors.T
    nearest = distance.clone().fill_diagonal_(math.inf).amin(1)
    picks = [nearest.argmax()]
    nearest = distance[picks[0]].clone()
    for _ in range(count - 1):
        nearest[picks[-1]] = -math.inf
        picks.append(nearest.argmax())
        nearest = torch.minimum(nearest, distance[picks[-1]])
    return torch.stack(picks).sort().values


def mmtok(tokens: Tokens, method: MmTok, count: int) -> Int[Tensor, " count"]:
    """With how well every token covers every other; sorted."""
    x, words = tokens.x.flatten(0, 1), tokens.fact("question.embedded")
    features = unit(tokens.fact("pooled.features").flatten(0, 1))
    text = (unit(words) @ unit(x).T / method.text_temperature).softmax(1) / len(words)
    visual = (features @ features.T / method.visual_temperature).softmax(1) * (method.visual_weight / len(features))
    cover = torch.cat([text, visual])
    covered, gone = torch.zeros(len(cover), 1), torch.zeros(len(x), dtype=torch.bool)
    picks: list[Tensor] = []
    for _ in range(count):
        gain = (cover - covered).clamp(min=0).sum(0).masked_fill(gone, -math.inf)
        picks.append(gain.argmax())
        gone[picks[-1]] = True
        covered = torch.maximum(covered, cover[:, picks[-1], None])
    return torch.stack(picks).sort().values


def cdpruner(tokens: Tokens, method: CdPruner, count: int) -> Int[Tensor, "t count"]:
    """Greedy maximum a posteriori of a determinantal point process, all frames at once; sorted in each."""
    image, text = (tokens.fact(name) for name in method.needs)
    relevance = -(unit(image) @ unit(text).T).mean(2)
    relevance = (relevance - relevance.min() + TINY) / (relevance.max() - relevance.min())
    vectors = unit(tokens.x)
    kernel = relevance[:, :, None] * (vectors @ vectors.mT) * relevance[:, None]
    every, residual = torch.arange(len(kernel)), kernel.diagonal(dim1=1, dim2=2).clone()
    rows, picks = kernel.new_zeros(count, *residual.shape), []
    for step in range(count):
        pick = residual.argmax(1)
        earlier = torch.einsum("kt,ktp->tp", rows[:step, every, pick], rows[:step])
        rows[step] = (kernel[every, pick] - earlier) / residual[every, pick].sqrt()[:, None]
        residual = residual - rows[step].square()
        residual[every, pick] = -math.inf
        picks.append(pick)
    return torch.stack(picks, 1).sort(1).values


def vidcom2(x: Float[Tensor, "t p c"], ratio: float) -> Int[Tensor, " kept"]:
    steady = x.flatten(0, 1).var(0).argsort()[: x.shape[2] // 2]
    vectors = unit(x[..., steady])
    widths = [2.0**power for power in range(-3, 2)]

    def likeness(centre: Tensor) -> Tensor:
        squared = (vectors - centre).square().sum(-1)
        return torch.stack([(-squared / (2 * width)).exp() for width in widths]).sum(0)

    video = likeness(vectors.mean((0, 1)))
    score = video + likeness(vectors.mean(1, keepdim=True))
    unique = -video.mean(1)
    weight = ((unique - unique.max()) / 0.01).softmax(0)
    counts = ((ratio * (1 + weight - weight.mean())).clamp(max=1) * x.shape[1]).round().int().tolist()
    kept = [frame.argsort()[:count] + index * x.shape[1] for index, (frame, count) in enumerate(zip(score, counts, strict=True))]
    return torch.cat(kept).sort().values


class Paired(NamedTuple):
    """Tokens at even places and what becomes of them."""

    gone: Int[Tensor, "t r"]
    stay: Int[Tensor, "t m"]
    goes_to: Int[Tensor, "t r"]


def paired(metric: Float[Tensor, "t n d"], fewer: int) -> Paired:
    vectors = unit(metric)
    value, match = (vectors[:, ::2] @ vectors[:, 1::2].mT).max(-1)
    order = value.argsort(dim=1, descending=True)
    return Paired(order[:, :fewer], order[:, fewer:], match.gather(1, order[:, :fewer]))


def rows(x: Float[Tensor, "t n c"], index: Int[Tensor, "t k"]) -> Float[Tensor, "t k c"]:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[2]))


def aim(x: Float[Tensor, "t p c"], merges: Sequence[int]) -> Float[Tensor, "t k c"]:
    """Plain means of pairs, again and again."""
    for fewer in merges:
        gone, stay, goes_to = paired(x, fewer)
        even, odd = x[:, ::2], x[:, 1::2]
        index = goes_to[..., None].expand(-1, -1, x.shape[2])
        x = torch.cat([rows(even, stay), odd.scatter_reduce(1, index, rows(even, gone), "mean")], 1)
    return x


def tome(metric: Float[Tensor, "t n d"], tokens: TowerTokens, fewer: int) -> Float[Tensor, "t k c"]:
    """Means weighted by what tokens stand for."""
    gone, stay, goes_to = paired(metric, fewer)
    size = tokens.size[..., None].float()
    both = torch.cat([tokens.x * size, size], 2)
    even, odd = both[:, ::2], both[:, 1::2]
    index = goes_to[..., None].expand(-1, -1, both.shape[2])
    merged = torch.cat([rows(even, stay), odd.scatter_reduce(1, index, rows(even, gone), "sum")], 1)
    return merged[..., :-1] / merged[..., -1:]


def connected(vectors: Float[Tensor, "n c"], threshold: float, nodes: Int[Tensor, " m"]) -> Int[Tensor, " n"]:
    """The first member of what each token hangs together with, by pairs of which one is among the nodes."""
    count = len(vectors)
    pairs = torch.zeros(count, count, dtype=torch.bool)
    pairs[nodes] = vectors[nodes] @ vectors.T > threshold
    pairs = (pairs | pairs.T).fill_diagonal_(True)
    label, least = torch.empty(0), torch.arange(count)
    while not torch.equal(label, least):
        label = least
        least = label.expand(count, -1).masked_fill(~pairs, count).amin(1)
        least = least[least]
    return label


def means(x: Float[Tensor, "n c"], label: Int[Tensor, " n"], count: int) -> Float[Tensor, "count c"]:
    total = x.new_zeros(count, x.shape[1]).index_add_(0, label, x)
    return total / torch.bincount(label, minlength=count)[:, None]


def scissor(x: Float[Tensor, "t p c"], method: Scissor) -> Float[Tensor, "k c"]:
    """Without an order: sorted by the places where components begin."""
    generator = torch.Generator().manual_seed(method.seed)

    def components(vectors: Tensor) -> Tensor:
        count = len(vectors)
        drawn = math.ceil(math.log(count) / method.epsilon**2) if method.epsilon else count
        nodes = torch.arange(count) if drawn >= count else torch.randperm(count, generator=generator)[:drawn]
        return connected(unit(vectors), method.threshold, nodes).unique(return_inverse=True)[1]

    labels = [components(frame) for frame in x]
    first = torch.cat([means(frame, label, int(label.max()) + 1) for frame, label in zip(x, labels, strict=True)])
    label = components(first)
    whole = means(first, label, int(label.max()) + 1)
    goes_to = (unit(x.flatten(0, 1)) @ unit(whole).T).argmax(1)
    total = whole.index_add(0, goes_to, x.flatten(0, 1))
    return total / (1 + torch.bincount(goes_to, minlength=len(whole)))[:, None]


def dart(
    normed: Float[Tensor, "s c"], key: Float[Tensor, "k s d"], visual: Bool[Tensor, " s"], pivots: tuple[int, int], each: int
) -> Int[Tensor, " kept"]:
    """Visual pivots and those of the text behind; each keeps as many; sorted."""
    size, place = key.abs().sum((0, 2)), visual.nonzero()[:, 0]
    first, last = int(place[0]), int(place[-1])
    chosen = [size[first : last + 1].topk(pivots[0]).indices + first, size[last + 1 :].topk(pivots[1]).indices + last + 1]
    pivot = torch.cat(chosen).sort().values
    vectors = unit(normed)
    likeness = vectors[pivot] @ vectors[visual].T
    kept = torch.isin(place, pivot)
    for row in likeness:
        kept[row.masked_fill(kept, math.inf).topk(each, largest=False).indices] = True
    return kept.nonzero()[:, 0]


def framefusion(x: Float[Tensor, "t p c"], threshold: float) -> Float[Tensor, "k c"]:
    """Runs of like tokens as means, in the order of their first ones."""
    frames, patches, channels = x.shape
    alike = F.cosine_similarity(x[1:], x[:-1], dim=-1) >= threshold
    stays = torch.cat([torch.ones(1, patches, dtype=torch.bool), ~alike])
    place = torch.arange(frames * patches).view(frames, patches)
    target = place.where(stays, -1).cummax(0).values
    first, label = target.flatten().unique(return_inverse=True)
    return means(x.reshape(-1, channels), label, len(first))


def page_rank(
    query: Float[Tensor, "h s d"], key: Float[Tensor, "k s d"], temperature: float, iterations: int
) -> Float[Tensor, " s"]:
    """All heads at once."""
    tokens = query.shape[1]
    key = key.repeat_interleave(len(query) // len(key), 0)
    future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    step = ((query @ key.mT / math.sqrt(query.shape[2])).masked_fill(future, -math.inf) / temperature).softmax(-1)
    rank = torch.full((len(query), 1, tokens), 1 / tokens)
    for _ in range(iterations):
        rank = rank @ step
    return rank[:, 0].square().mean(0).sqrt()


def density_peaks(x: Float[Tensor, "b n c"], clusters: int, neighbours: int) -> Int[Tensor, "b n"]:
    """DPC-KNN with distances by products in float32, torch.cdist's default."""
    distance = torch.cdist(x, x) / math.sqrt(x.shape[2])
    density = (-distance.topk(neighbours, largest=False).values.square().mean(-1)).exp()
    denser = density[:, None] > density[:, :, None]
    separation = torch.where(denser, distance, distance.amax((1, 2), keepdim=True)).amin(-1)
    centre = (separation * density).topk(clusters).indices
    label = distance.gather(2, centre[:, None].expand(-1, x.shape[1], -1)).argmin(-1)
    return label.scatter(1, centre, torch.arange(clusters).expand(len(x), -1))

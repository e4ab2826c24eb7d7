"""What every method that merges takes on one drawn video: operations, seconds and memory, beside the FLOPs that it books."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from prunesweep.console.layout import grid, with_prefix
from prunesweep.dev.drawn import drawn_video, growth, in_a_process_of_its_own, median_and_range, operations
from prunesweep.paths import CONF
from prunesweep.reducers import Merger, needs_of
from prunesweep.targets import instantiate
from prunesweep.types import Tokens
from prunesweep.types.facts import POOLED, Fact

SPACE, HEAD, WORDS = 768, 72, 16
"""Sizes of facts: of the space that a tower shares with a text tower, of a head of attention, of a question."""
SMALL = (8, 16, 8)


def mergers() -> Iterator[tuple[str, Merger]]:
    """Of every reducer that has one, as configured."""
    for path in sorted((CONF / "reducer").glob("*.yaml")):
        merge = instantiate(_read(path).get("merge"))
        if merge is not None:
            yield path.stem, merge


def _read(path: Path) -> Any:
    own: Any = OmegaConf.load(path)
    parents = [entry for entry in own.get("defaults", []) if entry != "_self_" and "@" not in entry]
    return OmegaConf.merge(*(_read(path.with_stem(name)) for name in parents), own)


def with_facts(tokens: Tokens, needs: tuple[str, ...]) -> Tokens:
    """Facts drawn as if nothing had been pooled; attention is without meaning."""
    x, generator = tokens.x, torch.Generator().manual_seed(1)
    frames, patches, channels = x.shape

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    shapes = {
        "key": (frames, patches, HEAD),
        "attention": (frames, patches),
        "image": (frames, patches, SPACE),
        "question.text_space": (2, SPACE),
        "question.embedded": (WORDS, channels),
    }
    facts = {}
    for name in needs:
        plain = name.removeprefix(POOLED)
        whole = {"features": x, "frame.head": x.mean(1)}
        facts[name] = Fact(whole[plain] if plain in whole else drawn(*shapes.get(plain, shapes.get(plain.partition(".")[0], ()))))
    return Tokens(tokens.video_id, x, tokens.suffix, facts=facts)


def bench_methods(shape: tuple[int, int, int], rounds: int, names: Sequence[str] = ()) -> str:
    """Of these, or of all.  Raises ValueError for one that does not merge."""
    video, all_mergers = drawn_video(*shape), dict(mergers())
    for name in names:
        if name not in all_mergers:
            raise ValueError(f"no reducer {name} that merges; those that do: {', '.join(all_mergers)}")
    rows = []
    for name in names or all_mergers:
        merge = all_mergers[name]
        tokens = with_facts(video, needs_of(merge))
        merged = merge(tokens)
        taken = []
        for _ in range(rounds):
            begin = time.perf_counter()
            merge(tokens)
            taken.append(time.perf_counter() - begin)
        count = operations(partial(merge, tokens))
        grown = [extra_memory(name, shape) for _ in range(rounds)]
        cells = (median_and_range(taken, "s", 2), median_and_range(grown, "MiB", 0))
        rows.append((name, f"{len(merged.x)}", f"{count}", *cells, f"{with_prefix(merged.flops, 3)}"))
    sizes = " x ".join(map(str, shape))
    title = f"{sizes} (frames x tokens x channels), with defaults; the video takes {video.x.numel() * 4 / 2**20:.0f} MiB"
    return f"{title}\n{grid(('', 'tokens left', 'operations', f'median of {rounds} (range)', 'extra memory', 'FLOPs'), rows)}"


def extra_memory(name: str, shape: tuple[int, int, int]) -> float:
    """MiB by which a process of its own grows at most while merging, beyond its input and an earlier small merge."""
    return in_a_process_of_its_own(_grown, name, shape)


def _grown(name: str, shape: tuple[int, int, int]) -> float:
    merge = dict(mergers())[name]
    merge(with_facts(drawn_video(*SMALL), needs_of(merge)))
    tokens = with_facts(drawn_video(*shape), needs_of(merge))
    return growth(lambda: merge(tokens), tokens.x.device)

"""Is `scenes` as redundant as real video?  Statistics of the dense features, beside the published ones.

    python -m prunesweep.dev.scenes_calibration [CHECKPOINT]        prints the tables of docs/scenes.md

The targets were fixed before any method's accuracy was seen.  Videos are the first ones of the validation split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prunesweep.console.layout import markdown
from prunesweep.dev import parser_of
from prunesweep.embedded.build import SPLIT_SEEDS
from prunesweep.embedded.scenes.labels import NOTHING, token_labels
from prunesweep.embedded.scenes.script import Script
from prunesweep.embedded.worlds import SCENES
from prunesweep.errors import write_anywhere
from prunesweep.paths import DATA

if TYPE_CHECKING:
    from prunesweep.reducers.prunevid import Merge
    from prunesweep.types import Tokens

PUBLISHED = {"PLLaVA": (0.405, 0.162), "LLaVA-OneVision": (0.425, 0.170)}
"""Tokens that PruneVid's merge and its selection leave with the paper's defaults (its table 1; merged = retained / 0.4)."""
TARGETS = ((0.35, 0.48), (0.14, 0.19))
"""For the same two numbers here."""
KEEP = 0.4
VIDEOS = 48
THRESHOLDS = (0.6, 0.7, 0.8, 0.9, 0.95)
EDGES = (0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
NOISES = (1e-6, 1e-3)
"""Of DPC-KNN's densities: as released, and a thousand times as much."""


class Drawn(NamedTuple):
    script: Script
    tokens: Tokens


def drawn(model: Any, videos: int) -> list[Drawn]:
    """The dense features of so many validation videos."""
    import torch

    from prunesweep.types import Clip

    found = []
    for seed in range(SPLIT_SEEDS["validation"], SPLIT_SEEDS["validation"] + videos):
        script = SCENES.draw(np.random.default_rng(seed), SCENES.length)
        clip = Clip(str(seed), torch.from_numpy(SCENES.filmed(script)), tuple(range(SCENES.length)))
        with torch.inference_mode():
            found.append(Drawn(script, model.encode(clip)))
    return found


def left_by_merge(videos: Sequence[Drawn], merge: Merge) -> float:
    """Share of the tokens."""
    return float(np.mean([len(merge(one.tokens).x) / one.tokens.dense_tokens for one in videos]))


def next_frame_cosines(one: Drawn) -> tuple[np.ndarray, np.ndarray]:
    """Of patches with themselves one frame later: those that show background both times, no cut between; and moving blocks."""
    from torch.nn import functional as F

    x = one.tokens.x.float()
    cosine = F.cosine_similarity(x[:-1], x[1:], dim=-1).numpy()
    labels = token_labels(one.script)
    shown = labels["colour"] != NOTHING
    background = labels["background"] != NOTHING
    uncut = (np.diff(one.script.texture[:, 0]) == 0)[:, None]
    moving = (shown[:-1] & (labels["heading"][1:] > 0) & shown[1:]) | (shown[:-1] & (labels["heading"][:-1] > 0) & ~shown[1:])
    return cosine[background[:-1] & background[1:] & uncut], cosine[moving & uncut]


def stable_share(videos: Sequence[Drawn], noise: float) -> float:
    """Share of patches whose cluster has exactly the same members with two seeds of the density noise."""
    from prunesweep.reducers.prunevid import Merge

    shares = []
    for one in videos:
        first, second = (Merge(density_noise=noise, seed=seed)(one.tokens).source.flatten().tolist() for seed in (0, 1))
        members = [_members(source) for source in (first, second)]
        shares.append(np.mean([members[0][a] == members[1][b] for a, b in zip(first, second, strict=True)]))
    return float(np.mean(shares))


def _members(source: Sequence[int]) -> dict[int, frozenset[int]]:
    groups: dict[int, list[int]] = {}
    for patch, token in enumerate(source):
        groups.setdefault(token, []).append(patch)
    return {token: frozenset(own) for token, own in groups.items()}


def tables(videos: Sequence[Drawn]) -> list[str]:
    from prunesweep.reducers.prunevid import Merge

    merged = {threshold: left_by_merge(videos, Merge(static_threshold=threshold)) for threshold in THRESHOLDS}
    ours = (merged[0.8], merged[0.8] * KEEP)
    rows = [
        (f"{what} leaves", *(f"{values[i]:.3f}" for values in PUBLISHED.values()), f"{low} to {high}", f"{ours[i]:.3f}")
        for i, (what, (low, high)) in enumerate(zip(("merge", "selection"), TARGETS, strict=True))
    ]
    by_threshold = [("merge leaves", *(f"{share:.3f}" for share in merged.values()))]
    cosines = [np.concatenate(parts) for parts in zip(*map(next_frame_cosines, videos), strict=True)]
    below = [
        (what, str(len(values)), *(f"{(values < edge).mean():.2f}" for edge in EDGES))
        for what, values in zip(("background", "moving blocks"), cosines, strict=True)
    ]
    stable = [(f"{noise:g}", f"{stable_share(videos, noise):.3f}") for noise in NOISES]
    return [
        *markdown(("PruneVid, the paper's defaults", *PUBLISHED, "target", "scenes"), rows),
        "",
        *markdown(("static threshold", *map(str, THRESHOLDS)), by_threshold),
        "",
        *markdown(("cosine one frame later", "patches", *(f"below {edge}" for edge in EDGES)), below),
        "",
        *markdown(("density noise", "patches whose cluster is the same with two seeds"), stable),
    ]


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, (__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", nargs="?", default=str(DATA / "tiny_scenes"))
    parser.add_argument("--videos", type=int, default=VIDEOS, help=f"of the validation split ({VIDEOS})")
    arguments = parser.parse_args()
    if arguments.videos < 2:
        parser.error(f"--videos must be at least 2, got {arguments.videos}")
    from prunesweep.models.llava_onevision import load

    print(*tables(drawn(load("tiny_scenes", arguments.checkpoint), arguments.videos)), sep="\n")


if __name__ == "__main__":
    main()

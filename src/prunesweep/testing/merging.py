"""Laws of methods before the LLM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from prunesweep.engine.stages import Reduce
from prunesweep.engine.validity import InvalidError, require_valid_merge
from prunesweep.lazy import torch
from prunesweep.reducers import (
    Left,
    Merger,
    NoCounterpartError,
    Reducer,
    called,
    in_order,
    left_by_merge,
    merges_patches,
    needs_of,
)
from prunesweep.reducers.parts.grids import grid_of
from prunesweep.testing.counts import LOOSE, is_share, require_one_way, require_proportional
from prunesweep.testing.law import Law, require
from prunesweep.testing.settings import add, knob_of, switched, turned
from prunesweep.testing.videos import VIDEOS, Video, tokens_of, with_fact
from prunesweep.types import Contributions, Merged, Tokens
from prunesweep.types.facts import FEATURES

if TYPE_CHECKING:
    from torch import Tensor

CLOSE = 1e-4
"""Between tokens and the sums of what they are said to be made of, in float32."""
SLACK = 0.1
"""Of a video's tokens: by so much a count that depends on the video may go against the knob."""


class _NoModel:
    """Where tower features are as wide as visual tokens."""

    @staticmethod
    def project(features: Tensor) -> Tensor:
        return features


@dataclass
class Merges:
    """What a method makes of every video with every setting, worked out once for all laws."""

    reducer: Reducer
    settings: dict[str, Merger] = field(init=False)
    done: dict[tuple[str, Video], Merged | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        merge = self.reducer.merge
        self.settings = switched(merge)
        tokens = tokens_of(VIDEOS[0], needs_of(merge))
        values = turned(self.reducer, "merge", tokens)
        for value in list(values)[1::3]:
            self.settings[f"{self.reducer.knob}={value}"] = values[value]
        if hasattr(merge, "positions"):
            add(self.settings, "positions=original", merge, {"positions": "original"})
            add(self.settings, "positions=renumbered", merge, {"positions": "renumbered"})

    def of(self, setting: str, video: Video) -> Merged | None:
        """None where the method has no answer, and says so."""
        if (setting, video) not in self.done:
            self.done[setting, video] = merged_by(self.settings[setting], video)
        return self.done[setting, video]

    def all(self) -> Iterator[tuple[Merger, Video, Merged]]:
        for setting, merge in self.settings.items():
            for video in VIDEOS:
                merged = self.of(setting, video)
                if merged is not None:
                    yield merge, video, merged


def merged_by(merge: Merger, video: Video, tokens: Tokens | None = None) -> Merged | None:
    """Through the engine's stage, which refuses what is not valid.  None where it has no answer, or for no such frames."""
    tokens = tokens_of(video, needs_of(merge)) if tokens is None else tokens
    too_fine = too_fine_for(merge, tokens)
    try:
        return None if too_fine else Reduce(merge)(tokens, _NoModel())  # type: ignore[arg-type]
    except NoCounterpartError:
        return None
    except Exception as error:
        if isinstance(error, ValueError) and video.grid is not None:
            return None  # square frames alone
        raise AssertionError(f"{merge} on {video}: {type(error).__name__}: {error}") from error


def too_fine_for(merge: Any, tokens: Tokens) -> bool:
    """Whether a method of grids, which has candidates, has none as fine as its own in a video so small."""
    if not hasattr(merge, "candidates"):
        return False
    there = dict(zip(("rows", "columns", "frames"), (*grid_of(tokens), len(tokens.x)), strict=True))
    return any((getattr(merge, name, None) or 0) > size for name, size in there.items())


def merger_laws(reducer: Reducer) -> list[Law]:
    runs = Merges(reducer)
    claims: dict[str, Callable[[Merges], None]] = {
        "its tokens are valid": valid,
        "it is out of order where it says so": out_of_order,
        "4. left is what is left": left_is_left,
        "4. fewest is the least, and near it": fewest_is_tight,
        "5. contributions times patches are the tokens": made_of,
        "5. a patch's source is the token with its largest share": sources,
        "the same again is the same": deterministic,
        "half precision comes and goes": types_kept,
        "tokens of one frame are in that frame's group": groups,
        "positions are places of a token's own patches": positions,
        "7. what depends on content costs FLOPs": flops,
        "it reads the facts that it needs and no others": needs,
        "4. the count follows the knob": follows_knob,
        "3. a share of 1 keeps all": keeps_all,
    }
    return [Law(f"merge: {name}", partial(claim, runs)) for name, claim in claims.items()]


def _who(merge: Merger, video: Video) -> str:
    return f"{merge} on {video}"


def valid(runs: Merges) -> None:
    """Some of all videos and settings have an answer, and these pass the engine's checks."""
    require(any(True for _ in runs.all()), lambda: f"{called(runs.reducer.merge)} answers no video at all; see what it raises")


class _InOrder:
    """Stands for a merger that says nothing of its order."""


def out_of_order(runs: Merges) -> None:
    """As given, and then with some setting on some video: else the engine would check less than it could."""
    merge: Any = runs.reducer.merge
    if in_order(merge):
        return
    for _, _, merged in runs.all():
        try:
            require_valid_merge(_InOrder(), merged, merged.x.shape[1])  # type: ignore[arg-type]
        except InvalidError:
            return
    raise AssertionError(f"{called(merge)} says in_order = False, and all its tokens stand in order; leave it out")


def left_is_left(runs: Merges) -> None:
    for setting, merge in runs.settings.items():
        for video in VIDEOS:
            if too_fine_for(merge, tokens_of(video, ())):
                continue
            merged = runs.of(setting, video)
            if merged is None and video.grid is not None:
                continue
            said = said_left(merge, video)
            agrees = said is None or (merged is None) == (said == "no answer")
            require(
                agrees,
                lambda: f"{_who(merge, video)}: left and the call must raise NoCounterpartError together",
            )
            if merged is not None and isinstance(said, Left):
                _require_left(merge, video, merged, said)


def said_left(merge: Merger, video: Video) -> Left | str | None:
    try:
        return left_by_merge(merge, video.frames, video.patches)
    except NoCounterpartError:
        return "no answer"


def _require_left(merge: Merger, video: Video, merged: Merged, said: Left) -> None:
    count = len(merged.x)
    require(said.tokens == count, lambda: f"{_who(merge, video)}: left says {said.tokens}, {count} are left; count in one place")
    if said.groups is not None:
        real = [size for size in torch.bincount(merged.group).tolist() if size]
        says = [size for size in said.groups if size]
        require(says == real, lambda: f"{_who(merge, video)}: left says groups of {says}, there are {real}")


def fewest_is_tight(runs: Merges) -> None:
    nearest, bound = math.inf, 0
    for merge, video, merged in runs.all():
        if not hasattr(merge, "fewest") or isinstance(said_left(merge, video), Left):
            continue
        try:
            least, count = merge.fewest(video.frames, video.patches), len(merged.x)
        except NoCounterpartError:  # of some other video of this size
            continue
        require(
            1 <= least <= count, lambda: f"{_who(merge, video)}: fewest says {least}, {count} are left; lower it to 1 at least"
        )
        nearest, bound = min(nearest, count / least), max(bound, least)
    require(
        nearest < LOOSE or not bound,
        lambda: f"{called(runs.reducer.merge)}: fewest is {nearest:.2f} times below every count tried, bound {LOOSE}; raise it",
    )


def patches_of(merge: Merger, tokens: Tokens) -> Tensor:
    return (tokens.fact(FEATURES) if merges_patches(merge) else tokens.x).flatten(0, 1)


def shares_of(merged: Merged) -> Contributions:
    """What its tokens are made of; where it does not say, plain means of the patches that went to them."""
    if merged.contributions is not None:
        return merged.contributions
    source = merged.source.flatten()
    patch = (source >= 0).nonzero()[:, 0]
    token = source[patch]
    return Contributions(token, patch, 1 / torch.bincount(token, minlength=len(merged.x))[token].float())


def weights_of(merged: Merged) -> Tensor:
    """Tokens by patches."""
    shares = shares_of(merged)
    whole = torch.zeros(len(merged.x), merged.source.numel())
    return whole.index_put_((shares.token.long(), shares.patch.long()), shares.share.float(), accumulate=True)


def made_of(runs: Merges) -> None:
    for merge, video, merged in runs.all():
        made = weights_of(merged) @ patches_of(merge, merged.tokens).float()
        off = float(((made - merged.x.float()).abs() / (1 + merged.x.float().abs())).max())
        require(
            off <= CLOSE,
            lambda: (
                f"{_who(merge, video)}: tokens are off by {off:.2g} from contributions x patches, at most {CLOSE}; "
                "say with Merged.contributions what they are made of"
            ),
        )


def sources(runs: Merges) -> None:
    for merge, video, merged in runs.all():
        weights, source = weights_of(merged), merged.source.flatten()
        there = weights.amax(0) > 0
        own = weights[source.clamp(min=0), torch.arange(len(source))]
        wrong = int((there != (source >= 0)).sum() + (own[there] < weights.amax(0)[there]).sum())
        require(not wrong, lambda: f"{_who(merge, video)}: {wrong} patches have a source in which others hold more; bound 0")


def deterministic(runs: Merges) -> None:
    for setting, merge in runs.settings.items():
        for video in VIDEOS[1:8:3]:
            once = runs.of(setting, video)
            if once is None:
                continue
            tokens = tokens_of(video, needs_of(merge))
            torch.rand(1)  # whoever draws without a seed draws something else now
            again = merged_by(merge, video, tokens)
            require(
                again is not None and _same(once, again),
                lambda: f"{_who(merge, video)}: two calls differ; draw with a seeded torch.Generator",
            )
            fresh = tokens_of(video, needs_of(merge))
            untouched = torch.equal(fresh.x, tokens.x)
            untouched &= all(torch.equal(fact.value, tokens.facts[name].value) for name, fact in fresh.facts.items())
            require(untouched, lambda: f"{_who(merge, video)}: writes into its input; work on a copy")


def _same(one: Merged, other: Merged) -> bool:
    names = ("x", "group", "source", "position")
    return one.flops == other.flops and all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)


def types_kept(runs: Merges) -> None:
    for merge in runs.settings.values():
        for kind in (torch.float16, torch.bfloat16):
            video = VIDEOS[1]
            merged = merged_by(merge, video, tokens_of(video, needs_of(merge), kind))
            require(
                merged is None or merged.x.dtype == kind,
                lambda: f"{_who(merge, video)}: {kind} must come back as it came",
            )


def groups(runs: Merges) -> None:
    for merge, video, merged in runs.all():
        weights = weights_of(merged).unflatten(1, (video.frames, -1)).abs().sum(2) > 0
        single = weights.sum(1) == 1
        frame, group = weights[single].int().argmax(1), merged.group[single]
        pairs = sorted(set(zip(frame.tolist(), group.tolist(), strict=True)))
        rising = all(one[0] < other[0] and one[1] < other[1] for one, other in pairwise(pairs))
        require(
            rising,
            lambda: (
                f"{_who(merge, video)}: tokens of one frame alone must be in a group that is this frame's, and rises with it; "
                f"got (frame, group) {pairs[:6]}"
            ),
        )
        if single.all() and len(pairs) == video.frames:
            require(
                all(one == other for one, other in pairs),
                lambda: f"{_who(merge, video)}: groups are frames where no token is made of several; got {pairs[:6]}",
            )


def positions(runs: Merges) -> None:
    for merge, video, merged in runs.all():
        count, size, place = len(merged.x), video.frames * video.patches, merged.position
        if getattr(merge, "positions", "original") == "renumbered":
            anew = place.tolist() == list(range(count)) and merged.span == count
            require(anew, lambda: f"{_who(merge, video)}: renumbered positions are 0 to {count - 1} in a span of {count}")
            continue
        require(merged.span == size, lambda: f"{_who(merge, video)}: original positions span {size}, got {merged.span}")
        own = weights_of(merged) != 0
        some = own.any(1)
        first, last = own.int().argmax(1), size - 1 - own.flip(1).int().argmax(1)
        outside = int((((place < first) | (place > last)) & some).sum())
        require(
            not outside,
            lambda: f"{_who(merge, video)}: {outside} tokens stand before their first or behind their last patch; bound 0",
        )
        alone = own.sum(1) == 1
        require(
            torch.equal(place[alone], first[alone]),
            lambda: f"{_who(merge, video)}: a token of one patch stands at that patch with positions=original",
        )


def flops(runs: Merges) -> None:
    """What is kept, or in what order, differs between two videos of one size; or tokens are sums of several patches."""
    random, still = VIDEOS[0], VIDEOS[2]
    for setting, merge in runs.settings.items():
        one, other = runs.of(setting, random), runs.of(setting, still)
        if one is None or other is None:
            continue
        reads = one.source.shape != other.source.shape or not torch.equal(one.source, other.source)
        several = len(shares_of(one).token) > len(one.x)
        require(
            min(one.flops, other.flops) > 0 or not (reads or several),
            lambda: (
                f"{_who(merge, random)}: what it keeps depends on the video, for {one.flops} FLOPs; "
                "count what is compared in Merged.flops (0 only where nothing is)"
            ),
        )
        require(
            isinstance(one.flops, int) and (one.flops == 0 or one.flops % 2 == 0),
            lambda: f"{_who(merge, random)}: FLOPs are whole and multiply-adds twice, got {one.flops!r}",
        )


def needs(runs: Merges) -> None:
    """A fact that is needed changes something, with some setting."""
    unread = set(needs_of(runs.reducer.merge))
    for setting, merge in runs.settings.items():
        for video in (VIDEOS[0], VIDEOS[6], VIDEOS[11]):
            once = runs.of(setting, video)
            for name in sorted(unread & set(needs_of(merge))):
                again = merged_by(merge, video, with_fact(tokens_of(video, needs_of(merge)), name))
                if once is not None and (again is None or not _same(once, again)):
                    unread.discard(name)
    require(
        not unread, lambda: f"{called(runs.reducer.merge)} needs {', '.join(sorted(unread))}, and never reads it; leave it out"
    )


def merges_by_knob(runs: Merges, video: Video) -> dict[Any, Merged]:
    """Of a share those values that are a whole token of a frame at least: methods differ in what they make of less."""
    merge, name = runs.reducer.merge, knob_of(runs.reducer, "merge")
    found: dict[Any, Merged] = {}
    for value, candidate in turned(runs.reducer, "merge", tokens_of(video, ())).items():
        if is_share(merge, name) and value * video.patches < 1:
            continue
        merged = merged_by(candidate, video)
        if merged is not None:
            found[value] = merged
    return found


def follows_knob(runs: Merges) -> None:
    """The count only rises, or only falls; where it does not depend on the video, in proportion to a share, to a rounding."""
    merge: Any = runs.reducer.merge
    name = knob_of(runs.reducer, "merge")
    if not name:
        return  # nothing, or a grid, whose settings have no order
    for video in (*VIDEOS[:3], VIDEOS[5]):
        merges, said = merges_by_knob(runs, video), said_left(merge, video)
        counts = {value: len(merged.x) for value, merged in merges.items()}
        require_one_way(
            f"{_who(merge, video)} by {name}", counts, 0 if isinstance(said, Left) else SLACK * video.frames * video.patches
        )
        if not isinstance(said, Left) or not is_share(merge, name):
            continue
        by_frame = {value: torch.bincount(merged.group, minlength=video.frames).tolist() for value, merged in merges.items()}
        if said.groups is not None and len(said.groups) > len(said.groups) - said.groups.count(0) - 1 >= video.frames - 2:
            for frame in range(video.frames):
                one = {value: sizes[frame] for value, sizes in by_frame.items()}
                require_proportional(f"{_who(merge, video)}, frame {frame}, by {name}", one, video.patches)
        else:
            require_proportional(f"{_who(merge, video)} by {name}", counts, video.frames * video.patches)


def keeps_all(runs: Merges) -> None:
    """Where the knob is a share: at one of its ends all tokens of a video stay that has nothing alike.

    But for what a method loses that gives some frames more than they hold.
    """
    merge: Any = runs.reducer.merge
    name = knob_of(runs.reducer, "merge")
    if not is_share(merge, name):
        return
    video = VIDEOS[0]
    size, most = video.frames * video.patches, 0
    for share in (0.0, 1.0):
        found: dict[str, Any] = {}
        add(found, name, merge, {name: share})
        merged = merged_by(found[name], video) if found else None
        most = max(most, 0 if merged is None else len(merged.x))
    known = isinstance(said_left(merge, video), Left)
    require(
        most == size or (not known and most >= (1 - SLACK) * size),
        lambda: f"{_who(merge, video)}: {most} of {size} tokens stay with {name} at its ends 0 and 1; at one of them keep all",
    )

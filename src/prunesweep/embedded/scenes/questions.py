"""Multiple-choice questions about a `scenes` video, in ten families named after MVBench's tasks, four answered in several words.

Wrong options are made of what else the same video shows.  Where an answer has two parts, each part is as frequent among the
options as any other, so that the options give nothing away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import permutations, product

import numpy as np

from prunesweep.embedded.questions import CORNERS, DIRECTIONS, MOMENTS, NUMBERS, Question, choices_of
from prunesweep.embedded.scene import BACKGROUNDS, COLOURS, PATTERNS
from prunesweep.embedded.scenes.paths import HEADINGS, SIDE
from prunesweep.embedded.scenes.render import mosaic
from prunesweep.embedded.scenes.script import FRAMES, FRAMES_PER_SECOND, Script, moves

QUARTERS = ("first", "second", "third", "fourth")
"""Seconds of the video."""
THEN = "then"
BRIEF = FRAMES // 4
"""Frames that a block is seen at most whose existence is asked about; its pattern twice as long."""
CLEAR = 5
"""Pixels between a block's centre and the middle of the picture where the block is in one quarter of it."""
CLEARLY_MORE = 1.3
"""Pixels of the texture that a background is called by, of the next one's."""
FUNCTION_WORDS = ("change", "in", "order", "do", "appear", "and", "when", "seen", "waits", THEN)
WORDS = (*FUNCTION_WORDS, *QUARTERS)
"""That the questions of `blocks` do not have."""
Wrong = Callable[[np.random.Generator], Sequence[str]]
Draft = tuple[str, str, Wrong]
"""Question text, answer, and what draws its wrong options."""


def ask(script: Script, rng: np.random.Generator) -> list[Question]:
    """Every question that has one right answer in this video, family by family, choices shuffled."""
    return [
        Question(task, text, tuple(rng.permutation([answer, *wrong(rng)]).tolist()), answer)
        for task, family in FAMILIES.items()
        for text, answer, wrong in family(script)
    ]


def _of(answer: str, near: Iterable[str], others: Iterable[str] = ()) -> Wrong:
    """The near ones first, then others."""
    return lambda rng: [choice for choice in choices_of(answer, near, others, rng) if choice != answer]


def _joined(parts: Iterable[str]) -> str:
    return f" {THEN} ".join(parts)


def _reversals(parts: Sequence[str], near: Iterable[str], others: Iterable[str]) -> Wrong:
    """The reverse, and another list with its own: one part of it is another, a near one if there is one."""

    def wrong(rng: np.random.Generator) -> list[str]:
        pool = sorted(set(near) - set(parts)) or sorted(set(others) - set(parts))
        other = list(parts)
        other[int(rng.integers(len(parts)))] = pool[int(rng.integers(len(pool)))]
        other = rng.permutation(other).tolist()
        return [_joined(reversed(parts)), _joined(other), _joined(reversed(other))]

    return wrong


def _colours_of(script: Script, block: int) -> list[str]:
    """The colours in which a block is ever seen, first one first."""
    seen = script.colour[script.visible[:, block], block]
    return [COLOURS[c] for c in dict.fromkeys(seen.tolist())]


def _named(script: Script) -> list[tuple[int, str]]:
    """Blocks that have one colour throughout, with its name."""
    return [(b, c[0]) for b in range(script.blocks) if len(c := _colours_of(script, b)) == 1]


def _seen(script: Script) -> list[str]:
    return [c for b in range(script.blocks) for c in _colours_of(script, b)]


def _frames_of(script: Script, block: int) -> np.ndarray:
    return np.flatnonzero(script.visible[:, block])


def _object_existence(script: Script) -> Iterable[Draft]:
    brief = [c for b, c in _named(script) if len(_frames_of(script, b)) <= BRIEF]
    drawn = {COLOURS[c] for c in script.colour[script.present].tolist()}  # what is hidden is neither there nor not
    for colour in COLOURS:
        if colour in brief:
            yield f"is there a {colour} block ?", "yes", lambda _: ["no"]
        elif colour not in drawn:
            yield f"is there a {colour} block ?", "no", lambda _: ["yes"]


def _fine_grained_attribute(script: Script) -> Iterable[Draft]:
    others = [PATTERNS[p] for p in script.pattern]
    for block, colour in _named(script):
        if len(_frames_of(script, block)) <= 2 * BRIEF:
            pattern = PATTERNS[script.pattern[block]]
            yield f"what pattern has the {colour} block ?", pattern, _of(pattern, others, PATTERNS)


def _moving_direction(script: Script) -> Iterable[Draft]:
    for block, colour in _named(script):
        if len(headings := moves(script, block)) == 1:
            (heading,) = headings
            if (script.heading[script.visible[:, block], block] == heading).sum() >= min(3, script.frames - 1):
                direction = HEADINGS[heading]
                yield f"which way does the {colour} block move ?", direction, _of(direction, DIRECTIONS)


def _object_count(script: Script) -> Iterable[Draft]:
    seen, drawn = script.visible.any(0), script.present.any(0)
    if (seen == drawn).all():
        answer = NUMBERS[int(seen.sum())]
        yield "how many blocks are there ?", answer, _of(answer, NUMBERS[2:])


def _action_count(script: Script) -> Iterable[Draft]:
    flashes_of = (script.flash & script.visible).sum(0)
    for block, colour in _named(script):
        if script.visible[:, block].all() and flashes_of.any():
            answer = NUMBERS[int(flashes_of[block])]
            yield f"how many times does the {colour} block flash ?", answer, _of(answer, NUMBERS[:4])


def _state_change(script: Script) -> Iterable[Draft]:
    for block, pattern in enumerate(script.pattern):
        changes = len(_colours_of(script, block)) > 1
        for moment, frame in zip(MOMENTS, (0, -1), strict=True):
            if script.visible[frame, block] and (changes or script.frames == 1):
                answer = COLOURS[script.colour[frame, block]]
                near = _colours_of(script, block) if changes else ()
                yield f"what color is the {PATTERNS[pattern]} block at the {moment} ?", answer, _of(answer, near, COLOURS)


def _scene_transition(script: Script) -> Iterable[Draft]:
    """What there is most of before and after a cut, where that is clear."""
    cut = np.flatnonzero(np.diff(script.texture[:, 0]))
    if len(cut) == 1:
        texture = mosaic(script, np.arange(4, SIDE, 8))
        most = [_most_of(part) for part in (texture[: cut[0] + 1], texture[cut[0] + 1 :])]
        if None not in most and most[0] != most[1]:
            parts = [BACKGROUNDS[m] for m in most if m is not None]
            near = [BACKGROUNDS[t] for t in script.texture[[0, -1]].ravel()]
            yield "how does the background change ?", _joined(parts), _reversals(parts, near, BACKGROUNDS)


def _most_of(texture: np.ndarray) -> int | None:
    """The index that is there most often, by CLEARLY_MORE."""
    counts = np.bincount(texture.ravel(), minlength=len(BACKGROUNDS))
    first, second = np.sort(counts)[[-1, -2]]
    return int(counts.argmax()) if first >= CLEARLY_MORE * second else None


def _character_order(script: Script) -> Iterable[Draft]:
    """Of the blocks that come after the beginning: two or three, no two of them in one frame."""
    first = {b: int(f[0]) for b in range(script.blocks) if len(f := _frames_of(script, b)) and f[0] > 0}
    order = sorted(first, key=lambda block: first[block])
    one_colour = all(len(_colours_of(script, b)) == 1 for b in order)
    if len(order) in (2, 3) and one_colour and len(set(first.values())) == len(order):
        parts = [_colours_of(script, b)[0] for b in order]
        yield "in which order do blocks appear ?", _joined(parts), _reversals(parts, _seen(script), COLOURS)


def _action_sequence(script: Script) -> Iterable[Draft]:
    for block, colour in _named(script):
        if script.phased[block] and script.visible[:, block].mean() > 0.8:
            parts = [HEADINGS[h] for h in dict.fromkeys(script.heading[1:, block].tolist())]
            yield f"how does the {colour} block move ?", _joined(parts), _reversals(parts, (), HEADINGS)


def _action_localization(script: Script) -> Iterable[Draft]:
    """Where and in which second a block flashes, or is seen, for a single time."""
    for block, colour in _named(script):
        frames = _frames_of(script, block)
        flashes = np.flatnonzero(script.flash[:, block] & script.visible[:, block])
        if len(flashes) == 1 and script.flash[:, block].sum() == 1:
            yield from _placed(script, block, flashes, f"where and when does the {colour} block flash ?")
        elif len(frames) <= BRIEF and script.frames > 1:
            yield from _placed(script, block, frames, f"where and when is the {colour} block seen ?")


def _placed(script: Script, block: int, frames: np.ndarray, text: str) -> Iterable[Draft]:
    corner, quarter = set(script.corner[frames, block].tolist()), set((frames // FRAMES_PER_SECOND).tolist())
    clear = (np.abs(script.centre[frames, block] - SIDE / 2) >= CLEAR).all()
    if len(corner) == len(quarter) == 1 and clear:
        here, now = CORNERS[corner.pop()], QUARTERS[quarter.pop()]
        yield text, f"{here} {now}", _elsewhere(here, now)


def _elsewhere(here: str, now: str) -> Wrong:
    """The same place at another time, another place at the same time, and both others."""

    def wrong(rng: np.random.Generator) -> list[str]:
        there = rng.choice([c for c in CORNERS if c != here])
        later = rng.choice([q for q in QUARTERS if q != now])
        return [f"{here} {later}", f"{there} {now}", f"{there} {later}"]

    return wrong


FAMILIES: dict[str, Callable[[Script], Iterable[Draft]]] = {
    "object_existence": _object_existence,
    "fine_grained_attribute": _fine_grained_attribute,
    "moving_direction": _moving_direction,
    "object_count": _object_count,
    "action_count": _action_count,
    "state_change": _state_change,
    "scene_transition": _scene_transition,
    "character_order": _character_order,
    "action_sequence": _action_sequence,
    "action_localization": _action_localization,
}
SEVERAL_WORDS = ("scene_transition", "character_order", "action_sequence", "action_localization")
"""Families whose answers have two words that matter, or three."""

ANSWERS: dict[str, tuple[str, ...]] = {
    "object_existence": ("yes", "no"),
    "fine_grained_attribute": PATTERNS,
    "moving_direction": DIRECTIONS,
    "object_count": NUMBERS[2:],
    "action_count": NUMBERS[:4],
    "state_change": COLOURS,
    "scene_transition": tuple(map(_joined, permutations(BACKGROUNDS, 2))),
    "character_order": tuple(f"{length} {colour}" for length, colour in product(NUMBERS[2:4], COLOURS)),
    "action_sequence": tuple(map(_joined, permutations(HEADINGS, 2))),
    "action_localization": tuple(f"{corner} {quarter}" for corner, quarter in product(CORNERS, QUARTERS)),
}
"""Kinds of answers that a family has; a split asks for each equally often."""


def kind(question: Question) -> str:
    """Of ANSWERS: the answer; of an order, how many blocks it names and the first one."""
    if question.task != "character_order":
        return question.answer
    parts = question.answer.split(f" {THEN} ")
    return f"{NUMBERS[len(parts)]} {parts[0]}"

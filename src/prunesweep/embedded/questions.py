"""Multiple-choice questions about a `blocks` scene, in ten families named after MVBench's tasks.

Every answer is one word.  Wrong options are taken from the same video first (the other blocks' colours, the other
scene's background, the colour before the change), so that a question is answered by looking at the right token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from prunesweep.embedded.scene import BACKGROUNDS, COLOURS, GRID, PATTERNS, Scene

MAX_CHOICES = 4
NUMBERS = ("zero", "one", "two", "three", "four", "five")
DIRECTIONS = ("left", "right", "up", "down")
CORNERS = ("northwest", "northeast", "southwest", "southeast")
MOMENTS = ("start", "end")


@dataclass(frozen=True)
class Question:
    task: str
    text: str
    choices: tuple[str, ...]
    answer: str


def ask(scene: Scene, rng: np.random.Generator) -> list[Question]:
    """Every question that has one right answer in this scene, family by family, choices shuffled."""
    return [
        Question(task, text, choices_of(answer, near, others, rng), answer)
        for task, family in FAMILIES.items()
        for text, answer, near, others in family(scene)
    ]


Draft = tuple[str, str, Iterable[str], Iterable[str]]
"""Question text, answer, the wrong options to prefer, and what the others come from."""


def choices_of(answer: str, near: Iterable[str], others: Iterable[str], rng: np.random.Generator) -> tuple[str, ...]:
    """The answer among at most three wrong ones, those that are near first; shuffled."""
    near = rng.permutation(sorted(set(near) - {answer})).tolist()
    far = rng.permutation(sorted(set(others) - {answer, *near})).tolist()
    return tuple(rng.permutation([answer, *(near + far)[: MAX_CHOICES - 1]]).tolist())


def _colours_of(scene: Scene, block: int) -> list[str]:
    """The colours in which a block is ever seen, first one first."""
    seen = scene.colour[scene.visible[:, block], block]
    return [COLOURS[c] for c in dict.fromkeys(seen.tolist())]


def _named(scene: Scene) -> list[tuple[int, str]]:
    """Blocks that have one colour throughout, with its name."""
    return [(b, c[0]) for b in range(scene.blocks) if len(c := _colours_of(scene, b)) == 1]


def _seen(scene: Scene) -> list[str]:
    return [c for b in range(scene.blocks) for c in _colours_of(scene, b)]


def _displacement(scene: Scene, block: int) -> tuple[int, int]:
    cells = scene.cell[scene.visible[:, block], block]
    return int(cells[-1] // GRID - cells[0] // GRID), int(cells[-1] % GRID - cells[0] % GRID)


def _direction(scene: Scene, block: int) -> str | None:
    down, right = _displacement(scene, block)
    if down == right == 0:
        return None
    return ("right" if right > 0 else "left") if right else ("down" if down > 0 else "up")


def corner_of(row: int, column: int) -> int:
    """Index into CORNERS."""
    return 2 * (row >= GRID // 2) + (column >= GRID // 2)


def _object_existence(scene: Scene) -> Iterable[Draft]:
    for colour in COLOURS:
        yield f"is there a {colour} block ?", "yes" if colour in _seen(scene) else "no", ("yes", "no"), ()


def _fine_grained_attribute(scene: Scene) -> Iterable[Draft]:
    others = [PATTERNS[p] for p in scene.pattern]
    for block, colour in _named(scene):
        yield f"what pattern has the {colour} block ?", PATTERNS[scene.pattern[block]], others, PATTERNS


def _moving_direction(scene: Scene) -> Iterable[Draft]:
    for block, colour in _named(scene):
        if direction := _direction(scene, block):
            yield f"which way does the {colour} block move ?", direction, DIRECTIONS, ()


def _moving_attribute(scene: Scene) -> Iterable[Draft]:
    movers = [(b, c) for b, c in _named(scene) if _direction(scene, b)]
    if len(movers) == 1:
        yield "which color moves ?", movers[0][1], _seen(scene), COLOURS


def _object_count(scene: Scene) -> Iterable[Draft]:
    count = int(scene.visible.any(0).sum())
    yield "how many blocks are there ?", NUMBERS[count], NUMBERS[2:], ()


def _action_count(scene: Scene) -> Iterable[Draft]:
    flashes_of = (scene.flash & scene.visible).sum(0)
    for block, colour in _named(scene):
        flashes = int(flashes_of[block])
        if scene.visible[:, block].all() and flashes_of.any():
            yield f"how many times does the {colour} block flash ?", NUMBERS[flashes], NUMBERS[:4], ()


def _appearance_order(scene: Scene) -> Iterable[Draft]:
    first = scene.visible.argmax(0)
    last = int(first.argmax())
    if first[last] > 0 and (first == first[last]).sum() == 1 and len(_colours_of(scene, last)) == 1:
        yield "which color appears last ?", _colours_of(scene, last)[0], _seen(scene), COLOURS


def _scene_transition(scene: Scene) -> Iterable[Draft]:
    seen = [BACKGROUNDS[b] for b in set(scene.background.tolist())]
    for moment, frame in zip(MOMENTS, (0, -1), strict=True):
        yield f"what is the background at the {moment} ?", BACKGROUNDS[scene.background[frame]], seen, BACKGROUNDS


def _state_change(scene: Scene) -> Iterable[Draft]:
    for block, pattern in enumerate(scene.pattern):
        for moment, frame in zip(MOMENTS, (0, -1), strict=True):
            changes = len(_colours_of(scene, block)) > 1
            if scene.visible[frame, block] and (changes or scene.frames == 1):
                near = _colours_of(scene, block) if changes else ()
                answer = COLOURS[scene.colour[frame, block]]
                yield f"what color is the {PATTERNS[pattern]} block at the {moment} ?", answer, near, COLOURS


def _position(scene: Scene) -> Iterable[Draft]:
    for block, colour in _named(scene):
        for moment, frame in zip(MOMENTS, (0, -1), strict=True):
            if scene.visible[frame, block]:
                corner = CORNERS[corner_of(*divmod(int(scene.cell[frame, block]), GRID))]
                yield f"where is the {colour} block at the {moment} ?", corner, CORNERS, ()


FAMILIES: dict[str, Callable[[Scene], Iterable[Draft]]] = {
    "object_existence": _object_existence,
    "fine_grained_attribute": _fine_grained_attribute,
    "moving_direction": _moving_direction,
    "moving_attribute": _moving_attribute,
    "object_count": _object_count,
    "action_count": _action_count,
    "appearance_order": _appearance_order,
    "scene_transition": _scene_transition,
    "state_change": _state_change,
    "position": _position,
}


ANSWERS: dict[str, tuple[str, ...]] = {
    "object_existence": ("yes", "no"),
    "fine_grained_attribute": PATTERNS,
    "moving_direction": DIRECTIONS,
    "moving_attribute": COLOURS,
    "object_count": NUMBERS[2:],
    "action_count": NUMBERS[:4],
    "appearance_order": COLOURS,
    "scene_transition": BACKGROUNDS,
    "state_change": COLOURS,
    "position": CORNERS,
}
"""Every answer that a family has; a split asks for each equally often."""


def balanced(questions: list[Question], rng: np.random.Generator, most: int) -> list[Question]:
    """At most `most` questions of a video, families first, so that frequent families do not crowd out rare ones.

    Within a family a question is drawn with the answer drawn first: "yes" and "no" are then equally likely.
    """
    by_task: dict[str, list[Question]] = {}
    for question in questions:
        by_task.setdefault(question.task, []).append(question)
    chosen: list[Question] = []
    while by_task and len(chosen) < most:
        for task in rng.permutation(sorted(by_task)).tolist():
            if len(chosen) == most:
                break
            asked = by_task[task]
            answer = rng.choice(sorted({q.answer for q in asked}))
            matching = [q for q in asked if q.answer == answer]
            pick = matching[int(rng.integers(len(matching)))]
            chosen.append(pick)
            by_task[task] = [q for q in asked if q is not pick]
            if not by_task[task]:
                del by_task[task]
    return chosen

"""Tasks of lmms-eval (github.com/EvolvingLMMs-Lab/lmms-eval): asked in its words, scored by us and, beside that, by its own code.

A request of `mvbench_action_antonym`: the user's whole turn, how it is answered, and the video:

    "Question:What is the action performed by the person in the video?\\nOption:\\n(A) Not sure\\n(B) Scattering something down\\n
    (C) Piling something up\\nOnly give the best option.\\n", {"max_new_tokens": 16, ...}, "ssv2_video_mp4/166583.mp4"

lmms-eval keeps its videos below `$HF_HOME` and fetches what is not there.  It is imported when such a task is loaded: the
extra `lmms` installs it.  Options and the right one are read from the prompt and the task's target, for our own score.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from prunesweep.benchmarks import require_unique, take_evenly
from prunesweep.console.meant import closest
from prunesweep.types import Sample

INSTALL = "pip install 'prunesweep[lmms]'"
MODEL = "prunesweep"
"""Of our plugin: tasks may have prompts for some models, by this name."""
CHOOSE, GENERATE = "multiple_choice", "generate_until"
"""Of lmms-eval's output types those with one question and one answer."""
MOST_TOKENS = 1024  # of an answer to a task that says nothing, as of lmms-eval's own LLaVA models
BLANK_LINE = "\n\n"
"""lmms-eval's stop string of tasks that name none; like its Qwen models we go on behind it."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")


def load(task: str, limit: int | None = None, include: str | None = None) -> list[Sample]:
    """The questions of a task, or of all tasks of a group or tag; `include` is a folder with task files of one's own.

    Raises ValueError without lmms-eval, for a task that is unknown, cannot be fetched or shows no video files.
    """
    samples = [sample for name, one in subtasks(task, include).items() for sample in _samples(name, one)]
    require_unique(samples, task)
    return take_evenly(samples, limit)


class Asked(NamedTuple):
    """Settings of the protocol."""

    style: str
    answering: str
    most_tokens: int


def asked(task: str, include: str | None = None) -> Asked:
    """How a task wants to be answered.  Raises ValueError as `load`, and for a group whose tasks differ in it."""
    ways = {_way(one) for one in subtasks(task, include).values()}
    if len(ways) > 1:
        said = "; ".join(f"{way.answering}, {way.most_tokens} tokens" for way in sorted(ways))
        raise ValueError(f"the tasks of {task} are answered in {len(ways)} ways ({said}); evaluate them one by one")
    return ways.pop()


def _way(one: Any) -> Asked:
    if one.OUTPUT_TYPE == CHOOSE:
        return Asked("words", "choose", 1)
    return Asked("letters", "generate", most_tokens(one.config.generation_kwargs or {}, one.config.task))


def most_tokens(generation: Mapping[str, Any], task: str) -> int:
    """Of an answer.  Raises ValueError for generation that is not greedy."""
    if generation.get("do_sample") and (generation.get("temperature") or 0) > 0:
        temperature = f"temperature={generation['temperature']:g}"
        raise ValueError(f"{task} samples its answers ({temperature}), but the engine decodes greedily; take another task")
    if (generation.get("num_beams") or 1) > 1:
        raise ValueError(f"{task} searches with {generation['num_beams']} beams, but the engine has one; take another task")
    return int(generation.get("max_new_tokens") or MOST_TOKENS)


# lmms-eval's side


def subtasks(task: str, include: str | None = None) -> dict[str, Any]:
    """The task objects behind a name, by their own names.  Raises ValueError as `load`."""
    found = dict(_leaves(_loaded(task, include)))
    for name, one in found.items():
        if one.OUTPUT_TYPE not in (CHOOSE, GENERATE) or one.multiple_input:
            raise ValueError(f"{name} is asked as {one.OUTPUT_TYPE}; only {GENERATE} and {CHOOSE} have one prompt and one answer")
    return found


def _leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, node in tree.items():
        yield from _leaves(node) if isinstance(node, Mapping) else [(str(name), node)]


@cache
def _loaded(task: str, include: str | None) -> dict[Any, Any]:
    """As lmms-eval nests groups and their tasks."""
    with _imported():
        from lmms_eval.tasks import get_task_dict
    manager = _manager(include, False) if include else None
    if manager is None or task not in manager.all_tasks:
        manager = _manager(include, True)
    if task not in manager.all_tasks:
        meant = closest(task, manager.all_tasks)
        raise ValueError(
            f"lmms-eval has no task {task!r}; {f'did you mean {meant}? ' if meant else ''}lmms-eval tasks list names them all"
        )
    try:
        with _quiet():
            return get_task_dict([task], manager)
    except (Exception, SystemExit) as error:  # a task is code of its own, which may even end the process
        raise ValueError(f"lmms-eval cannot load {task} ({_cause(error)}); is its data set below HF_HOME?") from error


@cache
def _manager(include: str | None, defaults: bool) -> Any:
    """All of lmms-eval's own files take a while to look through."""
    from lmms_eval.tasks import TaskManager

    folder = None if include is None else Path(include).expanduser()
    if folder is not None and not folder.is_dir():
        raise ValueError(f"benchmark.include must be a folder with task files, and {str(folder)!r} is none")
    with _quiet():
        return TaskManager("ERROR", str(folder) if folder else None, defaults, MODEL)


@contextmanager
def _imported() -> Iterator[None]:
    try:
        import loguru  # noqa: F401  # its first import takes stderr as it is: before anything is hushed

        yield
    except ImportError as error:
        raise ValueError(f"tasks of lmms-eval need it, and it cannot be imported ({error}): {INSTALL}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the many lines and bars that lmms-eval writes."""
    from loguru import logger

    logger.disable("")
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.enable("")


def _cause(error: BaseException) -> str:
    """What is behind tenacity's RetryError, on one line."""
    last = getattr(error, "last_attempt", None)
    error = (last.exception() if last is not None else None) or error
    first, *_ = (str(error).strip() or "no reason given").splitlines()
    return f"{type(error).__name__}: {first}"


def requests_of(one: Any) -> list[Any]:
    """A task's requests, as its own evaluation makes them."""
    with _quiet():
        one.build_all_requests()
    return one.instances


# A request as a question of ours


def _samples(name: str, one: Any) -> Iterator[Sample]:
    by_document: dict[int, list[Any]] = {}
    for request in requests_of(one):
        by_document.setdefault(request.doc_id, []).append(request)
    for number, requests in by_document.items():
        yield _sample(name, one, number, requests, first=number == min(by_document))


def _sample(name: str, one: Any, number: int, requests: Sequence[Any], first: bool) -> Sample:
    """Raises ValueError if the first question of a task shows no video file; of a later one that is its problem."""
    split = requests[0].args[-1]
    document = one.dataset[split][number]
    problem = None
    try:
        video = shown(one.doc_to_visual, document)
    except ValueError as error:
        if first and not isinstance(error, MissingError):
            raise ValueError(f"{name} {error}; benchmark=lmms takes tasks that show one video file to each question") from error
        video, problem = Video(Path(name), None, None), str(error)
    text = requests[0].args[0]
    if one.OUTPUT_TYPE == CHOOSE:
        choices = tuple(request.args[1] for request in requests)
        plain = tuple(str(choice) for choice in one.doc_to_choice(document))
    else:
        choices = plain = options_in(text, str(one.doc_to_target(document)))
    target = one.doc_to_target(document)
    right = target_in(target, plain)
    return Sample(
        id=f"{name}-{number}",
        path=video.path,
        question=text,
        choices=choices,
        target=right,
        task=name,
        video_id=video.id,
        start=video.start,
        end=video.end,
        answer="" if right is not None else str(target),
        problem=problem,
    )


class Video(NamedTuple):
    """What one question shows."""

    path: Path
    start: float | None
    end: float | None

    @property
    def id(self) -> str:
        """By its place below lmms-eval's folder, wherever that is."""
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        name = str(self.path.relative_to(home)) if self.path.is_relative_to(home) else str(self.path)
        return name if self.start is None or self.end is None else f"{name} {self.start:g}-{self.end:g} s"


class MissingError(ValueError):
    """A video that is not there."""


def shown(doc_to_visual: Any, document: Mapping[str, Any]) -> Video:
    """The video of a question.  Raises ValueError for anything else; MissingError where the task ends over a missing one."""
    try:
        with _quiet():
            visuals = doc_to_visual(document)
    except (SystemExit, OSError) as error:
        raise MissingError(f"has no video here: {' '.join(str(error).split())}") from error
    found = [one for one in visuals or [] if one is not None]
    if len(found) != 1:
        kinds = ", ".join(sorted({type(one).__name__ for one in found}))
        raise ValueError(f"shows {len(found)} things ({kinds})" if found else "shows nothing")
    one = found[0]
    path = one.get("path") or one.get("url") if isinstance(one, Mapping) else one
    if not isinstance(path, str):
        raise ValueError(f"shows frames or pictures ({type(path).__name__})")
    if path.lower().endswith(PICTURES):
        raise ValueError(f"shows a picture ({Path(path).name})")
    bounds = (one.get("video_start"), one.get("video_end")) if isinstance(one, Mapping) else (None, None)
    return Video(Path(path), *bounds)


OPTION = re.compile(r"^\s*(?:(?:Option|Caption|Sentence) )?\(?([A-Z])[).:]\s*(\S.*?)\s*$")
"""A line of a prompt: `(A) red`, `A. red`, `Caption A: red`."""
LETTER = re.compile(r"^(?:(?:Option|Caption|Sentence) )?\(?([A-Z])(?:[).:].*)?$", re.DOTALL)
YES_NO = ("yes", "no")


def options_in(prompt: str, target: str = "") -> tuple[str, ...]:
    """The lettered options that a prompt lists, the last such list; yes and no where the target is one; else none."""
    listed: list[str] = []
    for line in prompt.splitlines():
        if (found := OPTION.match(line)) and (found[1] == "A" or found[1] == chr(ord("A") + len(listed))):
            listed = [*(listed if found[1] != "A" else ()), found[2]]
    if len(listed) > 1:
        return tuple(listed)
    return YES_NO if target.strip().lower() in YES_NO else ()


def target_in(target: Any, options: Sequence[str]) -> int | None:
    """Which option a task's target is: by its number, its words, or its letter with or without them; None if it is none."""
    if isinstance(target, int) and not isinstance(target, bool):
        return target if 0 <= target < len(options) else None
    text = str(target).strip()
    same = [index for index, option in enumerate(options) if option.strip() == text or option.lower() == text.lower()]
    if same:
        return same[0]
    index = ord(letter[1]) - ord("A") if (letter := LETTER.match(text)) else int(text) if text.isdecimal() else -1
    return index if 0 <= index < len(options) else None


def cut(text: str, generation: Mapping[str, Any]) -> str:
    """An answer up to the first of a task's stop strings."""
    until = generation.get("until") or []
    for stop in [until] if isinstance(until, str) else until:
        if stop and stop != BLANK_LINE:
            text = text.partition(stop)[0]
    return text


# lmms-eval's own score


@dataclass(frozen=True)
class Official:
    """What lmms-eval makes of a trial's answers; `benchmark.official` of the configuration."""

    task: str
    include: str | None = None

    @property
    def source(self) -> str:
        from importlib.metadata import version

        return f"lmms-eval {version('lmms-eval')}"

    def __call__(self, answers: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, dict[str, float]]]:
        """Rows of `sample_id`, `metric`, `score`, `detail` for each answer, and the aggregates of each task or group.

        `answers` are records.  Those without an answer are left out; guesses that a task makes of an unreadable one are drawn
        from seed 0.  Raises ValueError where a task cannot be scored: its judge needs a key, or its code fails.
        """
        given = {one["sample_id"]: one for one in answers if one["error"] is None}
        tree = _answered(_loaded(self.task, self.include), given)
        for name, one in _leaves(tree):
            _require_judge(name, one)
        with _imported():
            from lmms_eval.evaluator import evaluate
        said = SimpleNamespace(process_with_media=False, reasoning_tags=None)
        before = random.getstate()
        try:
            with _quiet(), tempfile.TemporaryDirectory() as said.output_path:  # of submission files
                random.seed(0)
                found = evaluate(_Answers(given), tree, bootstrap_iters=0, process_docs_parallel=1, cli_args=said)
        except (Exception, SystemExit) as error:
            raise ValueError(f"lmms-eval cannot score {self.task} ({_cause(error)})") from error
        finally:
            random.setstate(before)
        leaves = dict(_leaves(tree))
        rows = [row for name, one in leaves.items() for row in _rows(name, one, found["samples"].get(name, []))]
        results = {**found["results"], **found.get("groups", {})}
        return rows, {name: numbers for name, own in results.items() if (numbers := _numbers(own, leaves.get(name)))}


class _Answers:
    """Stands in for a model: what it would say was said."""

    def __init__(self, given: Mapping[str, Mapping[str, Any]]):
        self.given = given

    def _of(self, request: Any) -> Mapping[str, Any]:
        return self.given[f"{request.task_name}-{request.doc_id}"]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        return [cut(self._of(request)["prediction"], request.args[1]) for request in requests]

    def loglikelihood(self, requests: Sequence[Any]) -> list[Any]:
        """Losses, as lmms-eval's tasks want them, whole: of a bare pair it makes text.

        Whether an option is the greedy answer is not in records.
        """
        from lmms_eval.api.instance import GenerationResult

        losses = [-self._of(request)["choice_scores"][request.idx] for request in requests]
        return [GenerationResult((loss, False)) for loss in losses]

    def clean(self) -> None:
        pass


def _answered(tree: Mapping[Any, Any], given: Mapping[str, Any]) -> dict[Any, Any]:
    """The same tasks, which then make requests for these samples only; without those that have none."""
    kept: dict[Any, Any] = {}
    for name, node in tree.items():
        if isinstance(node, Mapping):
            if inner := _answered(node, given):
                kept[name] = inner
        elif any(sample.startswith(f"{name}-") for sample in given):
            kept[name] = _limited(node, str(name), given)
    return kept


def _limited(one: Any, name: str, given: Mapping[str, Any]) -> Any:
    def build_all_requests(**settings: Any) -> None:
        type(one).build_all_requests(one, **settings)
        one._instances = [request for request in one.instances if f"{name}-{request.doc_id}" in given]

    one = copy.copy(one)
    one.build_all_requests = build_all_requests
    return one


KEY = re.compile(r"\b[A-Z]+_API_KEY\b")
JUDGE = "OPENAI_API_KEY"
"""Of lmms-eval's own judge, unless told otherwise."""


def _require_judge(name: str, one: Any) -> None:
    """Raises ValueError for a task whose answers another model judges, where no key for that is set: it would ask in vain."""
    code = getattr(one.config.process_results, "__code__", None)
    text = Path(code.co_filename).read_text(encoding="utf-8") if code else ""
    keys = {*KEY.findall(text), *([JUDGE] if "llm_judge" in text else [])}
    if keys and not any(os.environ.get(key) for key in keys):
        raise ValueError(f"{name} may ask another model to judge an answer; set {' or '.join(sorted(keys))}")


UNKNOWN = "exact_match"
"""Of options: whether the right one is the greedy answer, which records do not say."""
RIGHT = ("score", "rating", "correct", "acc")
"""Keys of a task's verdict on one answer; the task may name another one."""
PAIRS = (("pred_answer", "answer"), ("parsed_pred", "answer"), ("pred", "answer"))
"""Keys of what was understood and of what is right, in verdicts without a number."""


def _rows(name: str, one: Any, verdicts: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for verdict in verdicts:
        for metric in one.aggregation():
            if metric in verdict and not (metric == UNKNOWN and one.OUTPUT_TYPE == CHOOSE):
                score = _score(verdict[metric], one.config.score_key)
                detail = json.dumps(verdict[metric], default=str, ensure_ascii=False)
                yield {"sample_id": f"{name}-{verdict['doc_id']}", "metric": metric, "score": score, "detail": detail}


def _score(verdict: Any, key: str) -> float | None:
    """Of one answer; None where only the aggregate is a number."""
    if isinstance(verdict, Mapping):
        if numbers := [verdict[name] for name in (key, *RIGHT) if isinstance(verdict.get(name), (bool, int, float))]:
            return float(numbers[0])
        pair = next((pair for pair in PAIRS if set(pair) <= set(verdict)), None)
        return float(verdict[pair[0]] == verdict[pair[1]]) if pair else None
    return float(verdict) if isinstance(verdict, (bool, int, float)) else None


def _numbers(own: Mapping[str, Any], one: Any) -> dict[str, float]:
    """The aggregates among what lmms-eval says of a task: `metric,filter`, without its standard errors."""
    metrics = {key.partition(",")[0]: value for key, value in own.items() if "," in key and isinstance(value, (int, float))}
    wanted = set(metrics) if one is None else set(one.aggregation())
    unknown = {UNKNOWN} if one is not None and one.OUTPUT_TYPE == CHOOSE else set()
    return {name: float(value) for name, value in metrics.items() if name in wanted - unknown and "_stderr" not in name}

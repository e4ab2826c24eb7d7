"""Free answers graded from 0 to 5 by a language model behind an OpenAI-compatible endpoint.

The five scores of VideoChatGPT-Bench (arXiv 2306.05424): generic answers are graded for correctness, detail and context,
those about time for order, and pairs of answers to one question asked twice for consistency.  The prompts are our wording of
the published criteria, so scores are comparable among trials graded here, not with published ones.

The key is read from an environment variable and goes nowhere else.  Verdicts are kept in a file and never asked for twice.
A verdict that cannot be had (timeouts, errors, nonsense) is counted and left out; `zero` counts it as 0, as the
released evaluation does.  A wrong key, URL or model ends the command at once.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import httpx
    import polars as pl

JUDGEMENTS = "judgements.parquet"
CACHE = "judge_cache.jsonl"
PROMPT_VERSION = 1
"""Part of the name under which a verdict is kept: raise it when a wording changes."""
HIGHEST = 5.0
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
"""HTTP codes that may pass."""
REFUSALS = frozenset({401, 403, 404})
"""HTTP codes that every other request would get, too: a wrong key, URL or model."""
FIRST_PAUSE = 0.5
"""Seconds before the second try; doubled every time."""
LONGEST_PAUSE = 30.0
NO_COMPLETION = "the endpoint's reply is no chat completion"
Failures = Literal["leave_out", "zero"]

CRITERIA = {
    "CI": (
        "correctness of information",
        "The facts in the prediction must agree with those in the correct answer; nothing may be made up or misleading.",
    ),
    "DO": (
        "detail orientation",
        "The prediction must cover the major points of the correct answer and name its particulars, not generalities.",
    ),
    "CU": (
        "contextual understanding",
        "The prediction must fit the overall context and themes of the video as the correct answer shows them.",
    ),
    "TU": (
        "understanding of time",
        "The prediction must have the order of events as the correct answer has it.",
    ),
    "CO": (
        "consistency",
        "The two predictions, answers to one question put in two ways, must agree with each other and with the correct answer.",
    ),
}
DIMENSIONS = {"generic_qa": ("CI", "DO", "CU"), "temporal_qa": ("TU",), "consistency_qa": ("CO",)}
COLUMNS = ("CI", "DO", "CU", "TU", "CO")


class Case(NamedTuple):
    """One grade to be given."""

    sample_id: str
    video_id: str
    dimension: str
    prompt: str


class Verdict(NamedTuple):
    """What the judge said; without a score, `error` says why."""

    score: float | None
    error: str | None
    prompt_tokens: int
    answer_tokens: int
    cached: bool


class JudgeError(Exception):
    """A verdict that could not be had."""


@dataclass(frozen=True)
class Judge:
    """An endpoint and how it is asked."""

    url: str
    """Up to and without `/chat/completions`."""
    model: str
    tries: int = 3
    timeout: float = 60.0
    """Seconds per try."""
    concurrency: int = 8

    def __post_init__(self) -> None:
        if not re.match(r"https?://", self.url):
            raise ValueError(f"--url must begin with http:// or https://, got {self.url!r}")
        for name, value in (("--tries", self.tries), ("--timeout", self.timeout), ("--concurrency", self.concurrency)):
            if value <= 0:
                raise ValueError(f"{name} must be above 0, got {value:g}")


def prompt_of(dimension: str, question: str, answer: str, predictions: Sequence[str], other_question: str = "") -> str:
    title, rule = CRITERIA[dimension]
    lines = [
        f"You grade answers to questions about videos for {title}.",
        rule,
        "Synonyms and other wordings of the same meaning are right.",
        "",
        f"Question: {question}",
        *([f"The same question put otherwise: {other_question}"] if other_question else []),
        f"Correct answer: {answer}",
        *(f"Predicted answer{f' {i + 1}' if len(predictions) > 1 else ''}: {text}" for i, text in enumerate(predictions)),
        "",
        "Reply with a dictionary and nothing else, its score a number from 0 (worst) to 5 (best), such as {'score': 4.8}.",
    ]
    return "\n".join(lines)


def cases(records: pl.DataFrame, questions: dict[str, str]) -> tuple[list[Case], list[str]]:
    """The grades that a trial's records need, and the samples that cannot be graded; `questions` by sample id."""
    found: list[Case] = []
    left_out: list[str] = []
    pairs: dict[str, list[dict[str, Any]]] = {}
    for row in records.iter_rows(named=True):
        name, task = row["sample_id"], row["task"]
        if row["error"] is not None or name not in questions or task not in DIMENSIONS:
            left_out.append(name)
        elif task == "consistency_qa":
            pairs.setdefault(name.rpartition(".")[0], []).append(row)
        else:
            for dimension in DIMENSIONS[task]:
                prompt = prompt_of(dimension, questions[name], row["target"], [row["prediction"]])
                found.append(Case(name, row["video_id"], dimension, prompt))
    for pair, rows in pairs.items():
        if len(rows) != 2:
            left_out += [row["sample_id"] for row in rows]
            continue
        first, second = sorted(rows, key=lambda row: row["sample_id"])
        asked = [questions[row["sample_id"]] for row in (first, second)]
        prompt = prompt_of("CO", asked[0], first["target"], [first["prediction"], second["prediction"]], asked[1])
        found.append(Case(pair, first["video_id"], "CO", prompt))
    return found, left_out


def parse_score(text: str) -> float:
    """The score of a reply that holds one dictionary.  Raises JudgeError for anything else."""
    match = re.search(r"\{[^{}]*\}", text)
    shown = " ".join(text.split())[:80]
    try:
        value = ast.literal_eval(match[0])["score"] if match else None
        score = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
    except (ValueError, SyntaxError, KeyError, TypeError):
        score = None
    if score is None:
        raise JudgeError(f"the judge's reply holds no score: {shown!r}")
    if not 0 <= score <= HIGHEST:
        raise JudgeError(f"the judge's score must be in [0, {HIGHEST:g}], got {score:g}")
    return score


class Cache:
    """Verdicts by what was asked; a file to which whole lines are appended, safe for several threads."""

    def __init__(self, path: Path):
        self.path, self.lock = path, threading.Lock()
        self.known: dict[str, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                entry = json.loads(line)
                if 0 <= entry["score"] <= HIGHEST:
                    self.known[entry["name"]] = entry
            except (json.JSONDecodeError, KeyError, TypeError, RecursionError):  # the last line of a killed run
                continue

    def add(self, name: str, score: float, prompt_tokens: int, answer_tokens: int) -> None:
        entry = {"name": name, "score": score, "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens}
        with self.lock:
            self.known[name] = entry
            with self.path.open("a", encoding="utf-8") as file:
                file.write(("\n" if file.tell() and not self._ends_with_newline() else "") + json.dumps(entry) + "\n")

    def _ends_with_newline(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"


def cache_name(judge: Judge, prompt: str) -> str:
    return hashlib.sha256(json.dumps([PROMPT_VERSION, judge.model, prompt]).encode()).hexdigest()


def grade(
    wanted: Sequence[Case], judge: Judge, cache: Cache, key: str | None, progress: Callable[[int], None] = lambda _: None
) -> list[Verdict]:
    """Verdicts in the order of the cases, several asked for at once; equal prompts are asked once.

    Raises ValueError if the endpoint refuses whoever asks, or is not there.
    """
    import httpx

    prompts = list(dict.fromkeys(case.prompt for case in wanted))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(timeout=judge.timeout, headers=headers) as client, ThreadPoolExecutor(judge.concurrency) as pool:
        found: dict[str, Verdict] = {}
        for prompt, verdict in zip(prompts, pool.map(lambda p: _verdict(client, judge, cache, p), prompts), strict=True):
            found[prompt] = verdict
            progress(len(found))
    verdicts: list[Verdict] = []
    for case in wanted:
        verdicts.append(found[case.prompt])
        found[case.prompt] = found[case.prompt]._replace(prompt_tokens=0, answer_tokens=0, cached=True)  # spent once
    return verdicts


def _verdict(client: httpx.Client, judge: Judge, cache: Cache, prompt: str) -> Verdict:
    name = cache_name(judge, prompt)
    if known := cache.known.get(name):
        return Verdict(known["score"], None, 0, 0, cached=True)
    spent = [0, 0]
    error, pause = "", FIRST_PAUSE
    for attempt in range(judge.tries):
        if attempt:
            time.sleep(min(pause, LONGEST_PAUSE))
            pause *= 2
        reply, passing, wait = _ask(client, judge, prompt, last=attempt == judge.tries - 1)
        pause = max(pause, wait)
        if isinstance(reply, str):
            error = reply
            if not passing:
                break
            continue
        try:
            for index, kind in enumerate(("prompt_tokens", "completion_tokens")):
                spent[index] += _tokens(reply, kind)
            score = parse_score(reply["choices"][0]["message"]["content"] or "")
            cache.add(name, score, *spent)
            return Verdict(score, None, spent[0], spent[1], cached=False)
        except JudgeError as nonsense:
            error = str(nonsense)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            error = NO_COMPLETION
    return Verdict(None, error, spent[0], spent[1], cached=False)


def _tokens(reply: dict[str, Any], kind: str) -> int:
    """As the endpoint says, which need not say it."""
    usage = reply.get("usage")
    number = usage.get(kind) if isinstance(usage, dict) else None
    return number if isinstance(number, int) and number > 0 else 0


UNREACHABLE = "the endpoint cannot be reached"
MOST_BYTES = 2**20
"""Of a reply, which is to be a few words."""


def _post(client: httpx.Client, url: str, message: dict[str, Any], timeout: float) -> httpx.Response:
    """The whole reply within `timeout` seconds: httpx's own limit is for each part of it."""
    import httpx

    end = time.monotonic() + timeout
    with client.stream("POST", url, json=message) as response:
        content = b""
        for part in response.iter_bytes():
            content += part
            if time.monotonic() > end:
                raise httpx.ReadTimeout("the reply takes too long")
            if len(content) > MOST_BYTES:
                raise httpx.ReadError("the reply is too long")
    return httpx.Response(response.status_code, headers={"retry-after": response.headers.get("retry-after", "")}, content=content)


def _ask(client: httpx.Client, judge: Judge, prompt: str, last: bool) -> tuple[dict[str, Any] | str, bool, float]:
    """The endpoint's reply, or what went wrong, whether it may pass, and the seconds that it asks to wait.

    Raises ValueError where every other request would fail as this one: who asks is refused, or, at the last try, nobody is
    there.
    """
    import httpx

    message = {"model": judge.model, "temperature": 0, "messages": [{"role": "user", "content": prompt}]}
    try:
        response = _post(client, f"{judge.url.rstrip('/')}/chat/completions", message, judge.timeout)
    except httpx.TimeoutException:
        return f"no reply within {judge.timeout:g} s", True, 0.0
    except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        if last:
            raise ValueError(f"{judge.url} cannot be reached ({type(error).__name__}): check --url") from error
        return UNREACHABLE, True, 0.0
    except httpx.HTTPError as error:
        return f"the endpoint cannot be reached: {type(error).__name__}", True, 0.0
    if response.status_code in REFUSALS:
        raise ValueError(f"{judge.url} answered with HTTP {response.status_code}: check the key, --url and --model")
    if response.status_code != httpx.codes.OK:
        after = response.headers.get("retry-after", "")
        wait = float(after) if re.fullmatch(r"\d+(\.\d+)?", after) else 0.0
        return f"the endpoint answered with HTTP {response.status_code}", response.status_code in RETRIED, wait
    try:
        return response.json(), True, 0.0
    except ValueError:
        return NO_COMPLETION, True, 0.0


class Score(NamedTuple):
    """A column of the published table."""

    mean: float
    error: float
    """Standard error clustered by video."""
    graded: int
    failed: int


def scores(judgements: pl.DataFrame, failures: Failures) -> dict[str, Score]:
    import polars as pl

    from prunesweep.analysis.accuracy import clustered_error

    found = {}
    for dimension in COLUMNS:
        own = judgements.filter(pl.col("dimension") == dimension)
        failed = own["score"].null_count()
        counted = own.with_columns(pl.col("score").fill_null(0.0)) if failures == "zero" else own.drop_nulls("score")
        if not len(counted):
            found[dimension] = Score(math.nan, math.nan, 0, failed)
            continue
        mean = float(counted["score"].sum()) / len(counted)
        by_video = counted.group_by("video_id").agg((pl.col("score") - mean).sum().alias("sum"), pl.len().alias("size"))
        error = math.nan  # alike grades tell of none
        if counted["score"].n_unique() > 1:
            error = clustered_error(by_video["sum"].to_list(), len(counted), by_video["size"].to_list())
        found[dimension] = Score(mean, error, len(counted), failed)
    return found


MEAN = "mean"


def mean_score(judgements: pl.DataFrame, failures: Failures) -> Score:
    """The plain mean of the five columns, as the paper averages; without a grade in each, NaN.

    Its error counts that columns share videos.
    """
    import polars as pl

    from prunesweep.analysis.accuracy import clustered_error

    own = scores(judgements, failures)
    failed = sum(score.failed for score in own.values())
    if not all(score.graded for score in own.values()):
        return Score(math.nan, math.nan, 0, failed)
    counted = judgements.with_columns(pl.col("score").fill_null(0.0)) if failures == "zero" else judgements.drop_nulls("score")
    parts = [
        counted.filter(pl.col("dimension") == name).select(
            "video_id", part=(pl.col("score") - s.mean) / s.graded / len(own), weight=1 / s.graded / len(own)
        )
        for name, s in own.items()
    ]
    by_video = pl.concat(parts).group_by("video_id").agg(pl.col("part", "weight").sum())
    sums, weights = by_video["part"].to_list(), by_video["weight"].to_list()
    mean = sum(score.mean for score in own.values()) / len(own)
    error = clustered_error(sums, 1, weights) if any(sums) else math.nan  # as of a column: alike grades tell of none
    return Score(mean, error, sum(score.graded for score in own.values()), failed)


def read_scores(folder: Path, failures: Failures = "leave_out") -> dict[str, Score]:
    """Columns and mean of a trial that has been graded; empty for any other."""
    import polars as pl

    if not (folder / JUDGEMENTS).is_file():
        return {}
    judgements = pl.read_parquet(folder / JUDGEMENTS, glob=False)
    return {**scores(judgements, failures), MEAN: mean_score(judgements, failures)}

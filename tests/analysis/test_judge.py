"""The judge against a stand-in endpoint on loopback that times out, refuses, and talks nonsense."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from prunesweep.analysis import judge as judging
from prunesweep.analysis.judge import Cache, Case, Judge, JudgeError, cases, grade, parse_score, prompt_of, scores
from prunesweep.analysis.outcomes import collect
from prunesweep.cli import app
from prunesweep.report import grades, tables
from prunesweep.report.verdict import text, verdict
from prunesweep.results.records import read_trial
from prunesweep.types import Sample
from support import trees

KEY = "a-secret-of-the-test"


class Endpoint(ThreadingHTTPServer):
    """Replies by what is asked for in the prompt: `say: ...`, `status: ...` or `wait: ...`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict] = []
        self.keys: list[str | None] = []
        self.refusals = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with self.server.lock:
            self.server.asked.append({"path": self.path, **body})
            self.server.keys.append(self.headers.get("Authorization"))
            refuse = self.server.refusals > 0
            self.server.refusals -= refuse
        if "drip" in prompt:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
            return
        if wait := re.search(r"wait: ([\d.]+)", prompt):
            time.sleep(float(wait[1]))
        status = re.search(r"status: (\d+)", prompt)
        said = re.search(r"say: (.*?) ;", prompt)
        code = 503 if refuse else int(status[1]) if status else 200
        text = said[1] if said else "{'score': 4}"
        reply = {"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
        content = b"<html>" if "no json" in prompt else json.dumps(reply).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(judging, "FIRST_PAUSE", 0.01)
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def case(text: str, name: str = "one") -> Case:
    return Case(name, "v", "CI", prompt_of("CI", "what?", "a block", [text]))


def test_verdicts_come_in_order_and_are_never_asked_for_twice(endpoint: Endpoint, tmp_path: Path) -> None:
    judge, path = Judge(endpoint.url, "stand-in"), tmp_path / "cache.jsonl"
    wanted = [case(f"say: {{'score': {i % 6}}} ; {i}", str(i)) for i in range(20)]
    first = grade([*wanted, wanted[3]], judge, Cache(path), KEY)
    assert [v.score for v in first] == [*(float(i % 6) for i in range(20)), 3.0]
    assert len(endpoint.asked) == 20
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    assert {a["path"] for a in endpoint.asked} == {"/v1/chat/completions"}
    assert {a["temperature"] for a in endpoint.asked} == {0}
    again = grade(wanted, judge, Cache(path), None)
    assert [(v.score, v.cached) for v in again] == [(v.score, True) for v in first[:20]]
    assert len(endpoint.asked) == 20
    grade(wanted[:1], replace(judge, model="another"), Cache(path), None)
    assert (len(endpoint.asked), endpoint.keys[-1]) == (21, None)
    assert KEY not in path.read_text()


def test_what_may_pass_is_tried_again_and_what_may_not_is_not(endpoint: Endpoint, tmp_path: Path) -> None:
    judge, cache = Judge(endpoint.url, "stand-in", concurrency=1), Cache(tmp_path / "cache.jsonl")
    endpoint.refusals = 2
    assert grade([case("fine")], judge, cache, None)[0].score == 4
    assert len(endpoint.asked) == 3
    (refused,) = grade([case("status: 400")], judge, cache, None)
    assert (refused.score, refused.error) == (None, "the endpoint answered with HTTP 400")
    assert len(endpoint.asked) == 4


def test_a_wrong_key_ends_the_command_instead_of_being_refused_for_every_answer(endpoint: Endpoint, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache.jsonl")
    wanted = [case("fine"), *(case(f"status: 401 {i}") for i in range(50))]
    with pytest.raises(ValueError, match=r"/v1 answered with HTTP 401: check the key, --url and --model"):
        grade(wanted, Judge(endpoint.url, "stand-in", concurrency=1), cache, "wrong")
    assert len(endpoint.asked) < 10
    assert len(cache.known) == 1, "what was had is kept"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("say: The answer is great! ;", "the judge's reply holds no score: 'The answer is great!'"),
        ("say: {'score': 11} ;", "the judge's score must be in [0, 5], got 11"),
        ("no json", "the endpoint's reply is no chat completion"),
        ("wait: 6", "no reply within 2 s"),
        ("status: 500", "the endpoint answered with HTTP 500"),
    ],
)
def test_a_verdict_that_cannot_be_had_has_a_reason_and_no_score(
    endpoint: Endpoint, tmp_path: Path, text: str, error: str
) -> None:
    judge = Judge(endpoint.url, "stand-in", tries=2, timeout=2 if "wait" in text else 60)  # a busy machine is slow
    bad, good = grade([case(text), case("fine")], judge, Cache(tmp_path / "cache.jsonl"), None)
    assert (bad.score, bad.error) == (None, error)
    assert good.score == 4
    assert len(endpoint.asked) == 3


def test_a_reply_that_drips_in_is_not_waited_for(endpoint: Endpoint, tmp_path: Path) -> None:
    judge = Judge(endpoint.url, "m", tries=1, timeout=0.5)
    (verdict,) = grade([case("drip")], judge, Cache(tmp_path / "c"), None)
    assert verdict.error == "no reply within 0.5 s"


def test_an_odd_count_of_tokens_loses_no_score() -> None:
    assert judging._tokens({"usage": "many"}, "prompt_tokens") == 0
    assert judging._tokens({"usage": {"prompt_tokens": "7"}}, "prompt_tokens") == 0
    assert judging._tokens({"usage": {"prompt_tokens": 7}}, "prompt_tokens") == 7


def test_an_endpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="http://127.0.0.1:9/v1 cannot be reached .ConnectError.: check --url"):
        grade([case("x")], Judge("http://127.0.0.1:9/v1", "m", tries=1), Cache(tmp_path / "c"), None)
    for broken in ({"url": "ftp://x"}, {"tries": 0}, {"timeout": 0}):
        with pytest.raises(ValueError, match="--"):
            Judge(**{"url": "http://x", "model": "m", **broken})


@pytest.mark.parametrize(
    ("text", "score"), [("{'score': 4.8}", 4.8), ('Sure: {"score": 3}', 3), ("{'score': '2'}", 2), ("{'pred': 1, 'score': 0}", 0)]
)
def test_a_score_is_read_from_a_dictionary(text: str, score: float) -> None:
    assert parse_score(text) == score


@pytest.mark.parametrize("text", ["", "4", "{'grade': 4}", "{'score': True}", "{'score': 5.5}", "{score: 3}", "{'score': nan}"])
def test_nonsense_is_no_score(text: str) -> None:
    with pytest.raises(JudgeError):
        parse_score(text)


def test_a_half_written_cache_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    Cache(path).add("a", 3.0, 1, 1)
    path.write_text(path.read_text() + '{"name": "b", "sc')
    cache = Cache(path)
    assert set(cache.known) == {"a"}
    cache.add("c", 4.0, 1, 1)
    assert set(Cache(path).known) == {"a", "c"}


def records(*rows: dict) -> pl.DataFrame:
    base = {"video_id": "v", "task": "generic_qa", "target": "a block", "prediction": "a thing", "error": None}
    return pl.DataFrame([{**base, **row} for row in rows], schema_overrides={"error": pl.String})


def test_generic_answers_get_three_grades_and_pairs_one() -> None:
    table = records(
        {"sample_id": "generic_qa-0"},
        {"sample_id": "temporal_qa-0", "task": "temporal_qa"},
        {"sample_id": "consistency_qa-0.1", "task": "consistency_qa", "prediction": "first"},
        {"sample_id": "consistency_qa-0.2", "task": "consistency_qa", "prediction": "second"},
        {"sample_id": "consistency_qa-1.1", "task": "consistency_qa"},
        {"sample_id": "generic_qa-1", "error": "VideoError: gone"},
    )
    found, left_out = cases(table, {name: f"question {name}?" for name in table["sample_id"]})
    assert [(c.sample_id, c.dimension) for c in found] == [
        ("generic_qa-0", "CI"),
        ("generic_qa-0", "DO"),
        ("generic_qa-0", "CU"),
        ("temporal_qa-0", "TU"),
        ("consistency_qa-0", "CO"),
    ]
    assert "Predicted answer 1: first\nPredicted answer 2: second" in found[-1].prompt
    assert left_out == ["generic_qa-1", "consistency_qa-1.1"]


def test_failures_are_left_out_or_count_as_zero() -> None:
    rows = [("CI", 4.0), ("CI", 2.0), ("CI", None), ("TU", None)]
    table = pl.DataFrame(
        [{"sample_id": str(i), "video_id": f"v{i}", "dimension": d, "score": s} for i, (d, s) in enumerate(rows)],
        schema_overrides={"score": pl.Float64},
    )
    found = scores(table, "leave_out")
    assert (found["CI"].mean, found["CI"].graded, found["CI"].failed) == (3.0, 2, 1)
    assert found["CI"].error == pytest.approx(1.0)
    assert (found["TU"].graded, found["TU"].failed) == (0, 1)
    assert scores(table, "zero")["CI"].mean == 2.0


def test_answers_are_generated_then_graded_by_command(
    run,
    endpoint: Endpoint,
    tmp_path: Path,
    samples: list[Sample],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    root, out = trees.vcgbench(tmp_path / "data", samples[0].path), tmp_path / "trial"
    code, printed, err = run(
        "benchmark=vcgbench",
        f"benchmark.path={root}",
        "protocol.most_tokens=3",
        "reducer=random",
        "video.frames=2",
        f"hydra.run.dir={out}",
    )
    assert code == 0, err
    assert "not scored (n=0)" in printed
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    command = ["prunesweep", "judge", str(out), "--url", endpoint.url, "--model", "stand-in", "--price-in", "2"]
    monkeypatch.setattr(sys, "argv", command)
    app.main()
    printed = capfd.readouterr().out
    assert "4.00 ± " in printed
    assert "8 verdicts" in printed
    asked = len(endpoint.asked)
    assert f"{asked} asked for, the others known; {100 * asked:,} tokens in" in printed, "equal questions are paid for once"
    assert "mean of the five" in printed
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    graded = (out / judging.JUDGEMENTS).read_bytes()
    assert pl.read_parquet(out / judging.JUDGEMENTS).height == 8
    judged = judging.read_scores(out)
    assert list(judged) == ["CI", "DO", "CU", "TU", "CO", "mean"]
    assert judged["mean"].mean == pytest.approx(4)
    assert grades.score_text(judged["mean"]).startswith("4.00 ± n/a (n="), "alike grades tell of no error"
    (outcomes,) = collect([read_trial(out)])
    table = tables.methods_table([outcomes])
    assert [name for name in table.header if name.startswith("vcgbench")] == [f"vcgbench {name}" for name in judged]
    assert "whose answers are not scored here: prunesweep judge grades free ones" in text(verdict(outcomes))
    monkeypatch.setattr(endpoint, "refusals", 10_000)
    monkeypatch.setattr(sys, "argv", [*command, "--cache", str(tmp_path / "another"), "--tries", "1"])
    with pytest.raises(SystemExit, match="no verdict could be had"):
        app.main()
    assert (out / judging.JUDGEMENTS).read_bytes() == graded, "an endpoint that fails takes nothing away"
    assert KEY not in printed + "".join(f.read_text(errors="replace") for f in tmp_path.rglob("*.json*"))

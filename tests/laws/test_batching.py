"""Law 8: answers written together are those of one at a time, whatever waits with whatever."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from prunesweep.engine.devices import AtOnce
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, Outcome, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.stages import Ask, Choose, Generate, Layers, Writer, through_all
from prunesweep.engine.together import WASTE, Waiting, answer_all, batches
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.types import KeyValue, Prefix, Sample
from support.trials import CHOOSE, DENSE, FRAMES, GENERATE, answers, embedded, jobs_of, last_stages, one_video

LONG = Protocol(style="words", answering="generate", most_tokens=40)
"""More tokens than caches have room for at first."""


@pytest.mark.parametrize("most", [3, 8, 64])
def test_every_method_answers_as_one_at_a_time(samples: list[Sample], model: LlavaOnevision, most: int) -> None:
    jobs = jobs_of(one_video(samples)[:2], model, GENERATE)
    alone = answers(evaluate_jobs(model, jobs, Clock()))
    assert len({answer.token_ids for answer in alone.values()}) > 5, "or a mix-up of rows would go unseen"
    last = last_stages(model, most)
    assert answers(evaluate_jobs(model, jobs, Clock(), last=last)) == alone
    assert answers(evaluate_jobs(model, random.Random(1).sample(jobs, len(jobs)), Clock(), last=last)) == alone


def test_long_answers_and_rows_that_end_early(
    samples: list[Sample], model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(one_video(samples)[:1], model, LONG)[:16]
    said = [token for answer in answers(evaluate_jobs(model, jobs, Clock())).values() for token in answer.token_ids]
    often = sorted(set(said), key=said.count)[: len(set(said)) // 2]
    monkeypatch.setattr(LlavaOnevision, "stop_ids", frozenset(often))
    alone = answers(evaluate_jobs(model, jobs, Clock()))
    assert {len(answer.token_ids) for answer in alone.values()} > {40}, "some must stop before others, and some never"
    assert answers(evaluate_jobs(model, jobs, Clock(), last=last_stages(model, 64))) == alone


@torch.inference_mode()
def test_a_row_s_hidden_states_are_those_of_its_sequence_alone(samples: list[Sample], model: LlavaOnevision) -> None:
    prefixes = _prefixes(samples, model)
    branches = model.branches([p.kv for p in prefixes], [p.next_positions for p in prefixes])
    writers = [Writer(prefix, model) for prefix in prefixes]
    tokens = torch.arange(len(prefixes)) + 5
    for step in range(40):
        own = torch.cat([w.write(model.embed((int(token),))) for w, token in zip(writers, tokens, strict=True)])
        torch.testing.assert_close(branches.write(model.embed(tokens)), own, atol=1e-4, rtol=1e-4)
        if step == 35:
            branches.keep([0, 2])
            writers, tokens = [writers[0], writers[2]], tokens[[0, 2]]
        tokens = (tokens * 7 + 1) % 90


def _prefixes(samples: list[Sample], model: LlavaOnevision) -> list[Prefix]:
    """Of unlike lengths, in all layers and between them."""
    asked = []
    for sample, dropped in zip(samples[:3], (0, 40, 100), strict=True):
        prefix = Ask(model.prompt(sample.question)[1], look=None)(Layers(0, 8)(embedded(sample, model), model), model)
        kv = tuple(
            memory if layer < 3 else KeyValue(memory.key[:, :, dropped:], memory.value[:, :, dropped:])
            for layer, memory in enumerate(prefix.caches)
        )
        moved = tuple(place + 11 * dropped * (layer > 4) for layer, place in enumerate(prefix.next_positions))
        asked.append(replace(prefix, kv=kv, next_positions=moved))
    return asked


@torch.inference_mode()
def test_options_in_one_pass_score_as_each_by_itself(samples: list[Sample], model: LlavaOnevision) -> None:
    prefix = _prefixes(samples, model)[2]
    options = ((7,), (3, 9, 4, 12), (3, 9), (5, 8, 8))
    scores = Choose(options, ("a", "b", "c", "d"))(prefix, model).choice_scores
    first = model.logits(prefix.hidden[-1:]).log_softmax(-1)[0]
    for option, score in zip(options, scores, strict=True):
        own = float(first[option[0]])
        for place in range(1, len(option)):
            hidden = through_all(prefix, model.embed(option[:place]), model).hidden[-1:]
            own += float(model.logits(hidden).log_softmax(-1)[0, option[place]])
        assert score == pytest.approx(own, abs=1e-4)


# What does not go well.


def test_a_row_whose_logits_are_not_finite_is_an_error_and_the_others_are_answers(
    samples: list[Sample], model: LlavaOnevision, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(one_video(samples)[:1], model, GENERATE)
    alone = answers(evaluate_jobs(model, jobs, Clock()))
    plain, calls = LlavaOnevision.logits, iter(range(10**6))

    def broken(self: LlavaOnevision, hidden: torch.Tensor) -> torch.Tensor:
        logits = plain(self, hidden)
        if len(logits) > 1 and next(calls) == 1:
            logits[1] = float("nan")
        return logits

    monkeypatch.setattr(LlavaOnevision, "logits", broken)
    found = {o.key: o.result for o in evaluate_jobs(model, jobs, Clock(), last=last_stages(model, 64))}
    bad = [key for key, result in found.items() if isinstance(result, Exception)]
    assert len(bad) == 1
    assert "logits of generated token 2" in str(found[bad[0]])
    assert {key: found[key] for key in found if key not in bad} == {key: alone[key] for key in alone if key not in bad}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory")]
)
def test_a_batch_that_does_not_fit_is_halved_and_said(
    samples: list[Sample],
    model: LlavaOnevision,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    jobs = jobs_of(one_video(samples)[:1], model, GENERATE)
    alone = answers(evaluate_jobs(model, jobs, Clock()))
    plain = LlavaOnevision.branches

    def small(self: LlavaOnevision, caches: Sequence[Any], places: Sequence[Any]) -> Any:
        if len(caches) > 5:
            raise error
        return plain(self, caches, places)

    monkeypatch.setattr(LlavaOnevision, "branches", small)
    last = last_stages(model, 64)
    with caplog.at_level(logging.WARNING):
        assert answers(evaluate_jobs(model, jobs, Clock(), last=last)) == alone
    assert 1 <= last.at_once.most <= 5
    said = [record.getMessage() for record in caplog.records if "do not fit into memory" in record.getMessage()]
    assert f"engine.batch={last.at_once.most}" in said[-1]
    assert len(said) == len(set(said)), "each halving is said once"


class Uncountable:
    def __eq__(self, other: object) -> bool:
        raise ValueError("no number")

    def __hash__(self) -> int:
        return 0


def test_whose_fault_it_was_is_its_own_record(samples: list[Sample], model: LlavaOnevision) -> None:
    jobs = jobs_of(one_video(samples)[:1], model, GENERATE)[:6]
    alone = answers(evaluate_jobs(model, jobs, Clock()))
    broken = Job("broken", (*jobs[0].stages[:-1], replace(jobs[0].stages[-1], most_tokens=Uncountable())))
    found = {o.key: o.result for o in evaluate_jobs(model, [*jobs, broken], Clock(), last=last_stages(model, 64))}
    assert {key: result for key, result in found.items() if key != "broken"} == alone
    assert str(found["broken"]) == "no number"


def test_one_alone_and_methods_that_choose_at_every_token_are_not_batched(samples: list[Sample], model: LlavaOnevision) -> None:
    job = Job("it", plan(samples[0], FRAMES, DENSE, GENERATE, model))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlavaOnevision, "branches", lambda *_: pytest.fail("one sequence is no batch"))
        (outcome,) = evaluate_jobs(model, [job], Clock(), last=last_stages(model, 64))
        assert not isinstance(outcome.result, Exception)
        evaluate_jobs(model, [job, job._replace(key="too")], Clock(), share=False, last=last_stages(model, 64))


# Which go together.


def _waiting(lengths: Sequence[Sequence[int]]) -> list[Waiting]:
    caches = [tuple(KeyValue(torch.zeros(1, 1, n, 2), torch.zeros(1, 1, n, 2)) for n in layers) for layers in lengths]
    nothing = torch.zeros(0)
    return [Waiting(Generate(1), Prefix("v", nothing, nothing, nothing, nothing, 0, kv=kv)) for kv in caches]


@pytest.mark.parametrize("seed", range(40))
def test_batches_hold_every_branch_once_within_their_bounds(seed: int) -> None:
    drawn = random.Random(seed)
    lengths = [(drawn.randint(1, 400), drawn.randint(1, 400)) for _ in range(drawn.randint(1, 12))]
    most, memory = drawn.randint(1, 6), drawn.randint(0, 40_000)
    waiting = _waiting(lengths)
    found = list(batches(waiting, AtOnce(most, memory)))
    assert sorted(index for group in found for index in group) == list(range(len(waiting)))
    for group in found:
        own = [waiting[index].bytes for index in group]
        padded = len(group) * sum(max(column) for column in zip(*own, strict=True))
        assert len(group) <= most
        assert len(group) == 1 or padded <= min(memory, WASTE * sum(map(sum, own)))


def test_answers_come_in_the_order_asked_for(samples: list[Sample], model: LlavaOnevision) -> None:
    with torch.inference_mode():
        prefixes = _prefixes(samples, model)
        waiting = [Waiting(Generate(3 + index), prefix) for index, prefix in enumerate([*prefixes, *prefixes[::-1]])]
        found, left = answer_all(waiting, model, AtOnce(4, 2**30))
        assert found == [one.stage(one.prefix, model) for one in waiting]
    assert left == AtOnce(4, 2**30)


def _outcomes(outcomes: Sequence[Outcome]) -> list[Any]:
    return [outcome.result for outcome in outcomes]


def test_choosing_is_not_changed_by_what_else_is_evaluated(samples: list[Sample], model: LlavaOnevision) -> None:
    jobs = jobs_of(one_video(samples)[:2], model, CHOOSE)
    assert _outcomes(evaluate_jobs(model, jobs, Clock(), last=last_stages(model, 8))) == _outcomes(
        evaluate_jobs(model, jobs, Clock(), share=False)
    )

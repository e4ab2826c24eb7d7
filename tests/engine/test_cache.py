"""The encoder cache: never another answer, bounded, safe under damage, kills and concurrent writers."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from prunesweep.engine.encoder_cache import ABANDONED_SECONDS, GIB, EncoderCache
from prunesweep.engine.plan import plan
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.stages import Decode, Encode, Kept
from prunesweep.models.llava_onevision import LlavaOnevision, load
from prunesweep.reducers.tome import ToMe
from prunesweep.types import Sample, Tokens
from prunesweep.video.reader import VideoError
from support.facts import tower_facts
from support.trials import CHOOSE, FRAMES, all_trials, answers, jobs_of, one_video


@pytest.fixture
def cache(tmp_path: Path) -> EncoderCache:
    return EncoderCache(str(tmp_path / "cache"), gib=1.0)


def cached_jobs(samples: list[Sample], model: LlavaOnevision, cache: EncoderCache) -> list[Job]:
    trials = all_trials()
    return [Job((name, s.id), plan(s, FRAMES, trials[name], CHOOSE, model, cache)) for name in trials for s in samples]


def kept(sample: Sample, cache: EncoderCache) -> Kept:
    return Kept((Decode(sample.path, sample.video_id, FRAMES, None, None), Encode()), cache)


def entries(cache: EncoderCache) -> list[Path]:
    return sorted(cache.folder.iterdir())


def test_every_reducer_answers_the_same_with_an_empty_and_with_a_full_cache(
    samples: list[Sample], model: LlavaOnevision, cache: EncoderCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions = one_video(samples)
    plain = answers(evaluate_jobs(model, jobs_of(questions, model, CHOOSE), Clock()))
    jobs = cached_jobs(questions, model, cache)
    assert answers(evaluate_jobs(model, jobs, Clock())) == plain
    assert len(entries(cache)) == len({job.stages[0] for job in jobs})  # some ask the encoder for more
    monkeypatch.setattr(LlavaOnevision, "encode", None)  # whoever encodes now fails
    assert answers(evaluate_jobs(model, cached_jobs(questions, model, cache), Clock())) == plain
    assert answers(evaluate_jobs(model, cached_jobs(questions, model, cache), Clock(), share=False)) == plain


@torch.inference_mode()
@pytest.mark.parametrize(
    "damaged",
    [lambda _: b"", lambda _: b"no tensors", lambda whole: whole[: len(whole) // 2], lambda whole: whole[:-40] + bytes(40)],
    ids=["empty", "foreign", "truncated", "overwritten"],
)
def test_a_damaged_entry_is_computed_again_and_reported(
    samples: list[Sample],
    model: LlavaOnevision,
    cache: EncoderCache,
    caplog: pytest.LogCaptureFixture,
    damaged: Callable[[bytes], bytes],
) -> None:
    stage = kept(samples[0], cache)
    fresh = stage(None, model)
    (path,) = entries(cache)
    whole = path.read_bytes()
    path.write_bytes(damaged(whole))
    with caplog.at_level(logging.WARNING):
        again = stage(None, model)
    assert torch.equal(again.x, fresh.x)
    assert torch.equal(again.suffix, fresh.suffix)
    assert f"cache file {path} is damaged" in caplog.text
    assert path.read_bytes() == whole


@torch.inference_mode()
def test_another_video_range_frame_count_or_encoder_is_another_entry(
    samples: list[Sample], model: LlavaOnevision, checkpoint: Path, cache: EncoderCache, tmp_path: Path
) -> None:
    decode = Decode(samples[0].path, samples[0].video_id, FRAMES, None, None)
    other_weights = load("other", str(checkpoint))
    other_weights.network.model.multi_modal_projector.linear_1.bias.add_(1)
    other_llm = load("llm", str(checkpoint))
    other_llm.language_model.layers[0].mlp.down_proj.weight.add_(1)
    changed = tmp_path / "changed.mp4"
    changed.write_bytes(samples[0].path.read_bytes() + b"\0")
    base = cache.path_of((decode, Encode()), model)
    assert cache.path_of((replace(decode, video_id="renamed"), Encode()), model) == base
    assert cache.path_of((decode, Encode()), other_llm) == base
    for one, network in [
        (replace(decode, frames=4), model),
        (replace(decode, start=0.5), model),
        (replace(decode, path=changed), model),
        (decode, other_weights),
    ]:
        assert cache.path_of((one, Encode()), network) != base


def test_a_video_that_is_missing_says_so_with_a_cache_too(
    samples: list[Sample], model: LlavaOnevision, cache: EncoderCache
) -> None:
    with pytest.raises(VideoError, match="no such file"):
        kept(replace(samples[0], path=Path("gone.mp4")), cache)(None, model)


def tokens_of_bytes(size: int) -> Tokens:
    return Tokens("video", torch.zeros(1, size // 4, 1), torch.zeros(0, 1))


def test_the_folder_stays_below_its_bound_and_what_was_unused_for_longest_goes(tmp_path: Path) -> None:
    cache = EncoderCache(str(tmp_path), gib=100_000 / GIB)
    for number in range(40):
        path = tmp_path / f"{number:02}.safetensors"
        cache.write(path, tokens_of_bytes(10_000))
        os.utime(path, (number, number))
        assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 100_000
    left = [file.name for file in entries(cache)]
    assert left == [f"{number:02}.safetensors" for number in range(40 - len(left), 40)]
    assert len(left) >= 8


def test_an_entry_holds_all_there_is_of_tokens(tmp_path: Path) -> None:
    facts = tower_facts(torch.randn(2, 9, 3), torch.randn(2, 9, 3).half(), torch.randn(2, 9))
    whole = Tokens("video", torch.randn(2, 4, 3).bfloat16(), torch.randn(1, 3), (1, 4), 0.5, facts, 72, 9, 3)
    cache = EncoderCache(str(tmp_path))
    cache.write(tmp_path / "it.safetensors", whole)
    found = cache.read(tmp_path / "it.safetensors", "video", "cpu")
    assert found is not None
    assert found.facts.keys() == facts.keys()
    for name, fact in facts.items():
        assert found.facts[name].flops == fact.flops
        assert found.fact(name).dtype == fact.value.dtype
        assert torch.equal(found.fact(name), fact.value)
    for field in fields(whole):
        mine, its = getattr(found, field.name), getattr(whole, field.name)
        if isinstance(its, torch.Tensor):
            assert mine.dtype == its.dtype
            assert torch.equal(mine, its)
        elif field.name != "facts":
            assert mine == its


def test_reading_an_entry_makes_it_recent(tmp_path: Path) -> None:
    cache = EncoderCache(str(tmp_path), gib=1.0)
    path = tmp_path / "old.safetensors"
    cache.write(path, tokens_of_bytes(100))
    os.utime(path, (0, 0))
    assert cache.read(path, "video", "cpu") is not None
    assert path.stat().st_mtime > 0


def test_what_a_kill_left_behind_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".old.partial", tmp_path / ".fresh.partial"
    for file in (old, fresh):
        file.write_bytes(b"half")
    long_ago = fresh.stat().st_mtime - ABANDONED_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    EncoderCache(str(tmp_path), gib=1.0).write(tmp_path / "new.safetensors", tokens_of_bytes(100))
    assert [file.name for file in sorted(tmp_path.iterdir())] == [".fresh.partial", "new.safetensors"]


def _write_and_read(folder: str, worker: int) -> bool:
    cache = EncoderCache(folder, gib=200_000 / GIB)
    sound = True
    for number in range(100):
        path = Path(folder) / f"{number % 7}.safetensors"
        cache.write(path, Tokens("video", torch.full((1, 2500, 1), float(number % 7)), torch.zeros(0, 1)))
        found = cache.read(path, "video", "cpu")
        sound &= found is None or bool((found.x == number % 7).all())
    return sound


def test_concurrent_writers_never_leave_half_an_entry(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert pool.starmap(_write_and_read, [(str(tmp_path), worker) for worker in range(3)]) == [True] * 3
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors"}


@torch.inference_mode()
def test_a_folder_that_cannot_be_written_to_is_reported_and_costs_nothing_else(
    samples: list[Sample], model: LlavaOnevision, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with caplog.at_level(logging.WARNING):
        tokens = kept(samples[0], EncoderCache(str(blocked / "cache")))(None, model)
    assert len(tokens.x) == FRAMES
    assert "the sweep goes on without" in caplog.text


def test_an_entry_is_of_the_merging_in_the_tower(samples: list[Sample], model: LlavaOnevision, cache: EncoderCache) -> None:
    decode = Decode(samples[0].path, samples[0].video_id, FRAMES, None, None)
    towers = (None, ToMe(), ToMe(fewer=3), ToMe(inflection=0.5))
    assert len({cache.path_of((decode, Encode(tower=tower)), model) for tower in towers}) == len(towers)
    assert cache.path_of((decode, Encode(tower=ToMe())), model) == cache.path_of((decode, Encode(tower=ToMe())), model)


def test_a_bound_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"engine.cache_gib must be more than 0, got 0; engine.cache=null turns the cache off"):
        EncoderCache("cache", gib=0)

"""The generator of `blocks`, the tokenizer, and the training command on a few steps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prunesweep.benchmarks.jsonl import load
from prunesweep.dev.curves import read_curves
from prunesweep.embedded.build import draw_split
from prunesweep.embedded.language import WORDS, build_tokenizer
from prunesweep.embedded.questions import ANSWERS, ask, balanced
from prunesweep.embedded.render import CELL, render
from prunesweep.embedded.scene import GRID, Scene, draw_scene
from prunesweep.embedded.training import make_batch, packed_mask
from prunesweep.models.llava_onevision import load as load_model

STILL = Scene(
    background=np.array([0, 0, 1]),
    pan=np.zeros(3, int),
    visible=np.array([[True, True], [True, True], [True, False]]),
    cell=np.array([[0, 35], [1, 35], [2, 35]]),
    colour=np.array([[0, 1], [0, 1], [0, 1]]),
    flash=np.array([[True, False], [False, False], [True, False]]),
    pattern=np.array([0, 3]),
    noise_seed=0,
)
"""A red plain block walks right along the top row and flashes twice; a green checked one vanishes; sand follows grass."""


def answers(scene: Scene) -> dict[str, str]:
    return {question.text: question.answer for question in ask(scene, np.random.default_rng(0))}


def test_answers_follow_from_the_script() -> None:
    found = answers(STILL)
    assert found["is there a red block ?"] == "yes"
    assert found["is there a blue block ?"] == "no"
    assert found["what pattern has the green block ?"] == "checked"
    assert found["which way does the red block move ?"] == "right"
    assert found["which color moves ?"] == "red"
    assert found["how many blocks are there ?"] == "two"
    assert found["how many times does the red block flash ?"] == "two"
    assert "how many times does the green block flash ?" not in found  # it is not there all the time
    assert found["what is the background at the start ?"] == "grass"
    assert found["what is the background at the end ?"] == "sand"
    assert found["where is the green block at the start ?"] == "southeast"
    assert "where is the green block at the end ?" not in found
    assert "which color appears last ?" not in found


def test_changes_and_appearances_are_asked_about() -> None:
    scene = replace(
        STILL, colour=np.array([[0, 1], [0, 1], [4, 1]]), visible=np.array([[True, False], [True, True], [True, True]])
    )
    found = answers(scene)
    assert found["what color is the plain block at the start ?"] == "red"
    assert found["what color is the plain block at the end ?"] == "cyan"
    assert found["which color appears last ?"] == "green"
    assert not any("red block" in text and "is there" not in text for text in found)  # red names no block for good


@pytest.mark.parametrize("frames", [1, 2, 4, 12])
def test_every_question_is_well_formed(frames: int) -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        scene = draw_scene(rng, frames)
        for question in ask(scene, rng):
            assert question.answer in question.choices
            assert len(set(question.choices)) == len(question.choices)
            assert question.answer in (*ANSWERS[question.task], "one")
            assert set(question.text.split()) | set(question.choices) <= set(WORDS)


def test_colours_name_one_block_at_a_time_and_moves_are_straight() -> None:
    for seed in range(200):
        scene = draw_scene(np.random.default_rng(seed), 12)
        for frame in range(12):
            assert len(set(scene.colour[frame])) == scene.blocks
        rows, columns = scene.cell // GRID, scene.cell % GRID
        assert ((rows == rows[0]).all(0) | (columns == columns[0]).all(0)).all()
        assert abs(np.diff(rows, axis=0)).max() <= 2
        assert scene.visible.any(0).all()
        assert scene.visible[0].any()


def test_blocks_are_drawn_where_the_script_says() -> None:
    frames = render(STILL).astype(int)
    assert frames.shape == (3, 96, 96, 3)
    for frame in range(3):
        middle = frames[frame, CELL // 2, frame * CELL + CELL // 2]
        assert middle[0] > middle[1] + 100  # red
    assert frames[0, 0, 0].min() > 230  # the flash's white frame
    assert frames[1, 0, CELL].max() < 200
    assert abs(frames[2, 88, 88] - frames[2, 50, 50]).max() < 60  # the green block is gone


def test_a_seed_is_a_video() -> None:
    first, again, other = (render(draw_scene(np.random.default_rng(seed), 12)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_split_is_balanced_and_drawn_the_same_again(tmp_path: Path, benchmark_folder: Path) -> None:
    draw_split(900_000, tmp_path, per_family=2)
    assert (tmp_path / "questions.jsonl").read_bytes() == (benchmark_folder / "questions.jsonl").read_bytes()
    counts = Counter((s.task, s.choices[s.target]) for s in load(str(tmp_path)))
    assert set(counts.values()) == {1}
    assert Counter(task for task, _ in counts) == dict.fromkeys(ANSWERS, 2)


def test_balanced_takes_families_in_turn() -> None:
    rng = np.random.default_rng(0)
    questions = ask(draw_scene(rng, 12), rng)
    chosen = balanced(questions, rng, 8)
    assert len(chosen) == 8
    counts = Counter(q.task for q in chosen)
    families = {q.task for q in questions}
    assert len(counts) == min(8, len(families))
    assert max(counts.values()) <= -(-8 // len(families)) + 1


def test_words_are_single_tokens_and_other_ascii_text_is_spelt() -> None:
    tokenizer = build_tokenizer()
    assert all(len(tokenizer.tokenize(word)) == 1 for word in WORDS)
    assert tokenizer.unk_token not in tokenizer.tokenize("Why's the Café's yoga-mat $5? 42%")
    assert tokenizer.unk_token in tokenizer.tokenize("£")  # beyond ASCII and its accents


def test_packed_questions_see_the_video_and_themselves_only() -> None:
    question = torch.tensor([[0, 0, 1, 1, -1]])
    allowed = packed_mask(prefix=2, question=question)[0, 0] == 0
    assert allowed[1].tolist() == [True, True, True, True, False, False, False]
    assert allowed[3].tolist() == [True, True, False, False, True, True, False]


def test_batches_depend_on_their_seed_only() -> None:
    one, two = (make_batch(np.random.default_rng(1), frames=2, videos=3, questions=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one[:-1], two[:-1], strict=True))
    assert one.target[one.final].min() >= 0


STEPS = 60


def command(out: Path, *overrides: str) -> list[str]:
    stages = f"stages=[{{name: images, steps: {STEPS}, frames: {{1: 1.0}}, questions: 3, learning_rate: 1e-3}}]"
    small = ("hidden=24", "layers=2", "mlp=32", "vision_hidden=24", "vision_layers=1")
    shape = [f"+shape.{size}" for size in small]
    return [
        sys.executable,
        "-m",
        "prunesweep.dev.train_tiny",
        f"out={out}",
        stages,
        "videos={1: 2}",
        "processes=1",
        *shape,
        *overrides,
    ]


def test_training_goes_on_exactly_after_a_kill(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    subprocess.run(command(whole), check=True, capture_output=True, timeout=300)
    with subprocess.Popen(command(halves, "checkpoint_every=2"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while not (tmp_path / "halves-run" / "last.ckpt").exists():
            assert process.poll() is None, "training ended before its first checkpoint"
            time.sleep(0.01)
        process.kill()
    assert not (halves / "model.safetensors").exists()
    again = subprocess.run(command(halves), capture_output=True, text=True, timeout=300)
    assert again.returncode != 0
    assert "last.ckpt exists; go on with resume=true" in again.stderr
    subprocess.run(command(halves, "resume=true"), check=True, capture_output=True, timeout=300)
    a, b = (load_model("tiny", str(folder)).network.state_dict() for folder in (whole, halves))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert json.loads((whole / "training.json").read_text())["steps"] == STEPS
    assert (whole / "curves.png").stat().st_size > 0
    (offline,) = (tmp_path / "whole-run" / "wandb").glob("offline-run-*/*.wandb")
    assert b"train_accuracy/1f/position" in offline.read_bytes()


def test_of_repeated_steps_the_last_run_counts(tmp_path: Path) -> None:
    lines = [{"step": step, "train_accuracy/1f/position": value} for step, value in ((50, 0.1), (100, 0.2), (50, 0.3))]
    (tmp_path / "curves").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_curves(tmp_path / "curves") == {(1, "position"): ([50], [0.3])}


def test_resuming_nothing_is_an_error(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path / "new", "resume=true"), capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "nothing to resume" in done.stderr

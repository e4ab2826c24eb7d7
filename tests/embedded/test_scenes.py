"""The generator of `scenes`: seeded, balanced, continuous, and asked about what its script says."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from prunesweep.benchmarks.jsonl import load
from prunesweep.embedded.build import draw_split
from prunesweep.embedded.language import WORDS, build_tokenizer
from prunesweep.embedded.network import TinyShape, build_network, start_from
from prunesweep.embedded.scene import COLOURS, PATTERNS
from prunesweep.embedded.scenes import questions
from prunesweep.embedded.scenes.labels import CELL, GRID, NOTHING, token_labels
from prunesweep.embedded.scenes.paths import HEADINGS, SIDE, STEP, WAITS
from prunesweep.embedded.scenes.questions import ANSWERS, SEVERAL_WORDS, ask, kind
from prunesweep.embedded.scenes.render import BLOB_PIXELS, BLOBS, render
from prunesweep.embedded.scenes.script import PAN_FACTOR, PAN_PIXELS, Script, draw_script
from prunesweep.embedded.training import make_batch, packed_mask, prefix_attention
from prunesweep.embedded.worlds import SCENES

FRAMES = 16
RIGHT, DOWN = HEADINGS.index("right"), HEADINGS.index("down")


def script() -> Script:
    """A red plain block moves right, then down; a green striped one flashes once, top right, in the second second; blue, then
    yellow appear; grass turns to sand."""
    rows = np.array([100.0, 20.0, 60.0, 60.0])
    columns = np.array([30.0, 100.0, 40.0, 100.0])
    centre = np.tile(np.stack([rows, columns], axis=1), (FRAMES, 1, 1))
    heading = np.zeros((FRAMES, 4), int)
    heading[:8, 0], heading[8:, 0] = RIGHT, DOWN
    centre[:, 0] += np.r_[np.zeros((1, 2)), STEP[heading[1:, 0]]].cumsum(0)
    present = np.ones((FRAMES, 4), bool)
    present[:5, 2] = present[:9, 3] = False
    flash = np.zeros((FRAMES, 4), bool)
    flash[6, 1] = True
    return Script(
        centre=centre,
        heading=heading,
        present=present,
        colour=np.tile([0, 1, 2, 3], (FRAMES, 1)),
        flash=flash,
        pattern=np.array([0, 1, 2, 3]),
        size=np.array([20, 14, 14, 28]),
        phased=np.array([True, False, False, False]),
        texture=np.repeat([[0, 0, 0], [1, 1, 1]], 8, axis=0),
        camera=np.zeros((FRAMES, 2), int),
        shake=np.zeros((FRAMES, 2), int),
        light=np.ones(FRAMES),
        noise=4.0,
        seed=0,
    )


def answers(of: Script) -> dict[str, str]:
    return {question.text: question.answer for question in ask(of, np.random.default_rng(0))}


def test_answers_follow_from_the_script() -> None:
    found = answers(script())
    assert found["how does the red block move ?"] == "right then down"
    assert found["where and when does the green block flash ?"] == "northeast second"
    assert found["in which order do blocks appear ?"] == "blue then yellow"
    assert found["how does the background change ?"] == "grass then sand"
    assert found["how many blocks are there ?"] == "four"
    assert found["how many times does the red block flash ?"] == "zero"
    assert found["is there a white block ?"] == "no"
    assert "is there a red block ?" not in found  # it is there all the time: any frame would do
    assert "which way does the red block move ?" not in found  # two ways


def test_what_is_not_clear_is_not_asked() -> None:
    both = replace(script(), present=np.concatenate([script().present[:, :3], script().present[:, 2:3]], axis=1))
    assert "in which order do blocks appear ?" not in answers(both)  # in one frame
    middle = script().centre.copy()
    middle[:, 1] = SIDE / 2
    assert "where and when does the green block flash ?" not in answers(replace(script(), centre=middle))
    panned = np.stack([np.zeros(FRAMES), 100 * np.arange(FRAMES)], axis=1).astype(int)
    mixed = replace(script(), texture=np.repeat([[0, 2, 2], [1, 2, 2]], 8, axis=0), camera=panned)  # half of each
    assert "how does the background change ?" not in answers(mixed)


def test_a_block_behind_another_or_outside_is_not_seen() -> None:
    behind = script().centre.copy()
    behind[3, 0] = behind[3, 1]
    assert not replace(script(), centre=behind, size=np.array([14, 20, 14, 28])).visible[3, 0]
    outside = script().centre.copy()
    outside[3, 0, 0] = -1
    assert not replace(script(), centre=outside).visible[3, 0]
    assert script().visible[3, 0]


@pytest.mark.parametrize("frames", [1, 4, 8, FRAMES])
def test_every_question_is_well_formed(frames: int) -> None:
    words = {*WORDS, *questions.WORDS}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for question in ask(draw_script(rng, frames), rng):
            assert question.answer in question.choices
            assert len(set(question.choices)) == len(question.choices)
            assert kind(question) in (*ANSWERS[question.task], "one")
            assert (question.task in SEVERAL_WORDS) == (len(question.answer.split()) > 1)
            assert {word for text in (question.text, *question.choices) for word in text.split()} <= words


def test_options_of_two_parts_have_each_part_as_often_as_any_other() -> None:
    seen = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for question in ask(draw_script(rng, FRAMES), rng):
            if question.task == "action_localization":
                parts = [choice.split() for choice in question.choices]
                assert {tuple(sorted(Counter(column).values())) for column in zip(*parts, strict=True)} == {(2, 2)}
                seen += 1
            elif question.task in ("action_sequence", "scene_transition"):
                parts = [choice.split(" then ") for choice in question.choices]
                assert sorted(parts) == sorted(pair[::-1] for pair in parts)
                seen += 1
    assert seen > 50


def test_motion_is_continuous_and_heads_where_it_says() -> None:
    for seed in range(100):
        drawn = draw_script(np.random.default_rng(seed), FRAMES)
        step = np.diff(drawn.centre, axis=0)
        assert np.array_equal(np.sign(np.round(step, 6)), STEP[drawn.heading[1:]])
        assert not step[drawn.heading[1:] == WAITS].any()
        assert np.abs(step).max() < SIDE / 2
        assert all(len(set(colours)) == drawn.blocks for colours in drawn.colour.tolist())


def test_the_world_is_larger_than_what_the_camera_crosses() -> None:
    assert SIDE + PAN_PIXELS * PAN_FACTOR[1] * FRAMES < BLOBS * BLOB_PIXELS


def test_a_seed_is_a_video() -> None:
    first, again, other = (render(draw_script(np.random.default_rng(seed), 4)) for seed in (3, 3, 4))
    assert first.shape == (4, SIDE, SIDE, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blocks_are_drawn_and_labelled_where_the_script_says() -> None:
    frames, labels = render(script()).astype(int), token_labels(script())
    for frame in (0, 5):
        row, column = script().centre[frame, 0].astype(int)
        red, green, _ = frames[frame, row, column]
        assert red > green + 100
        cell = row // CELL * GRID + column // CELL
        assert labels["colour"][frame, cell] == COLOURS.index("red")
        assert labels["pattern"][frame, cell] == PATTERNS.index("plain")
        assert labels["background"][frame, cell] == NOTHING
    assert labels["quarter"][[0, 3, 4, 15], 0].tolist() == [0, 0, 1, 3]
    row, column = script().centre[0, 1].astype(int) // CELL
    assert labels["flashes"][[5, 6, 7], row * GRID + column].tolist() == [0, 1, 1]
    assert labels["flash"][[5, 6, 7], row * GRID + column].tolist() == [0, 1, 0]


def test_a_split_is_balanced_and_drawn_the_same_again(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        draw_split(900_000, tmp_path / name, per_family=2, world=SCENES)
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]  # videos, too: one thread encodes
    samples = load(str(tmp_path / "one"))
    assert Counter(sample.task for sample in samples) == dict.fromkeys(ANSWERS, 2)
    assert len({(sample.task, sample.reference) for sample in samples}) == len(samples)
    assert json.loads(files[0]["questions.jsonl"].splitlines()[0])["video"].encode()[:-4] + b".mp4" in {
        n.encode() for n in files[0]
    }


def test_an_answer_of_several_words_is_taught_word_by_word_to_its_end() -> None:
    batch = make_batch(np.random.default_rng(1), frames=4, videos=3, questions=6, world=SCENES)
    tokenizer = build_tokenizer(SCENES.words)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    video, place = batch.final.nonzero()[-1]
    assert batch.target[video, place] == end
    asked = batch.final & (batch.question == batch.question[video, place]) & (torch.arange(3) == video)[:, None]
    said = batch.target[asked].tolist()
    assert said[:-1] == batch.ids[asked].tolist()[1:]
    assert tokenizer.decode(said[:-1])


def test_a_model_of_fewer_words_and_smaller_frames_is_a_beginning(tmp_path: Path) -> None:
    small = {"hidden": 24, "layers": 2, "mlp": 32, "vision_hidden": 24, "vision_layers": 1}
    known = build_network(TinyShape(**small), seed=1)
    known.save_pretrained(tmp_path)
    larger = build_network(TinyShape(**small, size=SIDE), seed=2, words=SCENES.words)
    own = larger.get_input_embeddings().weight.detach().clone()
    start_from(larger, str(tmp_path))
    before, after = known.get_input_embeddings().weight, larger.get_input_embeddings().weight
    assert torch.equal(after[: len(before)], before)
    assert torch.equal(after[len(before) :], own[len(before) :])
    with pytest.raises(ValueError, match="does not fit into"):
        start_from(build_network(TinyShape(**{**small, "hidden": 48}), seed=0), str(tmp_path))


def test_attention_behind_a_prefix_is_masked_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, 12, 8, generator=generator) for heads in (4, 2, 2))
    mask = packed_mask(6, torch.tensor([[0, 0, 0, 1, 1, -1]]))
    found, _ = prefix_attention(torch.nn.Identity(), query, key, value, mask, scaling=0.3)
    whole = torch.full((12, 12), -torch.inf).triu(1)[None, None].repeat(1, 1, 1, 1)
    whole[:, :, 6:] = mask
    key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    expected = ((query * 0.3 @ key.transpose(-1, -2) + whole).softmax(-1) @ value).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-6)

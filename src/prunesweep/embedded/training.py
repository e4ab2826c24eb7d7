"""How the tiny model learns `blocks`: scenes drawn on the fly, several questions behind one shared video prefix.

The curriculum lengthens the videos: single frames first, then clips of a few frames, then full length.  Every video is
seen whole and every token of it is used: nothing is dropped, merged or skipped, so that the reduction methods meet a
model that was never prepared for them.

Two helpers make a cold start quick, neither changes the model: the answer is also asked for at the word that names the
block and at the question mark, and the projected tokens are pulled towards the embeddings of the words that describe
them.  A penalty keeps the projected tokens at a root mean square of one, the scale that distances in the literature's
clustering steps assume.
"""

from __future__ import annotations

import functools
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from prunesweep.embedded.language import build_tokenizer
from prunesweep.embedded.network import TinyShape, build_network
from prunesweep.embedded.questions import CORNERS, FAMILIES, NUMBERS, Question, ask, balanced, corner_of
from prunesweep.embedded.render import render
from prunesweep.embedded.scene import BACKGROUNDS, COLOURS, GRID, PATTERNS, Scene, draw_scene

TRAIN_SEED = 1_000_000
"""Seeds of the training scenes start here; validation, test and final splits lie below (see `build`)."""
NO_TARGET = -100
EARLY_ANSWER_WEIGHT = 0.5
TIED_TEMPERATURE = 12.0


@dataclass(frozen=True)
class TrainStage:
    """One step of the curriculum."""

    name: str
    steps: int
    frames: dict[int, float]
    """Video length to its share of the steps."""
    videos: dict[int, int]
    """Video length to videos per step and process."""
    questions: int
    """Questions per video; 0 trains the vision tower and projector alone."""
    learning_rate: float
    grounding: float = 0.25
    """Weight of the loss that ties projected tokens to words."""


class Batch(NamedTuple):
    """b videos of t frames, q text tokens of all questions side by side."""

    pixels: Tensor  # b t 3 H W in [-1, 1]
    ids: Tensor  # b q
    offset: Tensor  # b q place within the question
    question: Tensor  # b q index of the question, -1 for padding
    target: Tensor  # b q answer token where one is asked for, else NO_TARGET
    final: Tensor  # b q bool: the position the model answers from
    task: Tensor  # b q index into FAMILIES
    labels: dict[str, Tensor]  # attribute to b t*cells word index, NO_TARGET where it does not apply


ATTRIBUTES = {
    "colour": COLOURS,
    "pattern": PATTERNS,
    "background": BACKGROUNDS,
    "flash": NUMBERS[:2],
    "corner": CORNERS,
}
"""What a token is grounded in, and the words for it: a block that flashes in a frame flashes there once."""


@functools.cache
def tokenizer():
    return build_tokenizer()


@functools.cache
def _word_id(word: str) -> int:
    return tokenizer().convert_tokens_to_ids(word)


@functools.cache
def _encode(text: str) -> tuple[int, ...]:
    return tuple(tokenizer().encode(text, add_special_tokens=False))


def cell_labels(scene: Scene) -> dict[str, np.ndarray]:
    """What each cell of each frame shows, `t cells` each: indices into ATTRIBUTES, and the cell's row and column."""
    empty = np.full((scene.frames, GRID * GRID), NO_TARGET)
    labels = {name: empty.copy() for name in ("colour", "pattern", "flash", "corner", "row", "column")}
    background = np.repeat(scene.background[:, None], GRID * GRID, axis=1)
    for frame, block in np.argwhere(scene.visible):
        cell = scene.cell[frame, block]
        labels["colour"][frame, cell] = scene.colour[frame, block]
        labels["pattern"][frame, cell] = scene.pattern[block]
        labels["flash"][frame, cell] = scene.flash[frame, block]
        row, column = divmod(int(cell), GRID)
        labels["row"][frame, cell], labels["column"][frame, cell] = row, column
        labels["corner"][frame, cell] = corner_of(row, column)
        background[frame, cell] = NO_TARGET
    return {**labels, "background": background}


def _pack(questions: list[Question]) -> dict[str, list[int]]:
    """The token columns of a video's questions, one after the other."""
    columns: dict[str, list[int]] = defaultdict(list)
    naming = {_word_id(w) for w in (*COLOURS, *PATTERNS, "?")}
    for index, question in enumerate(questions):
        ids = _encode(f"{question.text}<|im_end|><|im_start|>assistant")
        answer = _word_id(question.answer)
        last = len(ids) - 1
        for place, token in enumerate(ids):
            columns["ids"].append(token)
            columns["offset"].append(place)
            columns["question"].append(index)
            columns["target"].append(answer if place == last or token in naming else NO_TARGET)
            columns["final"].append(place == last)
            columns["task"].append(list(FAMILIES).index(question.task))
    return columns


PADDING = {"ids": 0, "offset": 0, "question": -1, "target": NO_TARGET, "final": 0, "task": 0}


def make_batch(rng: np.random.Generator, frames: int, videos: int, questions: int) -> Batch:
    scenes = [draw_scene(rng, frames) for _ in range(videos)]
    packed = [_pack(balanced(ask(scene, rng), rng, questions)) for scene in scenes]
    width = max((len(p["ids"]) for p in packed), default=0)
    columns = {
        name: torch.tensor([p[name] + [padding] * (width - len(p[name])) for p in packed], dtype=torch.long)
        for name, padding in PADDING.items()
    }
    pixels = torch.from_numpy(np.stack([render(scene) for scene in scenes]))
    labels = [cell_labels(scene) for scene in scenes]
    return Batch(
        pixels=pixels.permute(0, 1, 4, 2, 3).float().div_(127.5).sub_(1),
        **{**columns, "final": columns["final"].bool()},
        labels={name: torch.from_numpy(np.stack([one[name].reshape(-1) for one in labels])) for name in labels[0]},
    )


def packed_mask(prefix: int, question: Tensor) -> Tensor:
    """Float mask `b 1 s s` of a prefix shared by questions that do not see each other; `question` is `b q`, -1 = padding."""
    batch, width = question.shape
    size = prefix + width
    owner = torch.cat([question.new_full((batch, prefix), -2), question], dim=1)
    shared = torch.arange(size) < prefix
    allowed = shared[None, None, :] | (owner[:, :, None] == owner[:, None, :])
    allowed = allowed & torch.ones(size, size, dtype=torch.bool).tril()
    return torch.zeros(batch, 1, size, size).masked_fill(~allowed[:, None], torch.finfo(torch.float32).min)


def matmul_attention(
    _: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float, **__: Any
) -> tuple[Tensor, None]:
    """Attention by two matrix products: for training with a mask on a CPU twice as fast as SDPA's backward (measured)."""
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = query * scaling @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask.to(scores.dtype)
    return (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register("prunesweep_matmul", matmul_attention)


class TinyTraining(L.LightningModule):
    """Trains one tiny model through the curriculum; the step number and the rank determine every batch."""

    def __init__(self, shape: TinyShape, stages: tuple[TrainStage, ...], seed: int, decay_share: float = 0.4, warmup: int = 100):
        super().__init__()
        self.stages, self.seed, self.decay_share, self.warmup = stages, seed, decay_share, warmup
        self.shape = shape
        self.network: Any = None
        self.seen: dict[tuple[int, str], list[float]] = defaultdict(list)

    def configure_model(self) -> None:
        """Builds the network in the process that trains it: transformers' output capturing does not survive pickling."""
        if self.network is None:
            self.network = build_network(self.shape, self.seed)
            self.place = torch.nn.Linear(self.shape.hidden, 2 * GRID)  # row and column; not part of the checkpoint
            self.network.set_attn_implementation("prunesweep_matmul")

    @property
    def total_steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> TrainStage:
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def learning_rate_at(self, step: int) -> float:
        """Warm-up, the stage's rate, and a linear decay to zero over the last `decay_share` of all steps."""
        left = (self.total_steps - step) / (self.decay_share * self.total_steps)
        return self.stage_at(step).learning_rate * min(1.0, left) * min(1.0, (step + 1) / self.warmup)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.learning_rate_at)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        torch.set_num_threads(1)  # one thread per process: two processes of one beat one process of two (measured)

    def draw(self, step: int) -> tuple[TrainStage, int, Batch]:
        """Stage, video length (the same on all ranks) and batch (this rank's own) of a step."""
        stage = self.stage_at(step)
        lengths = list(stage.frames)
        shares = np.array([stage.frames[n] for n in lengths])
        frames = int(np.random.default_rng((self.seed, step)).choice(lengths, p=shares / shares.sum()))
        rng = np.random.default_rng((TRAIN_SEED, self.seed, step, self.global_rank))
        return stage, frames, make_batch(rng, frames, stage.videos[frames], stage.questions)

    def training_step(self, _: Any, __: int) -> Tensor:
        stage, frames, batch = self.draw(self.global_step)
        video = self.network.model.get_video_features(pixel_values_videos=batch.pixels).pooler_output
        grounding = self._grounding_loss(video[:, :-1], batch.labels)
        loss = stage.grounding * grounding
        if stage.questions:
            loss = loss + self._answer_loss(video, batch, frames)
        self.log("loss", loss.detach(), prog_bar=True)
        self.log("grounding", grounding.detach())
        return loss

    def _grounding_loss(self, video: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of each token against the words of each attribute, by cosine; plus the scale penalty."""
        words = self.network.get_input_embeddings().weight
        tokens = F.normalize(video.float(), dim=-1)
        loss = (video.float().pow(2).mean(-1) - 1).pow(2).mean() * 0.1
        for name, vocabulary in ATTRIBUTES.items():
            target = F.normalize(words[[_word_id(w) for w in vocabulary]].float(), dim=-1)
            wanted = labels[name] != NO_TARGET
            loss = loss + F.cross_entropy(TIED_TEMPERATURE * tokens[wanted] @ target.T, labels[name][wanted])
        rows, columns = self.place(video.float()).split(GRID, dim=-1)
        for logits, name in ((rows, "row"), (columns, "column")):
            loss = loss + F.cross_entropy(logits.flatten(0, 1).float(), labels[name].flatten(), ignore_index=NO_TARGET)
        return loss

    def _answer_loss(self, video: Tensor, batch: Batch, frames: int) -> Tensor:
        embed = self.network.get_input_embeddings()
        start = torch.tensor(_encode("<|im_start|>user")).expand(len(video), -1)
        text = embed(torch.cat([start, batch.ids], dim=1))
        inputs = torch.cat([text[:, : start.shape[1]], video.to(text.dtype), text[:, start.shape[1] :]], dim=1)
        prefix = start.shape[1] + video.shape[1]
        positions = torch.cat([torch.arange(prefix).expand(len(video), -1), prefix + batch.offset], dim=1)
        hidden = self.network.model.language_model(
            inputs_embeds=inputs,
            attention_mask=packed_mask(prefix, batch.question),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state[:, prefix:]
        asked = batch.target != NO_TARGET
        logits = self.network.lm_head(hidden[asked]).float()
        target, final = batch.target[asked], batch.final[asked]
        loss = F.cross_entropy(logits, target, reduction="none")
        self._note(frames, batch.task[asked][final], (logits.argmax(-1) == target)[final])
        return loss[final].mean() + EARLY_ANSWER_WEIGHT * loss[~final].mean()

    def _note(self, frames: int, task: Tensor, right: Tensor) -> None:
        names = list(FAMILIES)
        for index, value in zip(task.tolist(), right.tolist(), strict=True):
            self.seen[frames, names[index]].append(float(value))

    def take_accuracies(self) -> dict[str, float]:
        """Share of right free-form answers since the last call, by video length and family (this rank's batches)."""
        means = {f"train_accuracy/{frames}f/{task}": float(np.mean(v)) for (frames, task), v in sorted(self.seen.items())}
        self.seen.clear()
        return means


class SaveAtEnd(L.Callback):
    """Writes the last checkpoint when training ends, whatever the interval."""

    def __init__(self, path: Path):
        self.path = path

    def on_train_end(self, trainer: L.Trainer, module: TinyTraining) -> None:
        trainer.save_checkpoint(self.path)


class AccuracyLog(L.Callback):
    """Logs the training accuracies by video length and family every `EVERY` steps, and appends them to a JSON lines file."""

    EVERY = 50

    def __init__(self, path: Path):
        self.path = path

    def on_train_batch_end(self, trainer: L.Trainer, module: TinyTraining, *_: Any) -> None:
        step = trainer.global_step
        if trainer.is_global_zero and step % self.EVERY == 0:
            line = {"step": step, "stage": module.stage_at(step - 1).name, "time": round(time.time(), 1)}
            accuracies = module.take_accuracies()
            for logger in trainer.loggers:
                logger.log_metrics(accuracies, step)
            line |= {name: round(value, 3) for name, value in accuracies.items()}
            with self.path.open("a") as file:
                file.write(json.dumps(line) + "\n")

"""A model plugin for lmms-eval, which finds it by its entry point: any model and setting in the field's own harness.

    python -m lmms_eval --model prunesweep --tasks mvbench \\
        --model_args pretrained=llava_onevision_7b,reducer=prunevid,reducer.prune.keep_ratio=0.2,frames=32

lmms-eval asks, this answers on the engine: all requests about one video together, so that it is decoded and encoded once.  Only
lmms-eval imports this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import GenerationResult, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from loguru import logger
from tqdm import tqdm

from prunesweep.benchmarks.lmms import cut, most_tokens, shown
from prunesweep.console.meant import unknown
from prunesweep.cost import Usage
from prunesweep.engine.plan import continuation, plan, require_fit
from prunesweep.engine.prefix_tree import Clock, Job, evaluate_jobs
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.stages import Generate
from prunesweep.lazy import torch
from prunesweep.paths import CONF
from prunesweep.sweep.overrides import override
from prunesweep.sweep.session import composed
from prunesweep.targets import instantiate
from prunesweep.types import Answer, Sample
from prunesweep.use.preset import is_preset, read_preset, require_sizes
from prunesweep.use.settings import setting_called

MANIFEST = ModelManifest("prunesweep", simple_class_path="prunesweep.use.lmms.PruneSweep")
WHOLE_TURN = "{question}"
"""The protocol's template: lmms-eval has written the prompt."""
ARGUMENTS = ("pretrained", "reducer", "frames", "device")
SECTIONS = ("model", "reducer", "video", "protocol")
"""Whose settings `--model_args` may have."""
TASKS_OWN = ("protocol.template", "protocol.style", "protocol.answering", "protocol.most_tokens")


class PruneSweep(lmms):
    """`pretrained` is a model of `conf/model/` or a checkpoint's folder; `reducer` a reducer's name, a preset or a trial.

    `frames` are the model's own unless given.  Other settings are those of the command, such as `reducer.prune.keep_ratio=0.2`
    or `protocol.sampling=released`.  Raises ValueError for an unknown one, a reducer that does not fit the model, and
    a preset of a model of other sizes.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        reducer: str = "none",
        frames: int | None = None,
        device: str | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **settings: Any,
    ):
        super().__init__()
        if str(batch_size) != "1":
            logger.warning(f"batch_size={batch_size} changes nothing: requests about one video run together, one by one")
        own = _overrides(settings)
        model = [*_model_called(str(pretrained)), *(one for one in own if one.startswith("model."))]
        self.reducer = setting_called(str(reducer), [*model, *(one for one in own if one.startswith("reducer."))])
        others = [one for one in own if one.startswith(("video.", "protocol."))]
        config = composed([*model, "protocol=generate", *others])
        self.frames = int(frames if frames is not None else config.video.frames)
        self.seconds = float(config.video.seconds)
        self.protocol: Protocol = replace(instantiate(config.protocol), style="letters", template=WHOLE_TURN)
        self.model = instantiate(config.model.load)
        if is_preset(path := Path(str(reducer)).expanduser()):
            require_sizes(read_preset(path), asdict(self.model.shape))
        require_fit(self.reducer, self.model)
        self.device = torch.device(device or _device())
        self.model.network.to(self.device)
        self.clock = Clock()
        self.taken: list[Usage] = []

    def generate_until(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """Greedy answers, cut at the task's stop strings; an empty one, and a line in the log, where there is none."""

        def planned(request: Any, document: Any) -> tuple[Sample, list[Stages]]:
            tokens = most_tokens(request.args[1], request.args[4])
            sample = _sample(request, document)
            return sample, [self._stages(sample, replace(self.protocol, answering="generate", most_tokens=tokens))]

        return [_said(request, *found) for request, found in zip(requests, self._answered(requests, planned), strict=True)]

    def loglikelihood(self, requests: Sequence[Any]) -> list[GenerationResult]:
        """Minus the log-likelihood of each continuation, for lmms-eval's tasks take losses; and whether it is the greedy answer.

        In a result each: of a bare pair lmms-eval 0.7.3 makes text.

        Raises ValueError if one cannot be scored: a task would take whatever stands for it for a choice.
        """

        def planned(request: Any, document: Any) -> tuple[Sample, list[Stages]]:
            wanted = request.args[1]
            sample = _sample(request, document, (wanted if isinstance(wanted, str) else str(wanted(document)),))
            stages = self._stages(sample, replace(self.protocol, style="words", answering="choose"))
            return sample, [stages, (*stages[:-1], Generate(len(stages[-1].options[0]), self.reducer.decode))]

        found = self._answered(requests, planned)
        if failed := sum(not answers for answers in found):
            raise ValueError(f"{failed} of {len(found)} continuations have no likelihood; the reasons are in the log")
        return [GenerationResult(self._loss(*answers)) for answers in found]

    def _loss(self, scored: Answer, greedy: Answer) -> tuple[float, bool]:
        is_greedy = greedy.token_ids == continuation(self.model, self.protocol.prefix, scored.text)
        return -scored.choice_scores[0], is_greedy

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        raise NotImplementedError("tasks of several rounds cannot be asked: a setting is defined for one question about a video")

    def clean(self) -> None:
        """Frees the model, when all is answered."""
        self.model = None
        super().clean()

    def _stages(self, sample: Sample, protocol: Protocol) -> Stages:
        return plan(sample, self.frames, self.reducer, protocol, self.model, seconds=self.seconds)

    def _answered(self, requests: Sequence[Any], planned: Planning) -> list[tuple[Answer, ...]]:
        """The answers to each request, in its order; nothing for one that failed.  Videos are run one after the other."""
        videos: dict[str, list[Job]] = {}
        found: list[dict[int, Answer]] = [{} for _ in requests]
        failed: dict[int, Exception] = {}
        for index, request in enumerate(requests):
            task, split = request.args[4:6]
            try:
                sample, ways = planned(request, self.task_dict[task][split][request.args[3]])
                videos.setdefault(sample.video_id, []).extend(Job((index, way), stages) for way, stages in enumerate(ways))
            except ValueError as error:
                failed[index] = error
        for jobs in tqdm(videos.values(), desc="Videos", disable=self.rank != 0):
            for (index, way), result, _ in evaluate_jobs(self.model, jobs, self.clock):
                if isinstance(result, Exception):
                    failed[index] = result
                else:
                    found[index][way] = result
        for index, reason in failed.items():
            found[index] = {}
            logger.error(f"no answer to {requests[index].task_name}-{requests[index].doc_id}: {type(reason).__name__}: {reason}")
        self._say_what_it_took(found, len(videos))
        return [tuple(answers[way] for way in sorted(answers)) for answers in found]

    def _say_what_it_took(self, found: Sequence[dict[int, Answer]], videos: int) -> None:
        self.taken += [answers[0].usage for answers in found if answers]
        dense = sum(usage.dense_tokens for usage in self.taken) or 1
        enter, end = (sum(usage.visual_tokens[layer] for usage in self.taken) / dense for layer in (0, -1))
        none = f"; {count} without an answer" if (count := sum(not answers for answers in found)) else ""
        logger.info(
            f"{self.reducer.name}: {len(found)} requests on {videos} videos, {enter:.3f}x of the visual tokens entered the LLM, "
            f"{end:.3f}x reached its end; {self.clock.run:,} stages run instead of {self.clock.alone:,}{none}"
        )


Stages = tuple[Any, ...]
Planning = Callable[[Any, Any], tuple[Sample, list[Stages]]]
"""Of a request and its document: the question, and the stages of each way in which it is asked."""


def _sample(request: Any, document: Any, choices: tuple[str, ...] = ()) -> Sample:
    prompt, _, doc_to_visual, number, task, _ = request.args
    video = shown(doc_to_visual, document)
    return Sample(f"{task}-{number}", video.path, prompt, choices, None, task, video.id, video.start, video.end)


def _said(request: Any, *answers: Answer) -> GenerationResult:
    if not answers:
        return GenerationResult("")
    usage = answers[0].usage
    tokens = TokenCounts(input_tokens=usage.text_tokens + usage.visual_tokens[0], output_tokens=usage.generated_tokens)
    return GenerationResult(cut(answers[0].text, request.args[1]), tokens)


def _model_called(name: str) -> list[str]:
    """Overrides for one of `conf/model/`, or for a checkpoint's folder.  Raises ValueError for what is neither."""
    if (CONF / "model" / f"{name}.yaml").is_file():
        return [f"model={name}"]
    folder = Path(name).expanduser()
    if not folder.is_dir():
        known = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
        raise ValueError(f"{unknown('model', name, known)}; or the folder of a checkpoint")
    return ["model=auto", override("model.checkpoint", str(folder)), override("model.name", folder.name)]


def _overrides(settings: Mapping[str, Any]) -> list[str]:
    for key in settings:
        section, _, name = key.partition(".")
        if section not in SECTIONS or not name:
            raise ValueError(f"--model_args has no {key!r}; known: {', '.join(ARGUMENTS)} and settings of {', '.join(SECTIONS)}")
        if key in TASKS_OWN:
            raise ValueError(f"{key} is the task's: lmms-eval writes the prompt and says how it is answered")
    return [override(key, value) for key, value in settings.items()]


def _device() -> str:
    """The one that accelerate or torchrun has for this process."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"

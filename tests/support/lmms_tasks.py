"""Tasks of lmms-eval on a few drawn clips, in a temporary folder: its own task files, pointed to local data.

A task file of ours includes lmms-eval's and names other data: prompts, videos' places below HF_HOME, scores and aggregates are
lmms-eval's own code.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from prunesweep.types import Sample

LETTERS = "ABCDE"


class Layout(NamedTuple):
    """One benchmark as lmms-eval lays it out."""

    file: str
    """Of lmms-eval's own, below its folder of tasks."""
    videos: str
    """Where its code looks for them below HF_HOME."""
    split: str
    item: Callable[[Sample, str], dict[str, Any]]
    """Of a question of ours, and its video's name."""
    changed: Mapping[str, Any] = {}
    """Settings of the task other than its data."""


def lettered(sample: Sample, form: str) -> list[str]:
    return [form.format(letter=letter, text=text) for letter, text in zip(LETTERS, sample.choices, strict=False)]


def _mvbench(sample: Sample, video: str) -> dict[str, Any]:
    answer = sample.choices[sample.target or 0]
    return {"video": video, "question": sample.question, "candidates": list(sample.choices), "answer": answer}


def _videomme(sample: Sample, video: str) -> dict[str, Any]:
    return {
        **{"videoID": Path(video).stem, "question_id": sample.id, "question": sample.question, "duration": "short"},
        **{"domain": "Knowledge", "sub_category": "Astronomy", "task_type": "Counting Problem"},
        **{"options": lettered(sample, "{letter}. {text}"), "answer": LETTERS[sample.target or 0]},
    }


def _mlvu(sample: Sample, video: str) -> dict[str, Any]:
    question = "\n".join([sample.question, *lettered(sample, "({letter}) {text}")])
    return {"video_name": video, "question": question, "answer": LETTERS[sample.target or 0], "task_type": "count"}


def _longvideobench(sample: Sample, video: str) -> dict[str, Any]:
    options = {f"option{i}": sample.choices[i] if i < len(sample.choices) else "N/A" for i in range(len(LETTERS))}
    about = {"id": sample.id, "video_path": video, "question": sample.question, "correct_choice": sample.target}
    return {**about, **options, "duration_group": 15, "question_category": "S2E", "duration": 1.5}


def _nextqa(sample: Sample, video: str) -> dict[str, Any]:
    texts = [*sample.choices, *("none of these", "nothing", "all of these")][: len(LETTERS)]
    options = {f"a{i}": text for i, text in enumerate(texts)}
    return {"video": Path(video).stem, "question": sample.question, **options, "answer": sample.target}


def _tempcompass(sample: Sample, video: str) -> dict[str, Any]:
    options = lettered(sample, "{letter}. {text}")
    about = {"video_id": Path(video).stem, "question": "\n".join([sample.question, *options]), "dim": "direction"}
    return {**about, "answer": options[sample.target or 0]}


ONE_TOKEN = {"generation_kwargs": {"max_new_tokens": 1}}
LAYOUTS = {
    "mvbench": Layout("mvbench/mvbench_action_antonym.yaml", "mvbench_video/ssv2_video_mp4", "train", _mvbench),
    "videomme": Layout("videomme/videomme.yaml", "videomme/data", "test", _videomme),
    "mlvu": Layout("mlvu/mlvu_dev.yaml", "mlvu", "test", _mlvu),
    "longvideobench": Layout(
        "longvideobench/longvideobench_val_v.yaml", "datasets/longvideobench/videos", "validation", _longvideobench
    ),
    "nextqa": Layout(  # it says nothing of how long an answer may be
        "nextqa/nextqa_mc_test.yaml", "nextqa/NExTVideo", "test", _nextqa, {"generation_kwargs": {"max_new_tokens": 4}}
    ),
    "tempcompass": Layout(  # of an answer that is more than a letter it asks a judge
        "tempcompass/tempcompass_mc.yaml",
        "tempcompass/videos",
        "test",
        _tempcompass,
        {"generation_kwargs": {"max_new_tokens": 1}},
    ),
}


def write_layout(name: str, samples: Sequence[Sample], home: Path, folder: Path) -> str:
    """Data, videos and a task file; returns the task's name."""
    import lmms_eval.tasks

    layout = LAYOUTS[name]
    (home / layout.videos).mkdir(parents=True, exist_ok=True)
    for sample in samples:
        shutil.copyfile(sample.path, home / layout.videos / sample.path.name)
    own = Path(lmms_eval.tasks.__file__).parent / layout.file
    settings = {"include": str(own), "task": f"local_{name}", **layout.changed}
    write_task(folder, settings, layout.split, [layout.item(sample, sample.path.name) for sample in samples])
    return f"local_{name}"


def write_task(folder: Path, settings: Mapping[str, Any], split: str, items: Sequence[Mapping[str, Any]]) -> None:
    """A task file with its data beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / f"{settings['task']}.jsonl"
    data.write_text("".join(json.dumps(item) + "\n" for item in items))
    local = {"dataset_path": "json", "dataset_kwargs": {"data_files": {split: str(data)}}}
    (folder / f"{settings['task']}.yaml").write_text(yaml.safe_dump({**settings, **local}))

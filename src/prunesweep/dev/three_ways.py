"""One preset, scored three ways: by the engine, by `ps.prune` on the stock model, and by lmms-eval where it is installed.

    python -m prunesweep.dev.three_ways PRESET [--limit 100]

All three answer by greedy generation, with one token, on the preset's own benchmark.  Accuracies of the first two come from
records, with their clustered error; that of lmms-eval is its own mean, of a task made of the same questions for it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep import api
from prunesweep.console.layout import markdown
from prunesweep.dev import parser_of
from prunesweep.errors import write_anywhere
from prunesweep.paths import user_path
from prunesweep.use.preset import Preset, read_preset

if TYPE_CHECKING:
    from prunesweep.engine.protocol import Protocol
    from prunesweep.types import Sample

PROTOCOL = {"protocol": "generate", "protocol.most_tokens": 1}
"""One token: a letter, or a word of a model that was taught to answer with one and not to stop; more may name several options."""
TASK = "three_ways"
OWN = r"""
def visual(document):
    return [document["video"]]


def scored(document, results):
    import re

    begins = re.match(re.escape(document["answer"]) + r"\b", results[0].strip())
    return {"right": float(begins is not None)}
"""
"""Code of lmms-eval's task: where its video is, and that an answer is right which begins with the right words."""


class Way(NamedTuple):
    """What one of them says."""

    name: str
    accuracy: str
    answers: Sequence[str]


def main() -> None:
    write_anywhere()
    parser = parser_of(__file__, __doc__)
    parser.add_argument("preset", type=user_path)
    parser.add_argument("--limit", type=int, default=100, help="questions")
    arguments = parser.parse_args()
    print(*table(ways(arguments.preset, arguments.limit)), sep="\n")


def ways(path: Path, limit: int, **model: Any) -> list[Way]:
    """`model` are settings of the preset's model, such as its checkpoint.  Raises ValueError for what is no preset."""
    preset = read_preset(path)
    chosen = api.load_model(preset.model, **model)
    found = [by_engine(path, preset, chosen, limit), by_prune(path, preset, chosen, limit)]
    return [*found, by_lmms(path, preset, chosen, limit)] if importlib.util.find_spec("lmms_eval") else found


def table(found: Sequence[Way]) -> list[str]:
    """With how many answers are the engine's, letter for letter."""
    engine = found[0].answers
    rows = [
        (way.name, way.accuracy, f"{sum(a == b for a, b in zip(way.answers, engine, strict=True))} of {len(engine)}")
        for way in found
    ]
    absent = [] if len(found) > 2 else [("lmms-eval", "not installed: pip install 'prunesweep[lmms]'", "")]
    return list(markdown(("scored by", "accuracy", "the engine's answer"), [*rows, *absent]))


def by_engine(path: Path, preset: Preset, model: api.Choice, limit: int) -> Way:
    """As `prunesweep reducer=PRESET protocol=generate protocol.most_tokens=1` does."""
    from prunesweep.results.records import read_trials

    with tempfile.TemporaryDirectory() as folder:
        data = api.load_benchmark(preset.benchmark, limit=limit)
        how: dict[str, Any] = {"store": None, "folder": folder, "progress": False, "settings": PROTOCOL}
        sweep = api.evaluate(model, data, [api.reducer(path)], **how)
        (trial,) = read_trials(sweep.folder)
    return Way("the engine", _told(trial.records), trial.records["prediction"].to_list())


def by_prune(path: Path, preset: Preset, model: api.Choice, limit: int) -> Way:
    """The checkpoint as anybody loads it, its own processor and its own `generate`."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from prunesweep.engine.scoring import score
    from prunesweep.results.records import to_frame
    from prunesweep.types import Answer

    config, samples, protocol = _asked(preset, model, limit)
    network = AutoModelForImageTextToText.from_pretrained(config.model.checkpoint, dtype="auto").eval()
    processor = AutoProcessor.from_pretrained(config.model.checkpoint)
    records = []
    for sample in samples:
        inputs = _inputs(sample, protocol, processor, network, config)
        with api.prune(network, path, video_id=sample.video_id) as pruning:
            made = network.generate(**inputs, max_new_tokens=protocol.most_tokens, do_sample=False)
        ids = made[0, inputs["input_ids"].shape[1] :]
        text = processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
        answer = Answer(text, tuple(ids.tolist()), (), pruning.last.usage)
        records.append(score(sample, "ps.prune", answer, protocol))
    frame = to_frame(records)
    return Way("`ps.prune` on the stock model", _told(frame), frame["prediction"].to_list())


def _asked(preset: Preset, model: api.Choice, limit: int) -> tuple[Any, list[Sample], Protocol]:
    from prunesweep.sweep.session import composed
    from prunesweep.targets import instantiate

    own = [*model.overrides, *api.load_benchmark(preset.benchmark, limit=limit).overrides]
    config = composed([*own, *(f"{key}={value}" for key, value in PROTOCOL.items()), *preset.overrides])
    return config, list(instantiate(config.benchmark.load)), instantiate(config.protocol)


def _inputs(sample: Sample, protocol: Protocol, processor: Any, network: Any, config: Any) -> dict[str, Any]:
    """All that the processor makes of a question and the frames that a sweep would show."""
    from prunesweep.engine.protocol import question_text
    from prunesweep.models.processing import chat_of, placed, video_inputs
    from prunesweep.video.reader import read_clip

    part = (sample.start, sample.end)
    clip = read_clip(sample.path, sample.video_id, config.video.frames, *part, protocol.sampling, sample.frame_rate)
    chat = chat_of(processor, question_text(sample, protocol), protocol.system, protocol.prefix)
    return placed(video_inputs(processor, clip, chat), network)


def _told(records: Any) -> str:
    from prunesweep.analysis.accuracy import accuracy

    found = accuracy(records)
    return f"{found.mean:.3f} ± {found.error:.3f} (n={found.samples})"


def by_lmms(path: Path, preset: Preset, model: api.Choice, limit: int) -> Way:
    """`--model prunesweep --model_args pretrained=MODEL,reducer=PRESET` on a task of the same questions."""
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    config, samples, protocol = _asked(preset, model, limit)
    told = {"pretrained": preset.model, "reducer": path, "frames": config.video.frames}
    told |= dict(one.split("=", 1) for one in model.settings)
    with tempfile.TemporaryDirectory() as folder:
        write_task(Path(folder), samples, protocol)
        arguments = ",".join(f"{key}={value}" for key, value in told.items())
        manager = TaskManager("ERROR", folder, False)
        found = simple_evaluate(model="prunesweep", model_args=arguments, tasks=[TASK], task_manager=manager, bootstrap_iters=0)
    answers = [row["resps"][0] for row in sorted(found["samples"][TASK], key=lambda row: row["doc_id"])]
    flat = [one[0] if isinstance(one, list) else one for one in answers]
    version = importlib.metadata.version("lmms-eval")
    return Way(f"lmms-eval {version}", f"{found['results'][TASK]['right,none']:.3f} (n={len(flat)})", flat)


def write_task(folder: Path, samples: Sequence[Sample], protocol: Protocol) -> None:
    """A task of lmms-eval's with the prompts that the engine asks, and the words that are right."""
    from prunesweep.engine.protocol import option_texts, question_text

    data = folder / f"{TASK}.jsonl"
    items = [
        {
            "video": str(sample.path),
            "question": question_text(sample, protocol),
            "answer": option_texts(sample, protocol)[sample.target or 0],
        }
        for sample in samples
    ]
    data.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    settings = [
        f"task: {TASK}",
        "dataset_path: json",
        f"dataset_kwargs: {json.dumps({'data_files': {'test': str(data)}})}",
        "test_split: test",
        "output_type: generate_until",
        "doc_to_visual: !function own.visual",
        "doc_to_text: question",
        "doc_to_target: answer",
        f"generation_kwargs: {{max_new_tokens: {protocol.most_tokens}}}",
        "process_results: !function own.scored",
        "metric_list: [{metric: right, aggregation: mean, higher_is_better: true}]",
    ]
    (folder / f"{TASK}.yaml").write_text("\n".join(settings) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""PruneSweep from Python: `import prunesweep as ps`.

    model = ps.load_model("tiny"); data = ps.load_benchmark("blocks", limit=200)
    trials = [ps.reducer("none"), *ps.grid("prunevid", {"prune.keep_ratio": [0.2, 0.4]})]
    sweep = ps.evaluate(model, data, trials)
    print(sweep.compare("prunevid prune.keep_ratio=0.4", "none"))

Settings, their defaults and their bounds are those of the command: both compose the YAML in `conf/`.  What one has evaluated
the other finds in the store.  Errors in what is asked for are ValueError, with the text that the command prints.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from prunesweep.choices import Choice, choice_of, explained, preset_of, searched, section_of
from prunesweep.choices import grid as grid
from prunesweep.choices import load_benchmark as load_benchmark
from prunesweep.choices import load_model as load_model
from prunesweep.choices import reducer as reducer

if TYPE_CHECKING:
    from prunesweep.report.finished import Sweep
    from prunesweep.use.prune import Pruning
    from prunesweep.use.tuning import Tuned

STORE = "store"
"""As in `conf/eval.yaml`."""


def __getattr__(name: str) -> Any:
    if name in ("Comparison", "Front", "Sweep"):
        from prunesweep.report import finished

        return getattr(finished, name)
    if name == "Tuned":
        from prunesweep.use import tuning

        return tuning.Tuned
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# Evaluating


def evaluate(
    model: Choice | str,
    benchmark: Choice | str,
    trials: Sequence[Choice | str],
    *,
    store: str | Path | None = STORE,
    folder: str | Path | None = None,
    progress: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Sweep:
    """Evaluates trials together, so that they share their work, and returns the sweep.

    `store` is the folder in which every record is looked for, and kept as it is made; None keeps none.  Results go to `folder`,
    by default `multirun/DATE/TIME`; evaluating the same trials into the same folder goes on where it was.  Without `progress`
    nothing is printed.  `settings` are any others of the command's, such as `{"trainer.devices": 2, "logger": "wandb"}`.

    Raises ValueError for what cannot be evaluated, before anything runs; EvaluationError if a trial has no answer at all.
    Warns of questions that could not be answered.
    """
    if isinstance(trials, (str, Path, Choice)):
        raise ValueError(f"trials must be a list, got {trials!r}")
    chosen = [choice_of("reducer", trial) for trial in trials]
    if not chosen:
        raise ValueError("there is no trial to evaluate: give at least one, such as ps.reducer('none')")
    given = {"store.folder": store, "trainer.progress": progress, **_folder(folder), **(settings or {})}
    common = _common(choice_of("model", model), choice_of("benchmark", benchmark), chosen, given)
    return _run(common, ["hydra/sweeper=grids"], chosen, {"grids": [_as_grid(one) for one in chosen]})


class Searching(TypedDict, total=False):
    """What a search may be told besides; its defaults are those of `prunesweep search`, see docs/search.md."""

    store: str | Path | None
    folder: str | Path | None
    progress: bool
    settings: Mapping[str, Any]
    """As of `evaluate`."""
    batch: int
    """Trials proposed and evaluated together."""
    seed: int
    objectives: Mapping[str, str]
    """`{"accuracy": "maximize", "llm_flops_ratio": "minimize"}`."""
    constraints: Sequence[str]
    """`["accuracy >= dense - 0.01"]`."""
    baselines: Mapping[str, Choice]
    """Evaluated first; constraints may name them.  The dense model, `{"dense": ps.reducer("none")}`, unless given."""
    fixed: Mapping[str, Any]
    """Settings of every proposed trial."""
    first: Sequence[Mapping[str, Any]]
    """Settings to try before anything is proposed."""
    ceiling: str
    """The best accuracy that is thought possible: `"dense + 0.02"`."""
    warm_start: Sequence[str | Path]
    """Sweeps or stores on the same model and benchmark to start from."""
    sampler: str
    """Of `conf/sampler/`."""
    storage: str
    study: str


HOW = ("store", "folder", "progress", "settings")


def search(
    model: Choice | str,
    benchmark: Choice | str,
    reducer: str,
    space: Mapping[str, Any],
    trials: int = 40,
    **options: Unpack[Searching],
) -> Sweep:
    """Searches the settings of a method with Optuna for the best accuracy at the lowest cost; returns the sweep.

    `space` has a range for each key: `(0.1, 0.8)` for real numbers, `(1, 6)` for whole ones, both ends included, a list for a
    choice, or text in Hydra's language, such as `"tag(log, interval(0.01, 1))"`.  `trials` is their number in all: searching
    once more into the same `folder` goes on where it was.  The sweep's `proposals` has a row for each.

    Raises ValueError and EvaluationError as `evaluate`.
    """
    if unknown := [name for name in options if name not in Searching.__annotations__]:
        raise ValueError(_unknown_option(unknown[0]))
    method = choice_of("reducer", reducer)
    baselines = {name: choice_of("reducer", one) for name, one in options.get("baselines", {"dense": "none"}).items()}
    progress = options.get("progress", True)
    given = {"store.folder": options.get("store", STORE), "trainer.progress": progress, **_folder(options.get("folder"))}
    given |= options.get("settings") or {}
    methods = [method, *baselines.values()]
    common = _common(choice_of("model", model), choice_of("benchmark", benchmark), methods, given)
    sampler = [f"+sampler={options['sampler']}"] if "sampler" in options else []
    sweeper = {"trials": trials, "space": {_whole(key): _range(key, value) for key, value in space.items()}}
    sweeper |= {"baselines": {name: _as_grid(one) for name, one in baselines.items()}, **_sweepers(options)}
    return _run(common, [*method.overrides, "hydra/sweeper=search", *sampler], methods, sweeper)


def _unknown_option(name: str) -> str:
    from prunesweep.console.meant import closest

    known = ("trials", *Searching.__annotations__)
    close = closest(name, known)
    return f"search has no option {name!r}; {f'did you mean {close}?' if close else 'it has ' + ', '.join(known)}"


def _sweepers(options: Searching) -> dict[str, Any]:
    """The settings of the sweeper `search` as its YAML has them."""
    own: dict[str, Any] = {name: value for name, value in options.items() if name not in (*HOW, "sampler", "baselines")}
    makers: dict[str, Callable[[Any], Any]] = {
        "objectives": dict,
        "constraints": list,
        "fixed": _written,
        "first": lambda settings: [{_whole(key): value for key, value in one.items()} for one in settings],
        "warm_start": lambda folders: [str(folder) for folder in folders],
    }
    return {name: makers.get(name, lambda value: value)(value) for name, value in own.items()}


def _written(settings: Mapping[str, Any]) -> dict[str, str]:
    from prunesweep.sweep.overrides import written

    return {_whole(key): written(value, key) for key, value in settings.items()}


def _whole(key: str) -> str:
    section = section_of("reducer", key)
    return f"{section}.{key}" if section else key


def _range(key: str, values: Any) -> str:
    """Of a setting that is searched, in Hydra's language; raises ValueError for what is no range."""
    from prunesweep.sweep.overrides import written

    if isinstance(values, str):
        return values
    if isinstance(values, range):
        return f"range({values.start},{values.stop},{values.step})"
    if isinstance(values, list) and values:
        return f"choice({','.join(written(value, key) for value in values)})"
    if isinstance(values, tuple) and len(values) == 2 and all(_is_number(value) for value in values):
        low, high = values
        if not low < high:
            raise ValueError(f"search: {key} must have its lower end first, got {values!r}")
        whole = isinstance(low, int) and isinstance(high, int)
        return f"range({low},{high + 1})" if whole else f"interval({float(low)!r},{float(high)!r})"
    raise ValueError(
        f"search: {key} takes (low, high), a list to choose from, or text such as 'interval(0.1,0.8)', got {values!r}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _folder(folder: str | Path | None) -> dict[str, Any]:
    return {} if folder is None else {"hydra.sweep.dir": folder}


def _as_grid(choice: Choice) -> dict[str, str]:
    """As sweepers have it: values by key."""
    return dict(override.split("=", 1) for override in choice.overrides)


def _common(model: Choice, benchmark: Choice, methods: Sequence[Choice], given: Mapping[str, Any]) -> list[str]:
    """The overrides of all trials, with the presets that they came from; nothing goes to W&B unless that is asked for."""
    from prunesweep.sweep.overrides import override

    where = searched(model, benchmark, *methods)
    files = list(dict.fromkeys(one.preset for one in methods if one.preset))
    given = {"logger": "none", **({"presets": files} if files else {}), **given}
    own = [override(key, value) for key, value in given.items()]
    return [*where, *model.overrides, *benchmark.overrides, *own]


def _run(common: Sequence[str], more: Sequence[str], methods: Sequence[Choice], sweeper: Mapping[str, Any]) -> Sweep:
    """The sweep of a multirun of these methods, begun with the overrides `common` and `more`."""
    from prunesweep.checks import EvaluationError
    from prunesweep.report.finished import Sweep, axis_of
    from prunesweep.sweep.session import require_code_as_written, run_sweep

    task = [override for override in common if not override.startswith("hydra")]
    with explained():
        require_code_as_written([[*searched(*methods), *task, *one.overrides] for one in _kinds(methods)])
        with _places_explained():
            folder, failed = run_sweep([*common, *more], sweeper, progress="trainer.progress=false" not in common)
    reasons = _without_answer(folder)
    if failed:
        raise EvaluationError(f"{failed.partition(';')[0]}: {reasons}" if reasons else failed)
    if reasons:
        warnings.warn(f"some questions have no answer in {folder}: {reasons}", stacklevel=3)
    return Sweep(folder, axis_of(folder))


@contextmanager
def _places_explained() -> Iterator[None]:
    """Raises ValueError, in one line, for a folder that cannot be written."""
    from prunesweep.disk.files import unwritten

    try:
        yield
    except OSError as error:
        if error.strerror is None:  # Hydra's own, which is explained
            raise
        raise unwritten(error, Path.cwd()) from error


def _kinds(methods: Sequence[Choice]) -> list[Choice]:
    """One of each that may have code of its own: of each name, with each part replaced or switched off."""
    found: dict[Any, Choice] = {}
    for one in methods:
        parts = tuple(setting for setting in one.settings if "_target_" in setting or setting.endswith("=null"))
        found.setdefault((one.name, one.conf, parts), one)
    return list(found.values())


MOST_REASONS = 3
"""Kinds of errors in a message."""


def _without_answer(folder: Path) -> str:
    """Why some questions have no answer; empty if all have one."""
    import polars as pl

    from prunesweep.analysis.failures import failures
    from prunesweep.console.layout import count
    from prunesweep.results.records import read_trials

    summary = folder / "summary.parquet"
    if not summary.is_file() or not pl.read_parquet(summary, columns=["errors"], glob=False)["errors"].sum():
        return ""
    found = failures(read_trials(folder))
    said = [
        f"{' '.join(one.error.split())} ({count(len(one.samples), 'question')} of {count(len(one.trials), 'trial')})"
        for one in found[:MOST_REASONS]
    ]
    return "; ".join([*said, *([f"and {len(found) - MOST_REASONS} other errors"] if len(found) > MOST_REASONS else [])])


# Using


class Tuning(TypedDict, total=False):
    """What a tune may be told besides; its defaults are those of `conf/tune.yaml`."""

    margin: float
    """A loss of accuracy that is accepted, as a share: 0.01 is one point."""
    methods: Sequence[str] | None
    """Of the candidates there; None takes all that fit the model."""
    share: float
    """Of the videos that settings are chosen on."""
    seed: int
    """Of which videos."""
    rounds: int
    """Looks at the results, after each of which hopeless candidates are stopped."""
    folder: str | Path
    """Of the two sweeps; asking the same once more goes on there."""
    out: str | Path
    """The preset's file; `preset.yaml` in that folder unless given."""
    store: str | Path | None
    progress: bool
    settings: Mapping[str, Any]
    """As of `evaluate`."""


def tune(model: Choice | str, benchmark: Choice | str, budget: str, **options: Unpack[Tuning]) -> Tuned:
    """Chooses a method and its settings for a budget, and confirms them on videos that had no part in choosing.

        tuned = ps.tune("tiny", "blocks", "0.25x", margin=0.02)
        print(tuned)  # the statement, with its 95 % interval in points and its number of questions
        with ps.prune(network, tuned.path): ...

    `budget` is a share of the dense model's LLM prefill FLOPs (`"0.25x"`), of KV caches in half precision (`"300MiB"`, `"4GiB"`),
    a time to the first token, measured here (`"800ms"`, `"1.2s"`), or the least cost within a loss (`"accuracy>=dense-0.01"`).
    It is what `prunesweep tune` does, and writes the same preset: what one has evaluated the other finds in the store.

    Raises ValueError for what cannot be, before anything runs; and, with the least there is, for a budget below what any
    candidate takes.  Warns of questions that could not be answered.
    """
    from prunesweep.use import tuning

    progress = options.get("progress", True)
    given = {"budget": budget, **{name: value for name, value in options.items() if name not in HOW or name == "folder"}}
    how = {"store.folder": options.get("store", STORE), "trainer.progress": progress, **(options.get("settings") or {})}
    task = _common(choice_of("model", model), choice_of("benchmark", benchmark), [], how)
    with explained(), _places_explained():
        tuned = tuning.tune(task, given, progress, _to_stderr if progress else _to_nobody)
    if reasons := _without_answer(tuned.confirm):
        warnings.warn(f"some questions have no answer in {tuned.confirm}: {reasons}", stacklevel=2)
    return tuned


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _to_nobody(_: str) -> None:
    return


def prune(model: Any, setting: Choice | str | Path, *, video_id: str = "") -> AbstractContextManager[Pruning]:
    """Sets the `generate` of a stock transformers model to a setting, within a `with` block:

        with ps.prune(network, ps.reducer("prunevid", {"prune.keep_ratio": 0.4})) as pruning:
            ids = network.generate(**inputs, max_new_tokens=64)
        pruning.last.usage.visual_tokens  # of each layer

    `network` is anybody's, of a family in docs/networks.md; `inputs` are all that its own processor made of a prompt with one
    video.  A setting is a reducer, its name, or a trial as commands call it: `"multirun/latest/best@0.25x"`,
    `"store/4be1c0de"`.  Tokens are those of the sweep, sampled ones drawn by transformers.  Batches run row by row.  `video_id`
    is what methods that draw take as their seed.

    Raises ValueError for a model or setting that cannot be served; within, for what `generate` is told that would not mean the
    same on pruned caches.
    """
    from prunesweep.use.prune import pruned

    file = setting.preset if isinstance(setting, Choice) else str(setting)
    return pruned(model, _reducer_of(setting), video_id, preset_of(file) if file else None)


def _reducer_of(setting: Choice | str | Path) -> Any:
    from prunesweep.sweep.session import composed
    from prunesweep.targets import instantiate
    from prunesweep.use.settings import is_reducers_name, reducer_called

    if isinstance(setting, (str, Path)) and not is_reducers_name(str(setting)) and not preset_of(setting):
        return reducer_called(str(setting))
    chosen = choice_of("reducer", setting if isinstance(setting, Choice) else str(setting))
    with explained():
        section = composed([*searched(chosen), *chosen.overrides])["reducer"]
    if section.get("match"):
        raise ValueError(f"{chosen}: a budget is solved on a benchmark's videos; evaluate it, and name the trial's folder")
    return instantiate(section)


# Reading


def read(path: str | Path, *, cost: str | None = None) -> Sweep:
    """The finished trials of a sweep's folder, of a run's, or of a store; `latest` is the sweep that was started last.

    `cost` is the axis of fronts; that which the sweep was run with unless given.  Raises ValueError if there is nothing to read.
    """
    from prunesweep.analysis.naming import sweep_called
    from prunesweep.report import finished

    return finished.read(sweep_called(str(path)), cost)

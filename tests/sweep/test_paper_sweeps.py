"""The sweeps named after the paper's tables and figures, in miniature: on the embedded kind of model and benchmark, and on a
checkpoint and a folder in the published layouts."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from prunesweep.analysis.outcomes import read_outcomes
from prunesweep.report import tables
from prunesweep.report.costs import shape_in
from prunesweep.results.records import Trial, read_trials
from prunesweep.sweep.functions import paper_layer
from prunesweep.types import Sample
from support import networks, trees
from support.places import CONF, ROOT, only_folder

SWEEPS = ROOT / "sweeps"
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if "\nsizes:" in path.read_text(encoding="utf-8"))


def finished(run, name: str, *arguments: str, flags: list[str] | None = None, defaults: bool = True) -> list[Trial]:
    code, out, err = run("-m", *(flags or ["--config-dir", str(SWEEPS), "--config-name", name]), *arguments, defaults=defaults)
    assert code == 0, err
    trials = read_trials(only_folder("multirun/*/*"))
    assert len({trial.info.name for trial in trials}) == len(trials)
    assert all(trial.info.name in out for trial in trials if trial.info.reducer == "none")
    return trials


def settings(trials: list[Trial], slot: str, key: str) -> list:
    """Of PruneVid's trials, each once."""
    found = [trial.info.settings["reducer"][slot][key] for trial in trials if "prunevid" in trial.info.reducer]
    return list(dict.fromkeys(found))


def test_table_1_has_every_method_as_the_paper_has_it(run) -> None:
    trials = {trial.info.reducer: trial for trial in finished(run, "paper_table1", "benchmark.limit=2")}
    assert list(trials) == ["none", "fastv", "prumerge", "prumerge_plus", "lookm", "prunevid", "prunevid_official"]
    assert all(trial.records["error"].is_null().all() for trial in trials.values())
    pruning = {name: trial.info.settings["reducer"]["prune"] for name, trial in trials.items()}
    assert (pruning["fastv"]["layer"], pruning["fastv"]["keep_ratio"]) == (2, 0.3)
    assert (pruning["prunevid"]["layer"], pruning["prunevid"]["keep_ratio"]) == (4, 0.4)


def test_the_components_are_three_switches(run) -> None:
    trials = finished(run, "paper_components", "benchmark.limit=2")
    found = {(t.info.reducer, *tables.components(t.info.settings)) for t in trials if t.info.reducer != "none"}
    switches = [(True, False, False), (False, True, False), (True, True, False), (False, False, True), (True, True, True)]
    assert found == {(name, *switch) for name in ("prunevid", "prunevid_official") for switch in switches}
    (table,) = [tables.components_table(one) for one in read_outcomes(only_folder("multirun/*/*"), "llm_flops_ratio")]
    assert len(table.rows) == 11


# The ablations: all values as written, and their ends in miniature.


def grids(name: str) -> list[dict]:
    return yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())["hydra"]["sweeper"]["grids"]


def values(name: str, key: str) -> list[str]:
    (found,) = [grid[key] for grid in grids(name) if key in grid]
    return found.split(",")


def shortened(name: str, folder: Path) -> list[str]:
    """A copy of the sweep with the first and last of each key's values, as flags of the command."""
    sweep = yaml.safe_load((SWEEPS / f"{name}.yaml").read_text())
    for grid in sweep["hydra"]["sweeper"]["grids"]:
        for key, value in grid.items():
            grid[key] = ",".join(dict.fromkeys(str(value).split(",")[:: len(str(value).split(",")) - 1 or 1]))
    folder.mkdir()
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(sweep))
    return ["--config-dir", str(folder), "--config-name", name]


@pytest.mark.parametrize(
    ("name", "reducers", "keys", "ends"),
    [
        ("alpha_by_layer", 1, {"prune.layer": 5, "prune.keep_ratio": 5}, ([1, 6], [0.1, 0.5])),
        ("tau_by_segments", 2, {"merge.static_threshold": 4, "merge.segment_ratio": 4}, ([0.6, 0.9], [0.25, 1])),
        ("tau_by_cluster", 1, {"merge.static_threshold": 4, "merge.cluster_ratio": 4}, ([0.6, 0.9], [0.25, 1])),
    ],
)
def test_an_ablation_crosses_two_settings(
    run, tmp_path: Path, name: str, reducers: int, keys: dict[str, int], ends: tuple[list, list]
) -> None:
    for key, count in keys.items():
        assert len(set(values(f"paper_ablation_{name}", f"reducer.{key}"))) == count
    trials = finished(
        run, f"paper_ablation_{name}", "benchmark.limit=1", flags=shortened(f"paper_ablation_{name}", tmp_path / "sweeps")
    )
    assert len(trials) == 1 + reducers * 4
    for key, found in zip(keys, ends, strict=True):
        assert settings(trials, *key.split(".")) == found


@pytest.mark.parametrize("model", MODELS)
def test_the_paper_s_layers_fit_every_model(model: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("eval", [f"model={model}", "reducer=prunevid_official", "reducer.prune.layer='${paper_layer:15}'"])
    OmegaConf.set_readonly(config, True)
    prune = instantiate(config.reducer.prune)
    usual = config.model.prune_layer  # 10 in the paper, for every model
    assert prune.layer == round(15 * usual / 10)
    assert prune.full_layers < shape_in(config).layers
    assert [paper_layer(layer, _root_=config) for layer in (1, 10)] == [1, usual]


def test_several_models_and_benchmarks_in_one_command_each_with_its_own_protocol(
    run,
    tmp_path: Path,
    samples: list[Sample],
) -> None:
    """Released PLLaVA and two benchmarks in their published layouts."""
    trees.mvbench(tmp_path / "data" / "mvbench", samples[0].path)
    (tmp_path / "data" / "videomme").mkdir()
    trees.videomme(tmp_path / "data" / "videomme", samples[0].path, "parquet")
    networks.pllava_checkpoint(tmp_path / "checkpoints" / "pllava_7b")
    trials = finished(
        run,
        "paper_table1",
        "model=pllava_7b",
        f"model.checkpoint='{tmp_path}/checkpoints/${{model.name}}'",
        "benchmark=mvbench,videomme",
        f"++benchmark.path='{tmp_path}/data/${{benchmark.name}}'",
        "benchmark.limit=1",
        "model.prune_layer=3",
        "video.frames=8",
        "protocol.most_tokens=3",
        "trainer.progress=false",
        "logger=none",
        defaults=False,
    )
    assert len(trials) == 2 * 7
    assert all(trial.records["error"].is_null().all() for trial in trials)
    systems = {trial.info.benchmark: trial.info.settings["protocol"]["system"][:15] for trial in trials}
    assert systems == {"mvbench": "Carefully watch", "videomme": "Choose the best"}
    (table,) = [tables.methods_table(read_outcomes(only_folder("multirun/*/*"), "llm_flops_ratio"))]
    assert table.header[-2:] == ("published mvbench", "published videomme")

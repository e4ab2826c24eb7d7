"""What was typed is what runs: a key that nothing reads is an error, whatever wrote it; whatever is read passes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from prunesweep.sweep.schema import require_known_keys, unread
from prunesweep.sweep.slips import GROUPS, no_such_key
from support.places import CONF, ROOT


@pytest.fixture(autouse=True)
def _no_hydra() -> None:
    GlobalHydra.instance().clear()


def composed(*overrides: str, folder: Path = CONF, name: str = "eval") -> Any:
    with initialize_config_dir(str(folder), version_base="1.3"):
        return compose(name, [*overrides, f"hydra.searchpath=[{CONF},{folder}]"], return_hydra_config=True)


SLIPS = {
    "+experiment=demo": "no key 'experiment' .*a named sweep is run with prunesweep sweep NAME",
    "+sweep=demo": "no key 'sweep' .*a named sweep is run with prunesweep sweep NAME",
    "+benchmark.limt=4": "no key 'benchmark.limt' .*did you mean benchmark.limit",
    "+limit=4": r"no key 'limit' .*did you mean benchmark\.limit\?",
    "+frames=0": r"no key 'frames' .*did you mean video\.frames\?",
    "+framez=0": r"did you mean video\.frames\?",
    "+keep=0.4": r"did you mean reducer\.prune\.keep_ratio\?",
    "+cache=x": r"did you mean engine\.cache\?",
    "+mode=online": r"did you mean logger\.mode\?",
    "+name=x": "prunesweep --cfg job shows all keys$",
    "+space=x": "prunesweep --cfg job shows all keys$",
    "+video.fps=2": "video has frames, seconds$",
    "store=/tmp/x": r"store=/tmp/x takes the place of all its settings; a folder is given as store\.folder=/tmp/x$",
    "engine=/tmp/x": r"a folder is given as engine\.cache=/tmp/x$",
    "engine=null": r"engine=null takes the place .*they are engine\.share, engine\.batch, engine\.measure",
    "race=null": r"without a race: race\.rounds=1$",
    "analysis=llm_flops": r"they are analysis\.cost, ",
    "model.load=/tmp/x": r"model\.load=/tmp/x takes the place .*; a folder is given as model\.checkpoint=/tmp/x$",
    "benchmark.load=x": r"they are benchmark\.load\.KEY$",
    "reducer.merge=clustering": r"reducer\.merge=clustering is no part of a method: null leaves it out",
    "reducer=none +reducer.prune.keep=0.4": r"reducer=none has no prune, .* no method has reducer\.prune\.keep: did you mean "
    r"reducer\.prune\.keep_ratio\? prunevid, fastv, flashvid, .* have it; .*\{reducer: prunevid, reducer\.prune\.keep_ratio: ",
    "reducer=none +reducer.prune.keep_ratio=0.4": r"have no effect; prunevid, fastv, .* have it; .*hydra/sweeper=grids",
    "reducer=random +reducer.evict.zzz=1": r"reducer=random has no evict, .*\{reducer: METHOD, reducer\.evict\.zzz: VALUE",
    "+video.frame=4": "did you mean video.frames",
    "+store.foldr=x": "did you mean store.folder",
    "+engine.measuring2.samples=3": "did you mean engine.measuring",
    "+analysis.costs=x": "did you mean analysis.cost",
    "+retry_error=true": "did you mean retry_errors",
    "+model.prune_layers=3": "did you mean model.prune_layer",
    "+benchmark.subtitles=all": "benchmark=blocks lacks it, longvideobench, videomme have it",
    "+model.lora_alpha=4": "model=tiny lacks it, pllava_7b has it",
    "+logger.modus=online": "did you mean logger.mode",
    "+trainer.num_nodes=2": "ranks are spawned",
    "reducer=[none,prunevid]": "to run one after the other: -m reducer=none,prunevid",
    "model=[tiny]": "lays several choices over one another",
}


@pytest.mark.parametrize("override", SLIPS)
def test_a_key_that_nothing_reads_is_refused_with_what_was_meant(override: str) -> None:
    with pytest.raises(ValueError, match=SLIPS[override]):
        require_known_keys(composed(*override.split(" ")))


MEANT = {
    "reducer.prune.frames": r"did you mean video\.frames\?",
    "reducer.prune.keep": r"did you mean reducer\.prune\.keep_ratio\?",
    "reducer.layer": r"did you mean reducer\.prune\.layer\?",
    "analysis.costs": r"did you mean analysis\.cost\?",
    "sampler": "this command has no sampler; a search has it: prunesweep search sampler=",
}


@pytest.mark.parametrize("key", MEANT)
def test_a_key_that_hydra_does_not_find_is_told_by_its_last_part(key: str) -> None:
    raw: Any = OmegaConf.to_container(composed(), resolve=False)
    assert re.search(MEANT[key], no_such_key(key, raw))


def test_no_section_takes_a_key_of_any_name() -> None:
    sections = ("video", "trainer", "logger", "engine", "store", "analysis", "model", "benchmark")
    raw = OmegaConf.to_container(composed(*(f"+{section}.zzz=1" for section in sections)), resolve=False)
    choices = {group: raw["hydra"]["runtime"]["choices"].get(group) for group in GROUPS}
    assert sorted(unread(raw, choices, [str(CONF)])) == sorted(f"{section}.zzz" for section in sections)


READ = {
    "another reducer's setting goes to its constructor": ["+reducer.merge.tau=3"],
    "a value of one's own that is interpolated": ["+lab.root=/data", "store.folder='${lab.root}/store'"],
    "a value that Hydra's part interpolates": ["+tag=first", "hydra.run.dir='runs/${tag}'"],
    "a relative interpolation": ["+model.disk=/data", "model.checkpoint='${.disk}/tiny'"],
    "a value in another's stead": ["model=pllava_7b", "model.load.lora_alpha=3", "video.frames=4", "protocol=mvbench"],
    "Hydra's own": ["+hydra.job.env_set.X=1"],
    "none": [],
    "a part that is left out": ["reducer.prune=null", "reducer.merge=null"],
    "a section in another's stead": ["+mine.folder=x", "store='${mine}'"],
}


@pytest.mark.parametrize("what", READ)
def test_what_something_reads_passes(what: str) -> None:
    require_known_keys(composed(*READ[what]))


def test_every_choice_of_every_group_passes() -> None:
    groups = {group: sorted(file.stem for file in (CONF / group).glob("*.yaml")) for group in GROUPS if group != "sampler"}
    for index in range(max(map(len, groups.values()))):
        require_known_keys(composed(*(f"{group}={own[index % len(own)]}" for group, own in groups.items())))


@pytest.mark.parametrize("sweep", sorted(path.stem for path in (ROOT / "sweeps").glob("*.yaml") if path.stem != "wandb_sweep"))
def test_every_named_sweep_passes(sweep: str) -> None:
    require_known_keys(composed(folder=ROOT / "sweeps", name=sweep))


def test_other_commands_have_their_own_keys() -> None:
    require_known_keys(composed(name="cost"), primary="cost")
    require_known_keys(composed("out=x", name="train_tiny"), primary="train_tiny")
    with pytest.raises(ValueError, match="did you mean frames"):
        require_known_keys(composed("+frame=3", name="cost"), primary="cost")
    with pytest.raises(ValueError, match="this command has no benchmark; did you mean benchmark.limit, which prunesweep run has"):
        require_known_keys(composed("+benchmark.limt=4", name="cost"), primary="cost")
    with pytest.raises(ValueError, match="this command has no video; did you mean frames"):
        require_known_keys(composed("+video.frames=4", name="cost"), primary="cost")


def test_a_folder_of_ones_own_may_add_choices_groups_and_keys_that_are_read(tmp_path: Path) -> None:
    files = {
        "mine.yaml": "defaults: [eval, lab: disk, override benchmark: ours, override protocol: choose, _self_]\n"
        "benchmark: {path: '${lab.videos}/x'}\n",
        "benchmark/ours.yaml": "defaults: [jsonl, _self_]\nnote: of the whole group\n",
        "lab/disk.yaml": "videos: /data\nowner: somebody\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    require_known_keys(composed(folder=tmp_path, name="mine"))
    (tmp_path / "mine.yaml").write_text("defaults: [eval, _self_]\nbenchmark: {limt: 4}\n")
    with pytest.raises(ValueError, match="no key 'benchmark.limt' .*did you mean benchmark.limit"):
        require_known_keys(composed(folder=tmp_path, name="mine"))


def test_a_value_that_must_still_be_given_does_not_stop_the_check() -> None:
    config = composed("benchmark=jsonl")
    assert OmegaConf.is_missing(config.benchmark, "path")
    require_known_keys(config)


HYDRAS_SLIPS = {
    "+hydra.sweep.dri=foo": r"no key 'hydra\.sweep\.dri'; did you mean hydra\.sweep\.dir\?",
    "+hydra.run.dri=foo": r"did you mean hydra\.run\.dir\?",
    "+hydra.run.zzz=foo": r"hydra\.run has dir$",
    "+hydra.job.nam=foo": r"did you mean hydra\.job\.name\?",
    "+hydra.swep.dir=foo": r"no key 'hydra\.swep'; did you mean hydra\.sweep\?",
    "+hydra.launcher.jbos=2": r"no key 'hydra\.launcher\.jbos'; hydra\.launcher has",
    "hydra/launcher=joblib +hydra.launcher.jbos=2": r"did you mean hydra\.launcher\.jobs\?",
    "hydra/launcher=submitit_slurm +hydra.launcher.minuts=2": r"did you mean hydra\.launcher\.minutes\?",
    "hydra/sweeper=grids +hydra.sweeper.grid=2": r"did you mean hydra\.sweeper\.grids\?",
    "hydra/sweeper=search +hydra.sweeper.trails=2": r"did you mean hydra\.sweeper\.trials\?",
    "hydra/sweeper=basic +hydra.sweeper.batch_size=2": r"did you mean hydra\.sweeper\.max_batch_size\?",
}


@pytest.mark.parametrize("overrides", HYDRAS_SLIPS)
def test_a_key_of_hydras_that_nothing_reads_is_refused_with_what_was_meant(overrides: str) -> None:
    with pytest.raises(ValueError, match=HYDRAS_SLIPS[overrides]):
        require_known_keys(composed(*overrides.split(" ")))


@pytest.mark.parametrize(
    "overrides",
    [
        "hydra.run.dir=foo hydra.sweep.subdir=x hydra.job.chdir=true +hydra.job.env_set.X=1",
        "hydra/launcher=joblib hydra.launcher.jobs=3",
        "hydra/launcher=submitit_slurm +hydra.launcher.parameters.partition=long",
        "hydra/launcher=ray hydra.launcher.address=auto",
        "hydra/sweeper=search hydra.sweeper.trials=3",
        "hydra/sweeper=grids hydra.sweeper.grids=[{}]",
    ],
)
def test_keys_that_hydra_and_its_plugins_read_pass(overrides: str) -> None:
    require_known_keys(composed(*overrides.split(" ")))

"""Jobs are composed and ended as Hydra does it, in less time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus, run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from prunesweep.cli.run import explained
from prunesweep.sweep.jobs import Composer, end_job, to_yaml
from support.places import CONF

GIVEN = ["logger=none", "hydra.sweep.dir=sweep", "hydra.verbose=false"]


@pytest.fixture
def loader() -> Iterator[Any]:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()
    GlobalHydra.instance().clear()


@pytest.fixture
def master(loader: Any) -> DictConfig:
    return loader.load_configuration("eval", GIVEN, RunMode.MULTIRUN)


JOBS = {
    "a value": [["reducer=prunevid", "reducer.prune.keep_ratio=0.3"], ["reducer=prunevid", "reducer.prune.keep_ratio=0.4"]],
    "another group": [["reducer=fastv"], ["reducer=prunevid"], ["reducer=fastv", "reducer.prune.layer=3"]],
    "a part switched off": [["reducer=prunevid", "reducer.merge=null"]],
    "a section": [["reducer.match={flops: 0.3}"], ["reducer={name: other}"], ["reducer.name=x", "reducer={name: other}"]],
    "added and removed": [["+reducer.more=1"], ["++reducer.name=x"], ["~reducer.knob"], ["~reducer.knob", "+reducer.knob=x"]],
    "a value at the top": [["retry_errors=true", "video.frames=3"]],
    "a group that another names": [["benchmark=mvbench", "benchmark.root=x", "protocol.style=words"]],
    "a value of Hydra's": [["hydra.sweep.subdir='3'", "hydra.job.name=other"]],
    "texts": [["reducer.name='a b=c'", "model.checkpoint=/x/${model.name}"], ["reducer.name='1e3'"], ["reducer.name=null"]],
    "a group by its place": [["reducer@other=fastv"], ["+reducer@other=fastv"]],
    "an unknown key": [["reducer.prune.keep=0.3"], ["reducr=fastv"], ["reducer=fastvv"]],
    "what is swept": [["reducer.prune.keep_ratio=0.3,0.4"]],
    "what is no override": [["reducer.prune.keep_ratio"], ["=3"]],
}


def outcome(loader: Any, master: DictConfig, overrides: list[str]) -> str:
    """The configuration, or what a user is told of it."""
    try:
        config = loader.load_sweep_config(master, overrides)
    except Exception as error:
        return explained(error)
    return OmegaConf.to_yaml(config) + str(OmegaConf.is_struct(config)) + str(OmegaConf.is_readonly(config.hydra))


@pytest.mark.parametrize("kind", JOBS)
def test_a_composed_job_is_hydras_own(loader: Any, master: DictConfig, kind: str) -> None:
    composer = Composer(loader)
    for overrides in JOBS[kind] * 2:
        assert outcome(composer, master, overrides) == outcome(loader, master, overrides), overrides


def test_jobs_do_not_share_what_they_change(loader: Any, master: DictConfig) -> None:
    composer = Composer(loader)
    first, second = (composer.load_sweep_config(master, ["reducer=prunevid"]) for _ in range(2))
    first.reducer.prune.layer = 7
    assert second.reducer.prune.layer != 7


def ended(
    loader: Any, master: DictConfig, folder: str, hydras: bool, fails: bool = False
) -> tuple[Any, dict[str, Any], list[Any]]:
    """A job's result, its files, and what callbacks were told."""
    told: list[Any] = []

    class Callbacks:
        def on_job_start(self, config: DictConfig, **_: Any) -> None:
            told.append(("start", Path(config.hydra.runtime.output_dir).name, HydraConfig.get().job.num))

        def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
            told.append(("end", job_return.status, sorted(job_return.hydra_cfg), list(job_return.overrides)))

    def deliver(place: Path, config: DictConfig) -> list[str]:
        if fails:
            raise ValueError("no such thing")
        return [place.name, config.reducer.name, *config]

    context = HydraContext(config_loader=loader, callbacks=Callbacks())
    config = loader.load_sweep_config(master, ["reducer=fastv", f"hydra.sweep.subdir='{folder}'"])
    OmegaConf.set_struct(config, False)
    config.hydra.job.id, config.hydra.job.num = "3", 3
    if hydras:
        result = run_job(
            hydra_context=context,
            task_function=lambda task: deliver(Path(config.hydra.runtime.output_dir), task),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    else:
        result = end_job(context, config, deliver)
    files = {path.name: yaml.safe_load(path.read_text()) for path in (Path("sweep") / folder / ".hydra").iterdir()}
    return result, files, told


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_ends_as_hydras_own(
    loader: Any, master: DictConfig, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (ours, files, told), (theirs, expected, as_told) = (ended(loader, master, "0", h, fails) for h in (False, True))
    assert files == expected
    assert told == as_told
    assert (ours.status, ours.overrides, ours.working_dir) == (theirs.status, theirs.overrides, theirs.working_dir)
    assert ours.cfg == theirs.cfg
    assert ours.status == (JobStatus.FAILED if fails else JobStatus.COMPLETED)
    if not fails:
        assert ours.return_value == theirs.return_value
    else:
        with pytest.raises(ValueError, match="no such thing"):
            _ = ours.return_value
    assert not HydraConfig.initialized()


def test_written_settings_are_read_as_omegaconf_writes_them() -> None:
    config = OmegaConf.create(
        {"a": ["1e3", "null", "true", "0x1", "12:30", "é ±", "", "a: b", "x\ny"], "b": {"c": None, "d": 1e-5, "e": "${a}"}}
    )
    for plain in (OmegaConf.to_container(config), OmegaConf.to_container(config, resolve=True)):
        for _ in range(2):
            assert OmegaConf.create(to_yaml(plain)) == OmegaConf.create(plain)
            assert yaml.safe_load(to_yaml(plain)) == yaml.safe_load(OmegaConf.to_yaml(plain))

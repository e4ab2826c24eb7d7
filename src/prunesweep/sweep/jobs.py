"""Hydra's jobs, composed and ended at a hundredth of a second each: a sweep has thousands of them.

Hydra reads and merges all groups anew for every job, twice, and writes YAML in Python.  Jobs of a sweep differ in values, so
the groups are composed once per choice of groups, and each job gets a copy with its own values.  Results are Hydra's own.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, configure_log, env_override, run_job
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf._utils import get_omega_conf_dumper
from omegaconf.errors import OmegaConfBaseException

SEARCH_PATH = "hydra.searchpath"


class Composer:
    """A configuration loader that composes each choice of groups once; all else is the given loader's."""

    def __init__(self, loader: Any):
        self._loader = loader
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str | None, tuple[str, ...]], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """As Hydra's; what cannot be composed is left to it, to be explained."""
        texts = [*map(str, master_config.hydra.overrides.hydra), *sweep_overrides]
        try:
            overrides = [self._parse(text) for text in texts]
            if any(map(_needs_hydra, overrides)):
                return self._loader.load_sweep_config(master_config, list(sweep_overrides))
            config = self._copy(
                master_config.hydra.job.config_name, tuple(o.input_line or "" for o in overrides if _is_choice(o))
            )
            ConfigLoaderImpl._apply_overrides_to_config([o for o in overrides if not _is_choice(o)], config)
        except (HydraException, OmegaConfBaseException):
            return self._loader.load_sweep_config(master_config, list(sweep_overrides))
        _note_overrides(config, overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = OverridesParser.create(self._loader).parse_override(text)
        return self._parsed[text]

    def _copy(self, name: str | None, choices: tuple[str, ...]) -> DictConfig:
        if (name, choices) not in self._composed:
            self._composed[name, choices] = self._loader.load_configuration(name, list(choices), RunMode.RUN)
        return copied(self._composed[name, choices])


def copied(config: DictConfig) -> DictConfig:
    """Several times as fast as a deep copy."""
    return pickle.loads(pickle.dumps(config))


def _is_choice(override: Override) -> bool:
    """Whether it may choose a group, or is a value at the top that is set along with these."""
    return "." not in override.key_or_group or override.package is not None or override.key_or_group == SEARCH_PATH


def _needs_hydra(override: Override) -> bool:
    """What is an error in a job; or replaces a whole section, for which the order among all overrides counts."""
    return override.is_sweep_override() or (_is_choice(override) and (override.is_delete() or isinstance(override.value(), dict)))


def _note_overrides(config: DictConfig, overrides: Sequence[Override]) -> None:
    task = [o for o in overrides if not o.is_hydra_override()]
    config.hydra.overrides.hydra = [o.input_line for o in overrides if o.is_hydra_override()]
    config.hydra.overrides.task = [o.input_line for o in task]
    settings = config.hydra.job.config.override_dirname
    config.hydra.job.override_dirname = get_overrides_dirname(
        overrides=task, kv_sep=settings.kv_sep, item_sep=settings.item_sep, exclude_keys=settings.exclude_keys
    )


def end_job(context: HydraContext, config: DictConfig, deliver: Callable[[Path, DictConfig], Any]) -> JobReturn:
    """What Hydra's `run_job` does for a job of a multirun, with `deliver` as its task: files, log, callbacks, result."""
    if config.hydra.job.chdir:
        return _stock(context, config, deliver)
    settings = HydraConfig.instance()
    before = settings.cfg
    folder = Path(config.hydra.sweep.dir) / str(OmegaConf.select(config, "hydra.sweep.subdir"))
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.absolute())
    settings.set_config(config)
    try:
        result = JobReturn(overrides=OmegaConf.to_container(config.hydra.overrides.task), working_dir=str(Path.cwd()))
        result.cfg, result.hydra_cfg = _own(config), settings.cfg
        folder.mkdir(parents=True, exist_ok=True)
        configure_log(config.hydra.job_logging, config.hydra.verbose)
        if config.hydra.output_subdir is not None:
            _save(result, config, folder / config.hydra.output_subdir)
        with env_override(config.hydra.job.env_set):
            context.callbacks.on_job_start(config=config, task_function=deliver)
            try:
                result.return_value, result.status = deliver(folder, result.cfg), JobStatus.COMPLETED
            except Exception as error:  # whoever reads the value gets it
                result.return_value, result.status = error, JobStatus.FAILED
        result.task_name = JobRuntime.instance().get("name")
        context.callbacks.on_job_end(config=config, job_return=result)
        return result
    finally:
        settings.cfg = before


def _stock(context: HydraContext, config: DictConfig, deliver: Callable[[Path, DictConfig], Any]) -> JobReturn:
    """For jobs that run in their own folders."""
    return run_job(
        hydra_context=context,
        task_function=lambda task: deliver(Path(config.hydra.runtime.output_dir), task),
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _own(config: DictConfig) -> DictConfig:
    """A job's settings without Hydra's."""
    task = copied(config)
    with read_write(task), open_dict(task):
        del task["hydra"]
    return task


def _save(result: JobReturn, config: DictConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    saved = {"config.yaml": result.cfg, "hydra.yaml": result.hydra_cfg, "overrides.yaml": config.hydra.overrides.task}
    for name, part in saved.items():
        (folder / name).write_text(to_yaml(part), encoding="utf-8")


def to_yaml(config: Any, resolve: bool = False) -> str:
    """As `OmegaConf.to_yaml`, by the library in C where there is one."""
    if DUMPER is None:
        return OmegaConf.to_yaml(config, resolve=resolve)
    plain = OmegaConf.to_container(config, resolve=resolve, enum_to_str=True)
    return yaml.dump(plain, Dumper=DUMPER, default_flow_style=False, allow_unicode=True, sort_keys=False)


def _dumper() -> Any:
    if not hasattr(yaml, "CSafeDumper"):
        return None

    class Dumper(yaml.CSafeDumper):
        """With the quotes of OmegaConf around texts that look like numbers."""

    Dumper.add_representer(str, get_omega_conf_dumper().str_representer)
    return Dumper


DUMPER = _dumper()

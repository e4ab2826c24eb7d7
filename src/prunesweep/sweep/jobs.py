"""Hydra's jobs, composed and ended at a hundredth of a second each: a sweep has thousands of them.

Hydra reads and merges all groups anew for every job, twice, and writes YAML in Python.  Jobs of a sweep differ in values, so
the groups are composed once per choice of groups, and each job gets a copy with its own values.  Results are Hydra's own.
"""

from __future__ import annotations

import copy
import functools
import gc
import marshal
import pickle
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

from prunesweep.paths import expand_home
from prunesweep.sweep.resolved import plain, unresolved
from prunesweep.sweep.schema import require_known_keys
from prunesweep.sweep.slips import methods_of, not_overridden

SEARCH_PATH = "hydra.searchpath"
MOST_TEXTS = 256
"""Sections of written settings that are remembered."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of cyclic garbage, which would look at all jobs' settings again and again while one is made.

    It runs between jobs, where it takes half as long in all.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class Composer:
    """A configuration loader that composes each choice of groups once; all else is the given loader's."""

    def __init__(self, loader: Any):
        self._loader = loader
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str | None, tuple[str, ...]], bytes] = {}
        self._validated: dict[tuple[str, ...], DictConfig] = {}
        self._checked: dict[tuple[str, ...], bool] = {}
        """By the form of overrides: whether such a configuration names the home folder."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_loader"], name)

    def job(self, master_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """A job's configuration with the home folder in place of ~/; raises ValueError for a key that nothing reads.

        What a sweeper has had composed to validate it is taken as it is, and what differs from an earlier job in numbers only
        has the same keys.
        """
        validated = self._validated.pop(tuple(overrides), None)
        config = self._load(master_config, overrides) if validated is None else validated
        form = tuple(map(form_of, overrides))
        if self._checked.get(form, True):
            names_home = expand_home(config)
            require_known_keys(config, methods=methods_of(master_config))
            self._checked[form] = names_home
        return config

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """As Hydra's, for its sweepers, which compose every job to validate it before they launch them."""
        config = self._validated[tuple(sweep_overrides)] = self._load(master_config, sweep_overrides)
        return config

    @uncollected()
    def _load(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """As Hydra's; what cannot be composed is left to it, to be refused."""
        texts = [*map(str, master_config.hydra.overrides.hydra), *sweep_overrides]
        try:
            overrides = [self._parse(text) for text in texts]
            if any(map(_needs_hydra, overrides)):
                return self._by_hydra(master_config, sweep_overrides)
            config = self._copy(
                master_config.hydra.job.config_name, tuple(o.input_line or "" for o in overrides if _is_choice(o))
            )
            ConfigLoaderImpl._apply_overrides_to_config([o for o in overrides if not _is_choice(o)], config)
        except (HydraException, OmegaConfBaseException):
            return self._by_hydra(master_config, sweep_overrides)
        _note_overrides(config, overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _by_hydra(self, master_config: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """Raises ValueError for a key without a place, in words that know the sweep's other methods; else Hydra's errors."""
        try:
            config: DictConfig = self._loader.load_sweep_config(master_config, list(overrides))
        except HydraException as error:
            if said := not_overridden(error, methods_of(master_config)):
                raise ValueError(said) from error
            raise
        return config

    def _parse(self, text: str) -> Override:
        if text not in self._parsed:
            self._parsed[text] = OverridesParser.create(self._loader).parse_override(text)
        return self._parsed[text]

    def _copy(self, name: str | None, choices: tuple[str, ...]) -> DictConfig:
        if (name, choices) not in self._composed:
            self._composed[name, choices] = pickle.dumps(self._loader.load_configuration(name, list(choices), RunMode.RUN))
        config: DictConfig = pickle.loads(self._composed[name, choices])  # several times as fast as a deep copy
        return config


NUMBER = re.compile(r"^(\+{0,2}\w[\w.]*\.\w+='?)[-+]?\d[\d.]*(?:e[-+]?\d+)?('?)$")
"""An override of a value in a section by a number, which may be quoted."""


def form_of(override: str) -> str:
    """The same for all overrides that differ in a number only."""
    return NUMBER.sub(r"\g<1>0\2", override)


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


@uncollected()
def end_job(context: HydraContext, config: DictConfig, deliver: Callable[[Path, DictConfig], Any]) -> JobReturn:
    """What Hydra's `run_job` does for a job of a multirun, with `deliver` as its task: files, log, callbacks, result."""
    if config.hydra.job.chdir:
        return _stock(context, config, deliver)
    settings = HydraConfig.instance()
    before = settings.cfg
    folder = Path(config.hydra.sweep.dir) / str(OmegaConf.select(config, "hydra.sweep.subdir"))
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = str(folder.absolute())
    OmegaConf.set_readonly(config.hydra, True)
    task, own = _parted(config)
    settings.cfg = own
    try:
        result = JobReturn(overrides=OmegaConf.to_container(config.hydra.overrides.task), working_dir=str(Path.cwd()))
        result.cfg, result.hydra_cfg = task, own
        folder.mkdir(parents=True, exist_ok=True)
        configure_log(config.hydra.job_logging, config.hydra.verbose)
        if config.hydra.output_subdir is not None:
            _save(config, folder / config.hydra.output_subdir)
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


def _parted(config: DictConfig) -> tuple[DictConfig, Any]:
    """A job's settings without Hydra's, and Hydra's as `HydraConfig` hides them: two views of one tree, whose root is the whole.

    Hydra makes a copy of each, which takes longer than all else that ends a job.
    """
    nodes = config.__dict__["_content"]
    task, own = DictConfig({}), OmegaConf.create()
    task.__dict__["_metadata"] = copy.copy(config.__dict__["_metadata"])
    task.__dict__["_content"] = {key: node for key, node in nodes.items() if key != "hydra"}
    own.__dict__["_content"]["hydra"] = nodes["hydra"]
    return task, own


def _save(config: DictConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    hydra = plain(config._get_node("hydra"))
    files = {"config.yaml": unresolved(config), "hydra.yaml": {"hydra": hydra}, "overrides.yaml": hydra["overrides"]["task"]}
    for name, content in files.items():
        (folder / name).write_text(to_yaml(content), encoding="utf-8")


def to_yaml(settings: Any) -> str:
    """As `OmegaConf.to_yaml` writes plain values; sections that have been written before are not put into text again."""
    if not isinstance(settings, dict) or not settings:
        return _text(settings)
    return "".join(_section(key, value) for key, value in settings.items())


def _section(key: Any, value: Any) -> str:
    if key == "hydra" and value and isinstance(value, dict):  # Hydra's sections are as large as all others together
        parts = (_section_text({key: {name: part}}) for name, part in value.items())
        return "".join([f"{key}:\n", *(part.partition("\n")[2] for part in parts)])
    return _section_text({key: value})


def _section_text(section: dict[Any, Any]) -> str:
    try:
        return _remembered_text(marshal.dumps(section, 0))
    except ValueError:  # it holds other things than YAML has
        return _text(section)


@functools.lru_cache(MOST_TEXTS)
def _remembered_text(section: bytes) -> str:
    return _text(marshal.loads(section))


def _text(settings: Any) -> str:
    if DUMPER is None:
        return OmegaConf.to_yaml(settings)
    return yaml.dump(settings, Dumper=DUMPER, default_flow_style=False, allow_unicode=True, sort_keys=False)


def _dumper() -> Any:
    if not hasattr(yaml, "CSafeDumper"):
        return None

    class Dumper(yaml.CSafeDumper):
        """With the quotes of OmegaConf around texts that look like numbers."""

    Dumper.add_representer(str, get_omega_conf_dumper().str_representer)
    return Dumper


DUMPER = _dumper()

"""`prunesweep tune`: one command that answers which setting to use."""

from __future__ import annotations

from typing import Any

from prunesweep.cli.shared import Overrides


def tune(overrides: Overrides = None) -> None:
    """Choose a method and its settings for a budget, and confirm them on videos that had no part in choosing.

    Settings are those of conf/tune.yaml: budget=0.25x, 4GiB, 1.2s or 'accuracy>=dense-0.01', margin, methods, share, seed,
    rounds; all others are prunesweep's, such as model=... and benchmark=...

    Writes a preset, which reducer=FILE, ps.prune and prunesweep export read. The same command goes on where it was.
    """
    from prunesweep.cli.run import hydras_errors_explained
    from prunesweep.console.terminal import say
    from prunesweep.use.tuning import tune as run

    given, task = parted(overrides or [])
    with hydras_errors_explained():
        tuned = run(task, given)
    say(f"\n{tuned}\npreset     {tuned.path}")


def parted(overrides: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Settings of tune, and all other overrides."""
    from omegaconf import OmegaConf

    from prunesweep.console.meant import closest
    from prunesweep.sweep.slips import GROUPS
    from prunesweep.use.tune import LOSS
    from prunesweep.use.tuning import defaults

    own, task = defaults(), []
    given: dict[str, Any] = {}
    for one in overrides:
        key, equals, _ = one.partition("=")
        if LOSS.fullmatch(one.strip()):
            given["budget"] = one.strip()
        elif one.strip().startswith("accuracy"):
            raise ValueError(f"a goal is written accuracy>=dense-0.01, for a loss of 1 point at most, got {one!r}")
        elif equals and key in own:
            given[key] = OmegaConf.to_container(OmegaConf.from_dotlist([one]))[key]  # type: ignore[index,call-overload]
        elif equals and not ("." in key or key in GROUPS) and (meant := closest(key, own)):
            raise ValueError(f"tune has no setting {key!r}; did you mean {meant}?")
        elif equals:
            task.append(one)
        else:
            raise ValueError(f"tune takes KEY=VALUE, got {one!r}; for example budget=0.25x model=tiny benchmark=blocks")
    return given, task

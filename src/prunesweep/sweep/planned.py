"""Trials on their way to evaluation: built and checked before anything runs, described for the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.analysis.costs import MEASURED_COSTS, require_cost
from prunesweep.analysis.margins import require_margin
from prunesweep.analysis.summary import require_objective
from prunesweep.checks import require_at_least, require_flag, require_seconds
from prunesweep.engine.devices import AUTO, require_accelerator, require_batch, require_decoders
from prunesweep.engine.protocol import Protocol
from prunesweep.reducers import Reducer, require_frames, require_layers
from prunesweep.results.infeasible import Infeasible
from prunesweep.sweep.spec import Spec
from prunesweep.targets import instantiate

if TYPE_CHECKING:
    from prunesweep.engine.budget import Solution


class Planned(NamedTuple):
    """One trial, built."""

    spec: Spec
    reducer: Reducer
    protocol: Protocol
    solution: Solution | None = None
    """Of its match with a cost."""

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def frames(self) -> int:
        return self.spec.video["frames"]

    def settings(self) -> dict[str, Any]:
        """The limit on decoding is none: it decides whether there is an answer, not which."""
        settings: dict[str, Any] = {"reducer": self.spec.reducer, "protocol": self.spec.protocol}
        settings["video"] = {key: value for key, value in self.spec.video.items() if key != "seconds"}
        return settings | ({"matched": asdict(self.solution)} if self.solution else {})

    def about(self) -> dict[str, Any]:
        """How people call it."""
        reducer, model, benchmark = self.spec.names
        return {"reducer": reducer, "model": model, "benchmark": benchmark, "settings": self.settings()}

    def unfit(self, layers: int | None) -> str | None:
        """Why it cannot be: too few frames for its merger, or no layer left to prune after in a model of so many `layers`."""
        try:
            if layers is not None:
                require_layers(self.reducer, self.spec.names[1], layers)
            require_frames(self.reducer, self.frames, self.spec.model.get("frames_per_step", 1), "video.frames")
        except ValueError as error:
            return str(error)
        return None

    def infeasible(self, reason: str) -> Infeasible:
        return Infeasible(self.name, *self.spec.names, self.spec.overrides, reason)


def plan_trial(spec: Spec) -> Planned:
    """Raises ValueError for a setting that cannot be, or Hydra's InstantiationException around one, before anything runs."""
    _require_analysis(spec)
    _require_machine(spec)
    require_at_least("video.frames", spec.video["frames"], 1)
    require_seconds("video.seconds", spec.video["seconds"])
    require_flag("retry_errors", spec.retry_errors)
    protocol = instantiate(spec.protocol, at="protocol")
    _require_same_subtitles(protocol, spec.benchmark)
    return Planned(spec, instantiate(spec.reducer, at="reducer"), protocol)


def _require_analysis(spec: Spec) -> None:
    require_cost(spec.analysis["cost"], "analysis.cost")
    require_margin(spec.analysis["margin"], "analysis.margin")
    for objective in spec.analysis["returned"]:
        require_objective("analysis.returned", objective)
    if spec.analysis["cost"] in MEASURED_COSTS and not spec.engine["measure"]:
        raise ValueError(f"analysis.cost={spec.analysis['cost']} is measured; set engine.measure=true")


def _require_machine(spec: Spec) -> None:
    require_at_least("trainer.devices", spec.trainer["devices"], 1)
    require_accelerator("trainer.accelerator", spec.trainer["accelerator"])
    require_decoders("trainer.decoders", spec.trainer["decoders"])
    require_flag("trainer.progress", spec.trainer["progress"])
    require_flag("engine.share", spec.engine["share"])
    require_batch("engine.batch", spec.engine.get("batch", AUTO))
    require_flag("engine.measure", spec.engine["measure"])
    instantiate(spec.engine["measuring"], at="engine.measuring")
    instantiate(spec.race, at="race")
    instantiate(spec.questions, at="questions")


def _require_same_subtitles(protocol: Protocol, benchmark: Mapping[str, Any]) -> None:
    """Raises ValueError where a prompt announces subtitles that are not there, or those that are there go nowhere."""
    subtitles = benchmark.get("subtitles", "none")
    if protocol.reads_subtitles and subtitles == "none":
        raise ValueError(
            "the protocol reads subtitles, and benchmark.subtitles is none; set it to frames or all (of videomme, longvideobench)"
        )
    if subtitles != "none" and not protocol.reads_subtitles:
        module = benchmark["load"]["_target_"].split(".")[-2]
        raise ValueError(f"benchmark.subtitles={subtitles}, but the protocol puts them nowhere; set protocol={module}_subtitles")

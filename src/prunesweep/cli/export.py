"""`prunesweep export`: a setting as the flags of a server."""

from __future__ import annotations

from typing import Annotated

import typer

from prunesweep.cli.shared import Overrides
from prunesweep.paths import user_path


def export(
    setting: Annotated[str, typer.Argument(metavar="SETTING", help="A preset, or the name of a method.")],
    overrides: Overrides = None,
    to: Annotated[str, typer.Option("--to", metavar="SERVER", help="One of those in docs/use.md.")] = "vllm",
) -> None:
    """Print the flags with which a server does the same, and what differs there; most methods no server has.

    Settings of a method are given as everywhere: reducer.merge.keep_ratio=0.3.
    """
    from omegaconf import OmegaConf

    from prunesweep.cli.run import hydras_errors_explained
    from prunesweep.sweep.session import composed
    from prunesweep.targets import instantiate
    from prunesweep.use.export import exported
    from prunesweep.use.preset import read_preset

    own = read_preset(user_path(setting)).overrides if setting.endswith(".yaml") else (f"reducer={setting}",)
    with hydras_errors_explained():  # also of values that are out of bounds
        config = composed([*own, *(overrides or [])])
        instantiate(config.reducer, at="reducer")
        reducer = OmegaConf.to_container(config.reducer, resolve=True)
    print(exported(reducer, config.video.frames, to, config.model.get("most_pixels")))  # type: ignore[arg-type]

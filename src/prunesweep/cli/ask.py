"""`prunesweep ask`: a question about one video, with a setting and without."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunesweep.cli.shared import Overrides
from prunesweep.paths import user_path


def ask(
    video: Annotated[Path, typer.Argument(parser=user_path, metavar="VIDEO", help="A file, or a folder of frames.")],
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="As one would ask it.")],
    overrides: Overrides = None,
) -> None:
    """Answer a question about one video, with a setting beside the dense model: tokens, FLOPs and seconds of each.

    Settings are prunesweep's: model=... reducer=... (a method, or the preset of a tune), video.frames, protocol.most_tokens.
    """
    from prunesweep.cli.run import hydras_errors_explained, with_presets
    from prunesweep.console.layout import visible
    from prunesweep.console.terminal import table
    from prunesweep.sweep.session import composed
    from prunesweep.targets import instantiate
    from prunesweep.use.ask import DENSE, HEADER
    from prunesweep.use.ask import ask as answered
    from prunesweep.use.preset import require_made_for

    given = with_presets(["protocol=generate", *(overrides or [])])
    with hydras_errors_explained():
        config, dense = composed(given), composed(["reducer=none"])
    require_made_for(config.presets, config.model)
    reducers = {DENSE: instantiate(dense.reducer), config.reducer.name: instantiate(config.reducer)}
    model = instantiate(config.model.load)
    rows = answered(model, video, question, reducers, config.video.frames, instantiate(config.protocol))
    print(table(HEADER, [tuple(map(visible, one.row())) for one in rows]))

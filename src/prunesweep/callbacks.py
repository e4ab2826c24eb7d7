"""Hydra callbacks; Hydra imports this module at every start, so it imports nothing heavy."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class SummaryCallback(Callback):
    """Sums up a multirun when it ends: table, files, picture, W&B."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        self.started = time.time()
        sweep = Path(config.hydra.sweep.dir)
        goes_on = config.hydra.runtime.choices["hydra/sweeper"] == "search" and (sweep / ".study").exists()
        if any(sweep.glob("*/records.parquet")) and not goes_on:  # its trials would be taken for this sweep's
            raise SystemExit(f"prunesweep: {sweep} already holds a sweep; choose another hydra.sweep.dir")

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        from prunesweep.sweep import summarize_sweep

        try:
            summarize_sweep(config, time.time() - self.started)
        except Exception as error:  # Hydra turns a callback's exceptions into warnings and exits with 0
            raise SystemExit(f"prunesweep: the sweep's summary failed: {type(error).__name__}: {error}") from error

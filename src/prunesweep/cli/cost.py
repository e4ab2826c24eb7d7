"""`prunesweep cost`: the ledger of a configuration, without weights, videos or torch."""

from __future__ import annotations

import sys

from prunesweep.cli.shared import Overrides


def cost(overrides: Overrides = None) -> None:
    """Count what a setting costs on a model of given sizes: FLOPs by part, visual tokens, caches; nothing is loaded.

    Settings are those of prunesweep, and frames, text_tokens, generated, merged.
    """
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    from prunesweep.cli.run import reported, run_hydra
    from prunesweep.console.terminal import say
    from prunesweep.paths import CONF
    from prunesweep.report.costs import report
    from prunesweep.sweep.schema import require_known_keys

    @hydra.main(config_path=str(CONF), config_name="cost", version_base="1.3")
    def run(config: DictConfig) -> None:
        with reported():
            require_known_keys(config, HydraConfig.get(), "cost")
            say(report(config))

    sys.argv = ["prunesweep cost", *(overrides or [])]
    run_hydra(run)

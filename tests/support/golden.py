"""Every method's answers to ten questions on the embedded model, as kept in `data/golden.parquet`.

`PYTHONPATH=tests python tests/support/golden.py` makes the file anew: only where answers change on purpose.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import polars as pl
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from prunesweep.cli import run as main
from prunesweep.sweep.batch import Finished
from prunesweep.sweep.configs import evaluate_configs
from support.facts import RUNNABLE

CONF = Path(__file__).parents[2] / "conf"
KEPT = Path(__file__).parents[1] / "data" / "golden.parquet"
QUESTIONS = 10
"""One of each family."""
BOTH_WAYS = ("choose", "generate")
MORE = (["reducer=prunevid", "reducer.prune=null"], ["reducer=prunevid", "reducer.merge=null"])


def records(folder: Path) -> pl.DataFrame:
    """Of all methods by both ways of answering, in a store of their own; without the columns that only tell where."""
    assert main.run, "importing the command has registered its resolvers"
    own = [[*given, f"protocol={way}"] for given in (*[[f"reducer={name}"] for name in RUNNABLE], *MORE) for way in BOTH_WAYS]
    rest = [f"benchmark.limit={QUESTIONS}", "trainer.progress=false", "trainer.accelerator=cpu", f"store.folder={folder}"]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        configs = [compose("eval", [*rest, *one]) for one in own]
    finished = evaluate_configs(configs, own)
    assert all(isinstance(one, Finished) for one in finished)
    return pl.concat([one.records for one in finished])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        records(Path(place)).write_parquet(KEPT)

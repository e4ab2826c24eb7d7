"""`prunesweep-cost`: the ledger from sizes alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from prunesweep.estimate import planned_tokens, report, shape_in
from prunesweep.models.llava_onevision import load
from prunesweep.paths import CONF, DATA


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("cost", list(overrides))


def test_the_sizes_of_the_tiny_model_are_those_of_its_checkpoint() -> None:
    assert shape_in(config("model=tiny")) == load("tiny", str(DATA / "tiny")).shape


def test_a_merge_and_a_selection_give_the_tokens_of_each_layer() -> None:
    assert planned_tokens(config("reducer=none"), 100, 4) == [100] * 4
    assert planned_tokens(config("reducer=fastv", "reducer.prune.keep_ratio=0.3"), 100, 4) == [100, 100, 30, 30]
    assert planned_tokens(config("reducer=random"), 100, 4) == [20] * 4
    pruned = config("merged=0.425", "reducer.prune.layer=1", "reducer.prune.keep_ratio=0.4")
    assert planned_tokens(pruned, 1000, 3) == [425, 170, 170]
    released = config("reducer=prunevid_official", "merged=0.425", "reducer.prune.layer=1", "reducer.prune.keep_ratio=0.4")
    assert planned_tokens(released, 1000, 3) == [425, 425, 170]  # layer 1, counted from 0, is the second one


def test_the_table_of_fastv_on_onevision_shows_the_published_number() -> None:
    text = report(config("reducer=fastv", "reducer.prune.keep_ratio=0.25"))
    (line,) = (line for line in text.splitlines() if line.startswith("fastvid prefill"))
    assert [cell.strip() for cell in line.split("  ") if cell][1:] == ["48.82 T", "13.45 T", "0.2754x"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((), "depends on the video; give the share that is left, such as merged=0.425"),
        (("merged=1.5",), "merged must be in"),
        (("reducer=fastv", "reducer.prune.layer=28"), "reducer.prune.layer must be in [1, 27] for llava_onevision_7b, got 28"),
        (("reducer=fastv", "frames=0"), "frames must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_counted_is_said_on_one_line(overrides: tuple[str, ...], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "prunesweep.estimate", *overrides], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_analysis_and_estimates_do_not_import_torch(tmp_path: Path) -> None:
    code = "import sys, prunesweep.estimate, prunesweep.comparison; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0

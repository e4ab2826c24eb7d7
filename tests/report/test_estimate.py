"""`prunesweep cost`: the ledger from sizes alone."""

import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from prunesweep.checks import InfeasibleError
from prunesweep.models.llava_onevision import load
from prunesweep.paths import CONF, DATA
from prunesweep.report.costs import planned_tokens, report, shape_in


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("cost", list(overrides))


def test_the_sizes_of_the_tiny_model_are_those_of_its_checkpoint() -> None:
    assert shape_in(config("model=tiny")) == load("tiny", str(DATA / "tiny")).shape


def planned(layers: int, *overrides: str, frames: int = 10, tokens: int = 100) -> list[int]:
    return list(planned_tokens(config(f"frames={frames}", f"tokens_per_frame={tokens}", *overrides), layers).visual)


def test_a_merge_and_a_selection_give_the_tokens_of_each_layer() -> None:
    assert planned(4, "reducer=none") == [1000] * 4
    assert planned(4, "reducer=fastv", "reducer.prune.keep_ratio=0.3") == [1000, 1000, 300, 300]
    fifth = planned(3, "reducer=fastv", "reducer.prune.keep_ratio=0.2", frames=32, tokens=196)
    assert fifth == [6272, 6272, 1254]  # the nearest to 1254.4, as FastV rounds
    assert planned(3, "merged=0.425", "reducer.prune.layer=1", "reducer.prune.keep_ratio=0.4") == [425, 170, 170]
    released = ("reducer=prunevid_official", "merged=0.425", "reducer.prune.layer=1", "reducer.prune.keep_ratio=0.4")
    assert planned(3, *released) == [425, 425, 170]  # layer 1, counted from 0, is the second one


def test_what_a_merge_leaves_of_every_video_is_asked_of_it() -> None:
    assert planned(1, "reducer=random") == [200]
    assert planned(1, "reducer=frames", "reducer.merge.keep_ratio=0.34") == [300]  # whole frames
    assert planned(1, "reducer=stride") == planned(1, "reducer=pooling") == [90]
    assert planned(1, "reducer=temporal") == [300]
    in_space = ("reducer.merge.static_threshold=null", "reducer.prune=null")
    assert planned(1, *in_space) == [500]
    assert planned(1, "reducer=prunevid_official", *in_space, "reducer.merge.cluster_ratio=0.33") == [330]


def test_an_eviction_makes_the_caches_smaller_and_nothing_else() -> None:
    lines = report(config("reducer=lookm", "generated=10")).splitlines()
    of_dense = {line.split("  ")[0]: line.split()[-1] for line in lines if line.endswith("x")}
    assert of_dense["LLM prefill, FLOPs"] == "1.0000x"
    assert of_dense["in the KV caches while decoding"] == "0.1999x"  # twice floor(0.1 * 6272)
    assert float(of_dense["decoding, FLOPs"][:-1]) < 1


def test_the_table_of_fastv_on_onevision_shows_the_published_number() -> None:
    text = report(config("reducer=fastv", "reducer.prune.keep_ratio=0.25"))
    (line,) = (line for line in text.splitlines() if line.startswith("fastvid prefill"))
    assert [cell.strip() for cell in line.split("  ") if cell][1:] == ["48.82 T", "13.45 T", "0.2754x"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("reducer=downsample",), "downsample changes what the vision tower sees, which sizes do not tell; run prunesweep"),
        (("reducer.merge.cluster_ratio=7",), "cluster_ratio must be in (0, 1], got 7"),
        ((), "depends on the video; give the share that is left, such as merged=0.425"),
        (("merged=1.5",), "merged must be in"),
        (
            ("reducer=fastv", "reducer.prune.layer=28"),
            "reducer.prune.layer must be in [1, 27] for llava_onevision_7b with 28 layers, got 28",
        ),
        (("reducer=fastv", "frames=0"), "frames must be at least 1, got 0"),
        (
            ("model=qwen2_5_vl_7b", "reducer=prunevid_official", "frames=12"),
            "at least neighbours=7 frames, got 6; use reducer=prunevid or counts=exact (frames=12 are 6: the vision tower puts 2",
        ),
    ],
)
def test_what_cannot_be_counted_is_said_on_one_line(overrides: tuple[str, ...], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "prunesweep", "cost", *overrides], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_what_no_evaluation_would_run_is_not_counted() -> None:
    """A network of which three of four layers have no attention to read."""
    with pytest.raises(InfeasibleError, match="reads attention after 2 layers, but only one in 4 .* let it stand after 4, 8, 12"):
        report(config("model=qwen3_5_9b", "reducer=fastv"))
    with pytest.raises(InfeasibleError, match="lookm changes the caches of all layers"):
        report(config("model=qwen3_5_9b", "reducer=lookm"))
    assert "4 layers 3136, 28 layers 1568" in report(config("model=qwen3_5_9b", "reducer=fastv", "reducer.prune.layer=4"))


def test_a_model_without_sizes_is_said_to_have_none() -> None:
    with pytest.raises(ValueError, match="model auto has no sizes.*name one that has them, such as llava_onevision_7b"):
        report(config("model=auto", "model.checkpoint=FOLDER", "reducer=fastv"))


def test_analysis_and_estimates_do_not_import_torch(tmp_path: Path) -> None:
    code = "import sys, prunesweep.report.costs, prunesweep.analysis.comparison; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path).returncode == 0

"""A setting as the flags of a server."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from prunesweep.cli.app import main as cli
from prunesweep.paths import CONF
from prunesweep.sweep.session import composed
from prunesweep.use.export import SERVERS, exported

METHODS = sorted(path.stem for path in (CONF / "reducer").glob("*.yaml"))


def settings(*overrides: str) -> Any:
    return OmegaConf.to_container(composed(overrides).reducer, resolve=True)


@pytest.mark.parametrize(
    ("overrides", "server", "flag"),
    [
        (("reducer=evs", "reducer.merge.prune_ratio=0.8"), "vllm", "--video-pruning-rate 0.8"),
        (("reducer=evs", "reducer.merge.prune_ratio=0.8"), "sglang", "'{\"video_pruning_rate\": 0.8}'"),
        (("reducer=evs",), "tensorrt-llm", "video_pruning_rate=0.75"),
        (("reducer=vidcom2", "reducer.merge.keep_ratio=0.3"), "vllm", "--video-retention-ratio 0.3"),
        (("reducer=cdpruner", "reducer.merge.keep_ratio=0.25"), "openvino", "pruning_ratio = 75"),
        (("reducer=dart", "reducer.prune.drop_ratio=0.5"), "tensorrt-edge-llm", "--visualPrune=0.5"),
        (("reducer=frames", "reducer.merge.keep_ratio=0.25"), "vllm", '{"video": {"num_frames": 8}}'),
    ],
)
def test_flags_carry_the_setting_and_say_what_differs(overrides: tuple[str, ...], server: str, flag: str) -> None:
    found = exported(settings(*overrides), 32, server)
    assert flag in found.flags[0]
    assert found.differs
    assert "not run by this project's authors" in str(found)


OTHER_WAYS = {"none": "name a method or a preset", "downsample": "make the frames smaller yourself"}
"""Of what ps.prune refuses."""


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exported_or_says_how_to_use_it_all_the_same(method: str) -> None:
    for server in SERVERS:
        try:
            assert exported(settings(f"reducer={method}"), 32, server).flags
        except ValueError as error:
            ways = {
                "none": "name a method or a preset",
                "downsample": "make the frames smaller yourself",
            }  # which ps.prune refuses
            assert ways.get(method, "ps.prune") in str(error)  # noqa: PT017


def test_a_value_out_of_bounds_is_no_flag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["prunesweep", "export", "evs", "reducer.merge.prune_ratio=2"])
    with pytest.raises(SystemExit) as stop:
        cli()
    said = capsys.readouterr()
    assert "prune_ratio must be in" in f"{stop.value.code}{said.err}"
    assert not said.out


def test_a_share_of_pixels_is_told_as_a_number() -> None:
    half = settings("reducer=downsample", "reducer.input.scale=0.5")
    found = exported(half, 32, "vllm", 200704)
    assert found.flags == ("--mm-processor-kwargs '{\"max_pixels\": 50176}'",)
    assert "the processor's own setting" in str(found)
    assert "for frames of videos is not verified" in str(found)
    with pytest.raises(ValueError, match=r"input.scale=0.5 is a share; say of how many, .* model.most_pixels=N"):
        exported(half, 32, "vllm")
    with pytest.raises(ValueError, match="sglang does not have downsample, vllm does"):
        exported(half, 32, "sglang")


def test_what_cannot_be_exported_says_why() -> None:
    for overrides, server, said in (
        (("reducer=vidcom2_fastv",), "vllm", "acts in 2 places"),
        (("reducer=cdpruner",), "vllm", "vllm does not have cdpruner, openvino does"),
        (("reducer=evs",), "nim", "--to must be one of vllm"),
        (("reducer=evs", "reducer.prune={_target_:prunesweep.reducers.fastv.Prune,layer:2,keep_ratio:0.5}"), "vllm", "2 places"),
    ):
        with pytest.raises(ValueError, match=said):
            exported(settings(*overrides), 32, server)

"""Maintainers' scripts are called in their help as they are run."""

import importlib
from pathlib import Path

import pytest

from prunesweep import dev

OWN = {"bench_store", "train_tiny"}
"""Read by `bench` in processes of its own; Hydra's."""
SCRIPTS = sorted(p.stem for p in Path(dev.__file__).parent.glob("*.py") if '__name__ == "__main__"' in p.read_text())


def test_there_are_scripts() -> None:
    assert {"bench", "draw_blocks", "draw_scenes", *OWN} <= set(SCRIPTS)


@pytest.mark.parametrize("name", sorted({*SCRIPTS} - OWN))
def test_help_and_errors_name_the_script_as_it_is_run(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main = importlib.import_module(f"prunesweep.dev.{name}").main
    for argument in ("--help", "--no-such-option"):
        monkeypatch.setattr("sys.argv", ["called.py", argument])
        with pytest.raises(SystemExit):
            main()
        said = "".join(capsys.readouterr()).replace("\n", " ")
        assert f"usage: python -m prunesweep.dev.{name} " in " ".join(said.split()), said

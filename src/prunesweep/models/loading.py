"""Loading what anybody may have written: whatever a checkpoint's files hold, it ends with one line that names it.

transformers has classes of errors of its own for each field of a configuration, and others for files that are JSON and no
object.  A network that is described and not there it fills with random numbers first, up to all of the memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from prunesweep.foreign import read_json
from prunesweep.models.checkpoints import safetensors_sources, weights_in
from prunesweep.results.keys.fingerprint import LOADED, OWN_MODELS

BOUNDED = ("_size", "_layers", "_heads", "_tokens")
MOST_LAYERS, MOST_SIZE = 1000, 10**7
"""Of a configuration: a network of a billion layers would be built before a tensor of it is missed."""
SHARED = 2
"""Times as many numbers as the weights hold may be described: tied ones are written once."""
MOST_BYTES = 2**28
"""Of a JSON file; a tokenizer's is the largest."""
MOST_SAID = 200
"""Characters of somebody else's error; transformers lists all families that it has."""


@contextmanager
def legible(load: Mapping[str, Any]) -> Iterator[None]:
    """Around building what `model.load` names.  Raises ValueError, in one line, for a checkpoint that cannot be loaded.

    Of the models of this package; what another loader makes of its files is its own affair.
    """
    if not str(load.get("_target_")).startswith(OWN_MODELS):
        yield
        return
    checkpoint = str(load.get("checkpoint"))
    with told(f"cannot load checkpoint {checkpoint!r}; if its files are damaged, download them again"):
        require_legible(Path(checkpoint).expanduser())
        yield


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raises ValueError, which begins with `what`, for errors that others than this package raise."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        place = _raised_in(cause)
        if place == "hydra":  # of arguments, which whoever reports it explains
            raise
        if place == "prunesweep" and isinstance(cause, (ValueError, OSError)):
            raise cause from cause.__cause__
        reason = " ".join(str(cause).split())
        few = f"{reason[:MOST_SAID]}..." if len(reason) > MOST_SAID else reason
        raise ValueError(f"{what} ({type(cause).__name__}: {few})") from error


def _raised_in(error: BaseException) -> str:
    """The package whose line raised it."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] if trace else ""


def require_legible(folder: Path) -> None:
    """Raises ValueError for a JSON file that holds no object, sizes that no network has, or a network that is not there."""
    if not folder.is_dir():  # a name on the hub, or nothing: whoever loads it says so
        return
    for pattern in LOADED:
        for file in sorted(folder.glob(pattern)) if pattern.endswith(".json") else ():
            if file.is_file():
                _object(file)
    if (file := folder / "config.json").is_file():
        require_bounded(file)
        _require_written(folder, _object(file))


def _object(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file, MOST_BYTES)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}; download it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold a JSON object; download it again")
    return found


def require_bounded(file: Path) -> None:
    """Raises ValueError for sizes in a configuration that no network has; what is missing is said by whoever needs it."""
    waiting: list[tuple[str, Any]] = [*_object(file).items()]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        most = MOST_LAYERS if "layers" in name else MOST_SIZE
        if name.endswith(BOUNDED) and isinstance(value, int) and value > most:
            raise ValueError(f"{file}: {name} must be at most {most:,}, got {value:,}")


def _require_written(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ValueError for a configuration of a larger network than the weights are of; quantized ones are packed."""
    import torch

    from prunesweep.models.families import FAMILIES

    family = FAMILIES.get(str(config.get("model_type")))
    files = weights_in(folder)
    if family is None or not files or config.get("quantization_config"):
        return
    with torch.device("meta"):
        network = family.network_class(family.network_class.config_class.from_pretrained(folder))
    described = sum(parameter.numel() for parameter in network.parameters())
    written = sum(torch.Size(source.shape).numel() for source in safetensors_sources(files))
    if described > SHARED * written:
        raise ValueError(
            f"{folder / 'config.json'} describes a network of {described:,} numbers, and the weights beside it hold {written:,}; "
            "they belong to two checkpoints: download both again"
        )

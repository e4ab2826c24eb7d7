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

from prunesweep.disk.foreign import read_json
from prunesweep.models.checkpoints import safetensors_sources, weights_in
from prunesweep.results.keys.fingerprint import LOADED, OWN_MODELS

BOUNDED = ("_size", "_layers", "_heads", "_tokens")
MOST_LAYERS, MOST_SIZE = 1000, 10**7
"""Of a configuration: a network of a billion layers would be built before a tensor of it is missed."""
SHARED = 2
"""Times as many numbers as the weights hold may be described: tied ones are written once."""
WINDOW = "sliding_attention"
"""In a configuration's `layer_types`."""
VIDEO_PART = ("video_preprocessor_config.json", "preprocessor_config.json")
"""Files that a video processor can be made of, besides the processor's own."""
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
    """Raises ValueError for a JSON file that is missing or holds no object, sizes that no network has, or a network that is not
    there; and for what cannot be served, which its configuration says before seconds of loading.
    """
    if not folder.is_dir():  # a name on the hub, or nothing: whoever loads it says so
        return
    for pattern in LOADED:
        for file in sorted(folder.glob(pattern)) if pattern.endswith(".json") else ():
            if file.is_file():
                _object(file)
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(
            f"checkpoint folder {str(folder)!r} has no config.json (the model's configuration); name the folder that has"
        )
    config = _object(file)
    if "model_type" not in config:
        raise ValueError(f"{file} has no model_type, so its family is not known; download it again")
    require_bounded(file)
    _require_no_window(file, config)
    _require_video(folder, config)
    _require_written(folder, config)


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


def _require_no_window(file: Path, config: Mapping[str, Any]) -> None:
    """Raises ValueError for layers with a sliding window."""
    text = config.get("text_config", config)
    kinds = text.get("layer_types") if isinstance(text, dict) else None
    if isinstance(kinds, list) and WINDOW in kinds:
        raise ValueError(
            f"{file}: layer {kinds.index(WINDOW)} has {WINDOW}, in which pruned tokens have no agreed meaning; "
            "only full and linear attention are served: use another checkpoint"
        )


def _require_video(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises ValueError for a stock family's processor that cannot read videos."""
    from prunesweep.models.families import FAMILIES

    file = folder / "processor_config.json"
    if str(config.get("model_type")) not in FAMILIES or any((folder / name).is_file() for name in VIDEO_PART):
        return
    if file.is_file() and "video_processor" not in _object(file):
        raise ValueError(
            f"{file} has no video_processor, nor is there a {VIDEO_PART[0]}; use a checkpoint whose processor has a video part"
        )


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

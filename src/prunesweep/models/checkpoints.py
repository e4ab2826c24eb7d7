"""Reading checkpoints: what is checked before anything is loaded, and one clear line for whatever is wrong.

Weights are read from safetensors; `.bin` and `.pth` files, where a release has nothing else, with torch's weights-only loading.
No code of a checkpoint is ever run.
"""

from __future__ import annotations

import json
import logging
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from prunesweep.results.keys.fingerprint import LOADED, OWN_MODELS

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

HUB_TIMEOUT = 10.0
"""Seconds."""
REFUSALS = (401, 403, 404)
"""Of HTTP: who asks is not known, may not have it, or there is none."""
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
MOST_NAMED = 5


def stock(checkpoint: str, network_class: Any, model_type: str, dtype: str = "auto") -> tuple[Any, Any]:
    """Network and processor of a checkpoint that transformers can read: a folder, or a name on the Hugging Face hub.

    `dtype` "auto" is the checkpoint's own on a GPU and float32 on a CPU.  Raises ValueError, in one line, for a folder that
    is missing, incomplete or of another family.
    """
    from safetensors import SafetensorError
    from transformers import AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    checkpoint = os.path.expanduser(checkpoint)
    require_checkpoint(checkpoint, model_type)
    try:
        processor = AutoProcessor.from_pretrained(checkpoint, trust_remote_code=False)
        network, report = network_class.from_pretrained(
            checkpoint,
            dtype=dtype_name(dtype),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below, by name
        )
    except (OSError, SafetensorError, RuntimeError, ImportError) as error:
        raise ValueError(f"cannot load checkpoint {checkpoint!r}: {str(error).strip().splitlines()[0]}") from error
    if other := sorted(report["mismatched_keys"]):
        name, shape, expected = other[0]
        raise ValueError(
            f"checkpoint {checkpoint!r}: {len(other)} weights have another shape than the model's, such as {name}, which is "
            f"{_sizes(tuple(shape))}, expected {_sizes(tuple(expected))}"
        )
    if missing := sorted(report["missing_keys"]):  # transformers would fill them with random weights and go on
        raise ValueError(f"checkpoint {checkpoint!r} lacks {len(missing)} of the model's weights, such as {missing[0]}")
    if extra := sorted(report["unexpected_keys"]):
        log.warning("checkpoint %s has %d tensors that the model does not use, such as %s", checkpoint, len(extra), extra[0])
    return network, processor


DTYPES = ("auto", "float32", "float16", "bfloat16")


def dtype_name(dtype: str) -> str:
    """Raises ValueError for anything but DTYPES."""
    import torch

    if dtype not in DTYPES:
        raise ValueError(f"model.dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    return "float32" if dtype == "auto" and not torch.cuda.is_available() else dtype


def require_checkpoint(checkpoint: str, model_type: str) -> None:
    """Local folders are checked here, because transformers' own messages speak of the hub instead."""
    folder = Path(checkpoint)
    if not folder.is_dir():
        _require_hub_name(checkpoint)
        require_hub(checkpoint)
        return
    needed = {
        "config.json": "the model's configuration",
        "processor_config.json": "the processor",
        "tokenizer.json": "the tokenizer",
    }
    if (folder / "preprocessor_config.json").exists():  # the layout before transformers 5
        del needed["processor_config.json"]
    for file, what in needed.items():
        if not (folder / file).exists():
            raise ValueError(f"checkpoint folder {checkpoint!r} has no {file} ({what}); save it with save_pretrained")
    require_family(folder, model_type)
    require_shards(folder)


def _require_hub_name(checkpoint: str) -> None:
    """Raises ValueError for what is no folder and cannot be on the hub."""
    if Path(checkpoint).expanduser().is_file():
        raise ValueError(f"checkpoint {checkpoint!r} is a file; set model.checkpoint to its folder")
    if not looks_like_hub_name(checkpoint):
        raise ValueError(f"checkpoint folder {checkpoint!r} does not exist; set model.checkpoint to a folder or a hub name")


def looks_like_hub_name(checkpoint: str) -> bool:
    return not (Path(checkpoint).is_absolute() or checkpoint.startswith(".") or checkpoint.count(os.sep) != 1)


def require_family(folder: Path, model_type: str) -> dict[str, Any]:
    """The folder's config.json.  Raises ValueError for another family's."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"checkpoint folder {str(folder)!r} has no config.json (the model's configuration)")
    config = read_object(file)
    if config.get("model_type") != model_type:
        raise ValueError(f"checkpoint folder {str(folder)!r} holds a {config.get('model_type')} model, expected {model_type}")
    return config


def read_object(file: Path) -> dict[str, Any]:
    """Raises ValueError, naming the file, if it is no JSON object."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON: {error}; download it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold a JSON object; download it again")
    return found


def require_indexed(folder: Path, index: str) -> None:
    """Raises ValueError if a file that the index names is missing; without an index, if the files' own numbers say so."""
    if (folder / index).is_file():
        weights = read_object(folder / index).get("weight_map")
        named = set(map(str, weights.values())) if isinstance(weights, dict) else set()
    else:
        numbered = [found for path in folder.iterdir() if (found := NUMBERED.fullmatch(path.name))]
        named = {f"{f[1]}{n:0{len(f[2])}d}-of-{f[3]}{f[4]}" for f in numbered for n in range(1, int(f[3]) + 1)}
    if missing := sorted(name for name in named if not (folder / name).is_file()):
        raise ValueError(f"checkpoint folder {str(folder)!r} lacks {len(missing)} of {len(named)} shards, such as {missing[0]}")


NUMBERED = re.compile(r"(.+-)(\d+)-of-(\d+)(\.safetensors|\.bin)")


def weights_in(folder: Path) -> list[Path]:
    """Files of safetensors; hidden ones are of a system's own (macOS: `._model.safetensors`)."""
    return [path for path in folder.glob("*.safetensors") if not path.name.startswith(".")]


def require_shards(folder: Path) -> list[Path]:
    """All files of safetensors weights.  Raises ValueError if there are none, or if some are missing or half downloaded."""
    files = sorted(weights_in(folder))
    if not files:
        raise ValueError(f"checkpoint folder {str(folder)!r} has no *.safetensors weights; other formats are not read")
    require_indexed(folder, INDEX)
    for file in files:
        require_whole(file)
    return files


def require_whole(file: Path) -> None:
    """Raises ValueError unless a safetensors file is as long as its header says."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length)) if 0 < length < size else None
        except (json.JSONDecodeError, UnicodeDecodeError):
            header = None
    if header is None:
        raise ValueError(f"cannot load checkpoint file {str(file)!r}: no safetensors header; download it again")
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ValueError(f"cannot load checkpoint file {str(file)!r}: {size} of {expected} bytes are there; download it again")


def require_hub(name: str) -> None:
    """Asks the hub once and shortly for a model that is not cached: transformers would try for minutes."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import build_hf_headers

    if constants.HF_HUB_OFFLINE or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        request = urllib.request.Request(
            f"{constants.ENDPOINT}/api/models/{name}", headers=build_hf_headers()
        )  # with a login's token
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        raise ValueError(f"the hub does not give out {name!r} ({error}); {_remedy(error.code)}") from error
    except OSError as error:
        raise ValueError(f"{name!r} is not cached and the hub cannot be reached; set model.checkpoint to a folder") from error


def _remedy(status: int | None, gated: bool = False) -> str:
    """What to do about a refusal of the hub's, which says "unauthorized" for models that do not exist, too."""
    if gated:
        return (
            "it is gated: accept its terms on its page there and log in with hf auth login, or set model.checkpoint to a folder"
        )
    if status in REFUSALS:
        return "check the name, log in with hf auth login if it is private or gated, or set model.checkpoint to a folder"
    return "set model.checkpoint to a folder"


def local_folder(checkpoint: str) -> Path:
    """The folder itself, or that of a hub name's download.  Raises ValueError if there is neither."""
    folder = Path(checkpoint).expanduser()
    if folder.is_dir():
        return folder
    _require_hub_name(checkpoint)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    require_hub(checkpoint)
    try:
        return Path(snapshot_download(checkpoint, allow_patterns=list(LOADED)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        remedy = _remedy(status, gated=isinstance(error, GatedRepoError))
        raise ValueError(f"cannot get {checkpoint!r} from the hub ({type(error).__name__}); {remedy}") from error


def located(load: Mapping[str, Any]) -> dict[str, Any]:
    """`model.load` with a checkpoint's name on the hub as the folder of its download, so that what is loaded has a content.

    Of the models of this package; what another loader makes of a name is its own affair.  Raises ValueError if the hub does
    not give it out.
    """
    name = load.get("checkpoint")
    if not (isinstance(name, str) and str(load.get("_target_")).startswith(OWN_MODELS)) or Path(name).expanduser().exists():
        return dict(load)
    return {**load, "checkpoint": str(local_folder(name))} if looks_like_hub_name(name) else dict(load)


def stated_layers(load: Mapping[str, Any]) -> int | None:
    """Decoder layers by a checkpoint's config.json; None where it does not say, or where another loader reads it in its own way.

    What is wrong with the file is said when it is loaded.
    """
    return stated_sizes(load).get("layers")


STATED = {"layers": "num_hidden_layers", "hidden": "hidden_size", "heads": "num_attention_heads"}
"""Sizes of `cost.Shape`, as a text configuration calls them."""


def stated_sizes(load: Mapping[str, Any]) -> dict[str, int]:
    """Of the LLM and of a frame, named as `cost.Shape` has them, as far as config.json says; as `stated_layers`."""
    if not str(load.get("_target_")).startswith(OWN_MODELS):
        return {}
    try:
        config = read_object(Path(str(load.get("checkpoint"))).expanduser() / "config.json")
    except (OSError, ValueError, RecursionError):
        return {}
    text, vision = (config.get(name) for name in ("text_config", "vision_config"))
    text = config if text is None else text
    found = {size: text.get(key) for size, key in STATED.items()} if isinstance(text, dict) else {}
    side, patch = (vision.get(key) if isinstance(vision, dict) else None for key in ("image_size", "patch_size"))
    if type(side) is int and type(patch) is int and patch > 0:
        found["vision.patches"] = (side // patch) ** 2
    return {size: value for size, value in found.items() if type(value) is int and value > 0}


class Source(NamedTuple):
    """A tensor of a checkpoint, not read yet."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


def safetensors_sources(files: Sequence[Path]) -> Iterator[Source]:
    from safetensors import safe_open

    for file in files:
        require_whole(file)
        with safe_open(file, "pt") as stream:
            shapes = {name: tuple(stream.get_slice(name).get_shape()) for name in stream.keys()}  # noqa: SIM118
        for name, shape in shapes.items():
            yield Source(name, shape, lambda file=file, name=name: _read(file, name))  # type: ignore[misc]


def _read(file: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(file, "pt") as stream:
        return stream.get_tensor(name)


def pickled_sources(files: Sequence[Path]) -> Iterator[Source]:
    """Tensors of .bin and .pth files, with torch's weights-only loading: whatever else a pickle holds is refused."""
    import pickle

    import torch

    for file in files:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except pickle.UnpicklingError as error:  # torch's own words propose to load it nevertheless
            raise ValueError(
                f"cannot load checkpoint file {str(file)!r}: it holds other things than tensors, which are never loaded"
            ) from error
        except (RuntimeError, EOFError, OSError) as error:
            raise ValueError(f"cannot load checkpoint file {str(file)!r}: {str(error).splitlines()[0]}") from error
        tensors = content.get("model", content) if isinstance(content, dict) else None
        if not isinstance(tensors, dict) or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
            raise ValueError(f"checkpoint file {str(file)!r} holds no table of tensors")
        for name, tensor in tensors.items():
            yield Source(name, tuple(tensor.shape), lambda tensor=tensor: tensor)  # type: ignore[misc]


@dataclass
class Manifest:
    """Which tensor of a checkpoint becomes which of the model's: each exactly once."""

    used: dict[str, Source] = field(default_factory=dict)
    """By the model's name."""
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """Known not to be needed."""

    @property
    def faults(self) -> list[str]:
        kinds = {"missing": self.missing, "extra": self.extra, "doubled": self.doubled, "of another shape": self.misshapen}
        return [f"{what}: {name}" for what, names in kinds.items() for name in names]

    def require_complete(self, checkpoint: str) -> None:
        """Raises ValueError with the number of faults and the first of them."""
        if self.faults:
            more = f" and {len(self.faults) - MOST_NAMED} more" if len(self.faults) > MOST_NAMED else ""
            raise ValueError(f"checkpoint {checkpoint!r} does not fit the model: {'; '.join(self.faults[:MOST_NAMED])}{more}")


def manifest(
    sources: Sequence[Source],
    expected: Mapping[str, tuple[int, ...]],
    rename: Callable[[str], str | None],
    optional: Callable[[str], bool],
) -> Manifest:
    """`rename` gives the model's name of a tensor, None where it is not needed; `optional` ones may be there or not."""
    found = Manifest()
    for source in sources:
        name = rename(source.name)
        if name is None:
            found.ignored.append(source.name)
        elif name in found.used:
            found.doubled.append(f"{source.name} and {found.used[name].name}")
        elif name not in expected and not optional(name):
            found.extra.append(source.name)
        else:
            found.used[name] = source
            if name in expected and source.shape != expected[name]:
                found.misshapen.append(f"{source.name} is {_sizes(source.shape)}, expected {_sizes(expected[name])}")
    found.missing = [name for name in expected if name not in found.used]
    return found


def _sizes(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"

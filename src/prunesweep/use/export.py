"""A setting in servers that have its method: the flags that do the same, and what differs.

What the flags are was read in the servers' documentation and pull requests, nothing of it was run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from prunesweep.checks import require_choice

Server = Literal["vllm", "sglang", "tensorrt-llm", "tensorrt-edge-llm", "openvino"]
SERVERS: tuple[Server, ...] = get_args(Server)
UNVERIFIED = "read in the server's documentation, not run by this project's authors"
MODELS = "served there: Qwen2.5-VL, Qwen3-VL and Nemotron VL"
MAX_PIXELS = (
    "max_pixels is the processor's own setting; vLLM has it, on its page on conserving memory, for Qwen2-VL models, and "
    "whether the server takes it for frames of videos is not verified"
)
CONCURRENT = "what was measured one request at a time need not hold for many at once: docs/use.md"


@dataclass(frozen=True)
class Export:
    """How a server is told."""

    flags: tuple[str, ...]
    """Of its command, or a line of its Python API."""
    differs: tuple[str, ...]
    """From what was evaluated."""

    def __str__(self) -> str:
        return "\n".join([*self.flags, *(f"# {one}" for one in (*self.differs, UNVERIFIED, CONCURRENT))])


Part = Mapping[str, Any]
"""Settings of a reducer's part, and of the sampling of frames."""


def _rounded(share: float) -> str:
    return f"{share:.6g}"


def _evs(server: Server, part: Part) -> Export | None:
    rate = _rounded(part["prune_ratio"])
    flags = {
        "vllm": f"--video-pruning-rate {rate}",
        "sglang": f"--json-model-override-args '{json.dumps({'video_pruning_rate': part['prune_ratio']})}'",
        "tensorrt-llm": f"multimodal_config=MultimodalConfig(video_pruning_rate={rate})",
    }
    return Export((flags[server],), (_places(part), MODELS)) if server in flags else None


def _vidcom2(server: Server, part: Part) -> Export | None:
    if server != "vllm":
        return None
    rounding = (
        "vLLM keeps the whole part of ratio x tokens, at least one token a frame; here each frame's part is rounded as released"
    )
    flag = f"--video-retention-ratio {_rounded(part['keep_ratio'])}"
    return Export((flag,), (rounding, _places(part), MODELS))


def _cdpruner(server: Server, part: Part) -> Export | None:
    if server != "openvino":
        return None
    ratio = round(100 * (1 - part["keep_ratio"]))
    flag = f"generation_config.pruning_ratio = {ratio}"
    return Export((flag,), ("it takes whole per cents, of tokens to drop, and weighs relevance by its relevance_weight",))


def _dart(server: Server, part: Part) -> Export | None:
    if server != "tensorrt-edge-llm":
        return None
    ratio = _rounded(part["drop_ratio"])
    where = "there tokens are dropped before the LLM's first layer, here after some of its layers, so answers differ"
    return Export((f"--visualPrune={ratio}",), (where, "made for pictures and Qwen3-VL; kept tokens have their own positions"))


def _frames(server: Server, part: Part) -> Export | None:
    if server != "vllm":
        return None
    count = max(1, round(part["keep_ratio"] * part["frames"]))
    flag = f"--media-io-kwargs '{json.dumps({'video': {'num_frames': count}})}'"
    return Export((flag,), (f"{count} of {part['frames']} frames, which vLLM samples by its own rule",))


def _pixels(server: Server, part: Part) -> Export | None:
    """Raises ValueError where it is not known of how many pixels the setting is a share."""
    if server != "vllm":
        return None
    if part["pixels"] is None:
        raise ValueError(
            f"a server is told a number of pixels, and input.scale={part['scale']:g} is a share; say of how many, as the model's "
            "processor counts them: model=auto model.checkpoint=FOLDER model.most_pixels=N; or make the frames smaller yourself"
        )
    most = round(part["pixels"] * part["scale"] ** 2)
    flag = f"--mm-processor-kwargs '{json.dumps({'max_pixels': most})}'"
    bound = "there it is a bound, which smaller frames are under already; here every frame's sides become smaller"
    return Export((flag,), (bound, MAX_PIXELS))


def _places(part: Part) -> str:
    if part.get("positions") == "original":
        return "kept tokens have their original positions in both"
    return "tokens were counted anew here (positions=renumbered); the server keeps original positions, so answers differ"


METHODS: dict[str, tuple[str, Callable[[Server, Part], Export | None]]] = {
    "evs": ("merge", _evs),
    "vidcom2": ("merge", _vidcom2),
    "cdpruner": ("merge", _cdpruner),
    "dart": ("prune", _dart),
    "frames": ("merge", _frames),
    "downsample": ("input", _pixels),
}
"""Methods that a server has, and the part of the reducer that is told."""
WAY = "use it in your own code with ps.prune(model, ...), see docs/use.md"
PARTS = ("input", "merge", "prune", "inner", "evict", "decode")


def exported(reducer: Mapping[str, Any], frames: int, server: str, pixels: int | None = None) -> Export:
    """Of a reducer's settings; `frames` and `pixels` are the dense model's, where they are known.

    Raises ValueError, with the way to use it all the same, where the server lacks the method.
    """
    require_choice("--to", server, Server)
    name = str(reducer["name"])
    own = [part for part in PARTS if reducer.get(part)]
    if not own:
        raise ValueError(f"{name} leaves nothing out, so there is nothing to tell a server; name a method or a preset")
    way = "make the frames smaller yourself" if name == "downsample" else WAY
    if len(own) > 1:
        raise ValueError(f"{name} acts in {len(own)} places ({', '.join(own)}), and no server has such a combination; {way}")
    slot, tell = METHODS.get(name, ("", None))
    if tell is None or own != [slot]:
        raise ValueError(f"no server that is known here has {name}; {way}")
    part = {**reducer[slot], "frames": frames, "pixels": pixels}
    found = tell(server, part)  # type: ignore[arg-type]
    if found is None:
        having = [one for one in SERVERS if tell(one, {**part, "pixels": pixels or 1})]
        raise ValueError(f"{server} does not have {name}, {' and '.join(having)} {'does' if len(having) == 1 else 'do'}; {way}")
    return found

"""Is the loop over a model's layers the stock forward?  A short random prompt with visual tokens through both.

A network of which the stock forward does more between its layers than the loop knows would answer, and wrongly.  So what a
checkpoint's logits are is compared once, and remembered in the store's folder by all that they depend on.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prunesweep.disk.files import replace_file
from prunesweep.engine.stages import Ask, Embed, Layers, Reduce
from prunesweep.lazy import torch
from prunesweep.results.keys.fingerprint import digest
from prunesweep.results.store import MODELS
from prunesweep.types import Clip, Model

FRAMES, HEIGHT, WIDTH = 3, 112, 140
SECONDS = 0.7
"""Between the frames."""
QUESTION = "what is there ?"
ONE_PASS = {"float32": 1e-4}
IN_PARTS = {"float32": 1e-3}
HALF = {"ONE_PASS": 0.01, "IN_PARTS": 0.05}
"""How far logits may differ, of the largest of them: the whole prompt in one pass, where the same kernels run on the same
numbers; and the question as a chunk after the video, where these are summed in another order.  Below float32: HALF."""


@dataclass(frozen=True)
class SelfCheck:
    """What the loop and the stock forward say to the same prompt."""

    tokens: int
    visual: int
    largest: float
    """Of the stock logits, without their sign."""
    one_pass: float
    """By which logits differ at most if the whole prompt runs at once."""
    in_parts: float
    """The same of the question's logits, with the question as a chunk after the video."""
    other_words: int
    """Tokens after which another one is the likeliest, in one pass."""
    bits: bool
    """Whether one pass is the same to the bit."""
    dtype: str
    seconds: float

    @property
    def alike(self) -> bool:
        one_pass, in_parts = ONE_PASS.get(self.dtype, HALF["ONE_PASS"]), IN_PARTS.get(self.dtype, HALF["IN_PARTS"])
        return self.one_pass <= one_pass * self.largest and self.in_parts <= in_parts * self.largest

    def __str__(self) -> str:
        same = "the same to the bit" if self.bits else f"at most {self.one_pass:.3g} apart"
        return (
            f"{self.tokens} tokens, {self.visual} of them visual: logits of up to {self.largest:.3g} are {same} in one pass, "
            f"{self.in_parts:.3g} apart with the question as a chunk; another word is the likeliest after {self.other_words}"
        )


def random_clip() -> Clip:
    dice = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (FRAMES, HEIGHT, WIDTH, 3), generator=dice, dtype=torch.uint8)
    return Clip("random", frames, tuple(SECONDS * frame for frame in range(FRAMES)))


def self_check(model: Model) -> SelfCheck:
    """Raises ValueError where the two do not even have the same tokens."""
    begin = time.perf_counter()
    clip = random_clip()
    before, after = model.prompt(QUESTION)
    layers = Layers(0, model.layers)
    with torch.inference_mode():
        stock = model.stock_logits(clip, QUESTION).float()
        video = Embed(before)(Reduce(None)(model.encode(clip, question=QUESTION), model), model)
        whole = layers(Ask(after, None)(video, model), model)
        logits = model.logits(whole.hidden).float()
        if logits.shape != stock.shape:
            raise ValueError(
                f"{model.name}: the loop over its layers has logits of shape {tuple(logits.shape)} for a prompt, "
                f"the stock forward {tuple(stock.shape)}; it cannot serve this network"
            )
        question = logits if not len(video.hidden) else model.logits(Ask(after, None)(layers(video, model), model).hidden).float()
    return SelfCheck(
        tokens=len(stock),
        visual=len(video.group),
        largest=float(stock.abs().max()),
        one_pass=float((logits - stock).abs().max()),
        in_parts=float((question[-len(after) :] - stock[-len(after) :]).abs().max()),
        other_words=int((logits.argmax(-1) != stock.argmax(-1)).sum()),
        bits=torch.equal(logits, stock),
        dtype=str(next(model.network.parameters()).dtype).removeprefix("torch."),
        seconds=time.perf_counter() - begin,
    )


def require_alike(model: Model, found: SelfCheck) -> None:
    """Raises ValueError, with the numbers, for a model of which the loop is not the stock forward."""
    if not math.isfinite(found.largest):
        raise ValueError(f"the stock forward of {model.name} gives NaN or infinity in {found.dtype}; set model.dtype to another")
    if not found.alike:
        raise ValueError(
            f"{model.name} cannot be served: prunesweep's loop over its layers is not the stock forward ({found}); "
            "see docs/networks.md for those that can"
        )


def check_once(model: Model, made_of: Any, store: Path) -> None:
    """Raises ValueError as `require_alike`, unless this was found alike before: `made_of` is all that logits depend on."""
    if not hasattr(model, "stock_logits"):  # somebody's own model, which is no Decoder
        return
    file = store / MODELS
    key = digest([made_of, _versions(), str(model.device)])
    known = _remembered(file)
    if key in known:
        return
    found = self_check(model)
    require_alike(model, found)
    replace_file(file, json.dumps({**_remembered(file), key: {"model": model.name, **asdict(found)}}, indent=1).encode())


def _versions() -> list[str]:
    import importlib.metadata

    return [f"{package} {importlib.metadata.version(package)}" for package in ("torch", "transformers", "prunesweep")]


def _remembered(file: Path) -> dict[str, Any]:
    """Nothing where there is no such file, or a damaged one: the check takes seconds."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

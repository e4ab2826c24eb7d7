"""LLaVA-Video (arXiv 2410.02713): SigLIP, a two-layer projector, average pooling to 13 x 13, a newline behind every row, Qwen2.

transformers has no class for it.  A released checkpoint (`llava_qwen`) is converted into stock parts, every tensor exactly once:
`prunesweep model convert llava_video FOLDER OUT`.  Each frame is 169 visual tokens and 13 newlines, which are text: never
reduced.  The prompt is the `qwen_1_5` one of the release; what it says of the video's length and the frames' times belongs into
`protocol.system` or the question.

Written from the paper and descriptions of the released structure; never run with the released weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from prunesweep.cost import Shape
from prunesweep.models.checkpoints import Manifest, Source, dtype_name, local_folder, manifest, require_family, require_shards
from prunesweep.models.checkpoints import safetensors_sources as sources_of
from prunesweep.models.decoder import ATTENTION, Decoder, llm_shape
from prunesweep.models.pllava import Projector, materialize
from prunesweep.models.sizes import fixed_tower
from prunesweep.models.towers import TowerPass, facts_of, known_facts
from prunesweep.shares import nearest_share
from prunesweep.types import Clip, Tokens
from prunesweep.types.slots import Slots

MODEL_TYPE = "prunesweep_llava_video"
"""Of a converted checkpoint."""
RELEASED_TYPE = "llava_qwen"
SYSTEM = "You are a helpful assistant."
"""Of the release, where a protocol has none of its own."""
VISION = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
"""google/siglip-so400m-patch14-384 without its last layer, as the release takes it."""
POOLING = 2
"""Of rows and columns; what is left over at the edges goes."""
TEXT_SIZES = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("rms_norm_eps", "max_position_embeddings", "tie_word_embeddings"),
)


class Network(nn.Module):
    """Stock SigLIP and Qwen2 with the projector between them."""

    def __init__(self, config: dict[str, Any]):
        from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

        super().__init__()
        vision = SiglipVisionConfig(**config["vision_config"], vision_use_head=False)
        self.vision_tower = SiglipVisionModel(vision)
        self.language_model = Qwen2ForCausalLM(Qwen2Config(**config["text_config"]))
        hidden = self.language_model.config.hidden_size
        self.multi_modal_projector = Projector(vision.hidden_size, hidden)
        self.image_newline = nn.Parameter(torch.zeros(hidden))


class LlavaVideo(Decoder):
    """One converted checkpoint with its tokenizer and image processor."""

    def __init__(self, name: str, network: Network, tokenizer: Any, image_processor: Any):
        super().__init__(network.language_model.model, network.language_model.lm_head)
        network.language_model.set_attn_implementation(ATTENTION)
        self.name = name
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.image_processor = image_processor
        self.shape = shape_of(network)

    @property
    def stop_ids(self) -> frozenset[int]:
        stop = self.tokenizer.eos_token_id
        return frozenset() if stop is None else frozenset([stop])

    @functools.cached_property
    def facts(self) -> frozenset[str]:  # type: ignore[override]
        return known_facts(self.network.vision_tower, class_token=False)

    def encode(self, clip: Clip, scale: float = 1.0, needs: tuple[str, ...] = (), question: str | None = None) -> Tokens:
        network, vision = self.network, self.network.vision_tower.config
        full = vision.image_size // vision.patch_size
        side = max(POOLING, nearest_share(full, scale))
        seen = network.vision_tower(
            self._pixels(clip, vision.image_size if side == full else side * vision.patch_size),
            interpolate_pos_encoding=side != full,
            output_hidden_states=True,
        )
        features = seen.hidden_states[-1]  # before the tower's last norm, as released
        x = pooled(network.multi_modal_projector(features))
        tower = TowerPass(network.vision_tower, seen.hidden_states, features, -1, class_token=False, pool=pooled)
        frames, rows = len(x), side // POOLING
        return Tokens(
            clip.video_id,
            x=x,
            suffix=x[:0, 0],
            grid=(rows, rows),
            facts=facts_of(tower, needs, self.name),
            unreduced=frames * (full // POOLING) ** 2,
            vision_patches=side**2,
            slots=self._slots(frames, rows),
        )

    def _slots(self, frames: int, rows: int) -> Slots:
        """A newline behind every row."""
        newline = self.network.image_newline
        visual = torch.ones(frames * rows, rows + 1, dtype=torch.bool, device=newline.device)
        visual[:, rows] = False
        count = visual.numel()
        return Slots(
            visual=visual.flatten(),
            text=newline.expand(frames * rows, -1),
            position=torch.arange(count, device=newline.device),
            span=count,
        )

    def _pixels(self, clip: Clip, side: int) -> Float[Tensor, "t 3 side side"]:
        size = {"height": side, "width": side}
        pixels = self.image_processor(images=list(clip.frames.permute(0, 3, 1, 2)), return_tensors="pt", size=size)[
            "pixel_values"
        ]
        return pixels.to(self.network.image_newline.device, self.network.image_newline.dtype)

    def project(self, features: Float[Tensor, "n v"]) -> Float[Tensor, "n c"]:
        return self.network.multi_modal_projector(features)

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        before = f"<|im_start|>system\n{system or SYSTEM}<|im_end|>\n<|im_start|>user\n"
        after = f"\n{text}<|im_end|>\n<|im_start|>assistant\n{prefix}"
        return self.tokenize(before), self.tokenize(after)

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, ids: tuple[int, ...]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def stock_logits(self, clip: Clip, text: str) -> Float[Tensor, "s vocabulary"]:
        """By the stock Qwen2, on visual tokens that are put together here once more."""
        frames = self.encode(clip).x
        rows = frames.unflatten(1, (round(frames.shape[1] ** 0.5), -1))
        newline = self.network.image_newline.expand(*rows.shape[:2], 1, -1)
        before, after = self.prompt(text)
        video = torch.cat([rows, newline], dim=2).flatten(0, 2)
        embedded = torch.cat([self.embed(before), video, self.embed(after)])
        return self.network.language_model(inputs_embeds=embedded[None]).logits[0]


def pooled(x: Float[Tensor, "t u v"]) -> Float[Tensor, "t p v"]:
    """Means of two by two; an odd row and column go."""
    side = round(x.shape[1] ** 0.5)
    grid = x.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return F.avg_pool2d(grid, POOLING).flatten(2).transpose(1, 2)


RULES = (
    ("model.vision_tower.vision_tower.vision_model.", "vision_tower."),
    ("model.mm_projector.0.", "multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "multi_modal_projector.linear_2."),
    ("model.image_newline", "image_newline"),
    ("model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)


def rename(name: str) -> str | None:
    """A released checkpoint's name of a tensor as ours; None for what is not needed."""
    if name.endswith(("position_ids", "rotary_emb.inv_freq")) or ".vision_model.head." in name:
        return None
    old, new = next(((old, new) for old, new in RULES if name.startswith(old)), ("", ""))
    return new + name.removeprefix(old)


def read_manifest(sources: Iterable[Source], network: Network, released: bool) -> Manifest:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    tied = network.language_model.config.tie_word_embeddings
    if tied:
        del expected[HEAD]
    return manifest(list(sources), expected, rename if released else lambda name: name, lambda name: tied and name == HEAD)


HEAD, EMBEDDINGS = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"


def converted_config(folder: Path) -> dict[str, Any]:
    """Of a released checkpoint.  Raises ValueError for another family's, and for tokens that are put together otherwise."""
    released = require_family(folder, RELEASED_TYPE)
    for key, known in (("mm_spatial_pool_mode", "average"), ("mm_newline_position", "grid")):
        if (has := released.get(key, known)) != known:
            raise ValueError(f"{folder / 'config.json'}: {key} is {has!r}; only {known!r} is known, as LLaVA-Video 7B has it")
    text = {key: released[key] for key in TEXT_SIZES if key in released}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": released.get("rope_theta", 1000000.0)}
    return {"model_type": MODEL_TYPE, "text_config": text, "vision_config": released.get("vision_config", VISION)}


def load(name: str, checkpoint: str, dtype: str = "auto") -> LlavaVideo:
    """A folder as `prunesweep model convert llava_video` writes it.

    Raises ValueError, in one line, for a checkpoint that is incomplete, of another family, or does not fit the model.
    """
    from transformers import AutoTokenizer, SiglipImageProcessor

    folder = local_folder(checkpoint)
    config = _read_config(folder)
    with torch.device("meta"):
        network = Network(config)
    found = read_manifest(sources_of(require_shards(folder)), network, released=False)
    found.require_complete(str(folder))
    wanted = dtype_name(dtype)
    cast = (lambda t: t) if wanted == "auto" else (lambda t: t.to(getattr(torch, wanted)))
    state = {key: cast(source.read()) for key, source in found.used.items()}
    state.setdefault(HEAD, state[EMBEDDINGS])
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        image_processor = SiglipImageProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint folder {str(folder)!r} has no usable tokenizer or image processor: {error}") from error
    return LlavaVideo(name, materialize(network, state), tokenizer, image_processor)


def _read_config(folder: Path) -> dict[str, Any]:
    """Raises ValueError for a released checkpoint, which has to be converted first, and for another family's."""
    try:
        return require_family(folder, MODEL_TYPE)
    except ValueError as error:
        if f"holds a {RELEASED_TYPE} model" not in str(error):
            raise
        raise ValueError(
            f"{folder} is LLaVA-Video as released; convert it first: prunesweep model convert llava_video {folder} OUT"
        ) from None


def shape_of(network: Network) -> Shape:
    text, vision = network.language_model.config, network.vision_tower.config
    return llm_shape(text, fixed_tower(vision, vision.hidden_size * text.hidden_size + text.hidden_size**2))

"""ST-LLM (arXiv 2404.00308): EVA-CLIP-g, a Q-Former that reads the question, Vicuna; 32 tokens a frame, before all text.

Made of InstructBLIP's modules in transformers (the same ViT and Q-Former) and stock Llama.  Two variants:

- QA: the ViT carries a branch through time (BT-Adapter) beside its last three blocks; all frames' tokens go to the LLM.
- Conversation: of many frames 16 go to the LLM, each with a projection of the mean over all of them added ("residual").

The prompt is the simple one of the released MVBench script: visual tokens, `###Human: SYSTEM QUESTION`, `###Assistant: `
and the answer's prefix.  The Q-Former gets `protocol.encoder_template`, there without the instruction.  Its tokens depend on the
question, so questions on one video share decoding only.  Its "place" of a token is the number of its query.  The release
decodes the conversation variant with five beams; here decoding is greedy.

Written from the paper and from descriptions of the released structure; never run with the released weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prunesweep.cost import Shape, VisionShape
from prunesweep.models.checkpoints import Manifest, Source, dtype_name, local_folder, manifest, require_family, require_shards
from prunesweep.models.checkpoints import safetensors_sources as sources_of
from prunesweep.models.decoder import ATTENTION, Decoder, llm_shape
from prunesweep.models.pllava import materialize
from prunesweep.types import Clip, Tokens
from prunesweep.video.reader import released_indices

MODEL_TYPE = "prunesweep_stllm"
"""Of a converted checkpoint."""
QFORMER_TOKENIZER = "qformer_tokenizer"
"""A folder within a converted checkpoint."""
MOST_QUESTION_TOKENS = 256
"""Read by the Q-Former, as released."""
MOST_FRAMES = 64
"""With an embedding of their own in the branch through time."""
TURN = "###"


class Temporal(nn.Module):
    """Attention of each patch over the frames."""

    def __init__(self, config: Any):
        from transformers.models.instructblip.modeling_instructblip import InstructBlipAttention

        super().__init__()
        self.self_attn = InstructBlipAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.temporal_fc = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, patches: Float[Tensor, "t p c"]) -> Float[Tensor, "t p c"]:
        attended, _ = self.self_attn(self.layer_norm1(patches.transpose(0, 1)))
        return patches + self.temporal_fc(attended).transpose(0, 1)


class Branch(nn.Module):
    """BT-Adapter (arXiv 2309.15785): a path through time beside the ViT's last `depth` blocks."""

    def __init__(self, config: Any, depth: int):
        from transformers.models.instructblip.modeling_instructblip import InstructBlipEncoderLayer

        super().__init__()
        self.depth = depth
        self.cls = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.position = nn.Embedding(MOST_FRAMES, config.hidden_size)
        self.temporal = nn.ModuleList(Temporal(config) for _ in range(depth))
        self.spatial = nn.ModuleList(InstructBlipEncoderLayer(config) for _ in range(depth))

    def start(self, x: Float[Tensor, "t s c"], place: Float[Tensor, "1 s c"]) -> Float[Tensor, "t s c"]:
        """The branch's first input; its class token is one for all frames, repeated."""
        if len(x) > MOST_FRAMES:
            raise ValueError(f"ST-LLM's branch through time has places for {MOST_FRAMES} frames, got {len(x)}")
        patches = x[:, 1:] + place[:, 1:] + self.position.weight[: len(x), None]
        own = (x[:, :1].mean(0, keepdim=True) + self.cls + place[:, :1]) / 2
        return torch.cat([own.expand(len(x), -1, -1), patches], dim=1)

    def step(self, index: int, branch: Float[Tensor, "t s c"]) -> Float[Tensor, "t s c"]:
        """Over time for each patch, then in space with a class token that is averaged over the frames."""
        branch = torch.cat([branch[:, :1], self.temporal[index](branch[:, 1:])], dim=1)
        block: Any = self.spatial[index]
        attended, _ = block.self_attn(block.layer_norm1(branch))
        attended = torch.cat([attended[:, :1].mean(0, keepdim=True).expand(len(branch), -1, -1), attended[:, 1:]], dim=1)
        branch = branch + attended
        return branch + block.mlp(block.layer_norm2(branch))


class Network(nn.Module):
    """Stock ViT, Q-Former and Llama; branch and residual where a variant has them."""

    def __init__(self, config: dict[str, Any]):
        from transformers import (
            InstructBlipQFormerConfig,
            InstructBlipQFormerModel,
            InstructBlipVisionConfig,
            InstructBlipVisionModel,
            LlamaConfig,
            LlamaForCausalLM,
        )

        super().__init__()
        vision = InstructBlipVisionConfig(**config["vision_config"])
        qformer = InstructBlipQFormerConfig(**{**config["qformer_config"], "encoder_hidden_size": vision.hidden_size})
        self.video_input = config["video_input"]
        self.residual_size = config["residual_size"]
        self.vision_model = InstructBlipVisionModel(vision)
        self.branch = Branch(vision, config["adapter_depth"]) if config["adapter_depth"] else None
        self.query_tokens = nn.Parameter(torch.zeros(1, config["num_query_tokens"], qformer.hidden_size))
        self.qformer = InstructBlipQFormerModel(qformer)
        self.language_model = LlamaForCausalLM(LlamaConfig(**config["text_config"]))
        hidden = self.language_model.config.hidden_size
        self.llama_proj = nn.Linear(qformer.hidden_size, hidden)
        if self.video_input == "residual":
            self.down_proj = nn.Linear(hidden, config["residual_width"])
            self.up_proj = nn.Linear(config["residual_width"], hidden)

    def see(self, pixels: Float[Tensor, "t 3 side side"]) -> Float[Tensor, "t s v"]:
        """Patches with the class token, after the last norm."""
        if self.branch is None:
            return self.vision_model(pixels).last_hidden_state
        x = self.vision_model.embeddings(pixels)
        blocks = self.vision_model.encoder.layers
        first = len(blocks) - self.branch.depth
        branch = None
        for index, block in enumerate(blocks):
            x = block(x)
            if index >= first:
                if branch is None:
                    branch = self.branch.start(x, self.vision_model.embeddings.position_embedding)
                else:
                    mean_class = x[:, :1].mean(0, keepdim=True).expand(len(x), -1, -1)
                    branch = branch + torch.cat([mean_class, x[:, 1:]], dim=1)
                branch = self.branch.step(index - first, branch)
        return self.vision_model.post_layernorm((x + branch) / 2)

    def query(self, seen: Float[Tensor, "t s v"], question: Tensor) -> Float[Tensor, "t q c"]:
        """Each frame's queries, having read it and the question's token ids, projected for the LLM."""
        frames, queries = len(seen), self.query_tokens.shape[1]
        read = self.qformer(
            input_ids=question.expand(frames, -1),
            query_embeds=self.query_tokens.expand(frames, -1, -1),
            encoder_hidden_states=seen,
        ).last_hidden_state
        return self.llama_proj(read[:, :queries])

    def combine(self, x: Float[Tensor, "t q c"]) -> Float[Tensor, "u q c"]:
        """What of all frames goes to the LLM."""
        if self.video_input == "all" or len(x) == 1:
            return x
        chosen = [min(i, len(x) - 1) for i in released_indices(0, len(x), self.residual_size)]
        return x[chosen] + self.up_proj(torch.relu(self.down_proj(x.mean(0, keepdim=True))))


class StLlm(Decoder):
    """One converted checkpoint with its tokenizers and image processor."""

    question_conditioned = True

    def __init__(self, name: str, network: Network, tokenizer: Any, qformer_tokenizer: Any, image_processor: Any):
        super().__init__(network.language_model.model, network.language_model.lm_head)
        network.language_model.set_attn_implementation(ATTENTION)
        self.name = name
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.qformer_tokenizer = qformer_tokenizer
        self.image_processor = image_processor
        self.shape = shape_of(network)

    @property
    def stop_ids(self) -> frozenset[int]:
        """The end of text, and the mark between turns where it is one token; else the text is cut at the mark."""
        mark = self.tokenizer.convert_tokens_to_ids(TURN)
        known = {self.tokenizer.eos_token_id, mark} - {None, self.tokenizer.unk_token_id}
        return frozenset(known)

    def encode(self, clip: Clip, scale: float = 1.0, needs: tuple[str, ...] = (), question: str | None = None) -> Tokens:
        """Raises ValueError without a question, and for what the Q-Former leaves no room for."""
        if question is None:
            raise ValueError("ST-LLM's vision tower reads the question; give it one")
        if scale != 1 or needs:
            raise ValueError(
                "ST-LLM has a fixed number of queries a frame, whatever the frames' size and attention; use another reducer"
            )
        weight = self.network.llama_proj.weight
        pixels = self.image_processor(images=list(clip.frames.permute(0, 3, 1, 2)), return_tensors="pt")["pixel_values"]
        seen = self.network.see(pixels.to(weight.device, weight.dtype))
        ids = self.qformer_tokenizer(question, truncation=True, max_length=MOST_QUESTION_TOKENS, return_tensors="pt")["input_ids"]
        x = self.network.combine(self.network.query(seen, ids.to(weight.device)))
        return Tokens(clip.video_id, x=x, suffix=x[:0, 0], grid=(1, x.shape[1]), frames=len(clip.frames))

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        asked = f"{TURN}Human: {system}{text}\n{TURN}Assistant: {prefix}"
        return (), tuple(self.tokenizer(asked)["input_ids"])

    def stock_logits(self, clip: Clip, text: str) -> Float[Tensor, "s vocabulary"]:
        return self.logits_around(clip, text, self.network.language_model)

    def tokenize(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def detokenize(self, ids: tuple[int, ...]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True).split(TURN)[0].strip()


NOT_NEEDED = re.compile(
    r"(position_ids|rotary_emb\.inv_freq|residual_index)$"
    r"|stllm_model\.(mvm_decoder|embed_tokens|Qformer\.cls)\b"  # of the training; and the LLM's embeddings once more
)
RULES: tuple[tuple[str, str], ...] = (
    (r"^model\.stllm_model\.visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^model\.stllm_model\.visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^model\.stllm_model\.visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^model\.stllm_model\.visual_encoder\.blocks\.", "vision_model.encoder.layers."),
    (r"^model\.stllm_model\.visual_encoder\.BTAdapter_cls$", "branch.cls"),
    (r"^model\.stllm_model\.visual_encoder\.BTAdapter_position\.", "branch.position."),
    (r"^model\.stllm_model\.visual_encoder\.BTAdapter_S\.", "branch.spatial."),
    (r"^model\.stllm_model\.visual_encoder\.BTAdapter_T\.", "branch.temporal."),
    (r"^model\.stllm_model\.ln_vision\.", "vision_model.post_layernorm."),
    (r"^model\.stllm_model\.Qformer\.bert\.embeddings\.LayerNorm\.", "qformer.embeddings.layernorm."),
    (r"^model\.stllm_model\.Qformer\.bert\.", "qformer."),
    (r"^model\.stllm_model\.", ""),
    (r"^model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
)
BLOCK_RULES = ((".attn.", ".self_attn."), (".proj.", ".projection."), (".norm1.", ".layer_norm1."), (".norm2.", ".layer_norm2."))
QFORMER_RULES = ((".attention.self.", ".attention.attention."), (".crossattention.self.", ".crossattention.attention."))
BIASES = re.compile(r"(.*\.attn)\.(q|v)_bias$")


def rename(name: str) -> str | None:
    """A released checkpoint's name of a tensor as ours; None for what is not needed."""
    if NOT_NEEDED.search(name):
        return None
    for pattern, replacement in RULES:
        new, found = re.subn(pattern, replacement, name)
        if found:
            break
    if new.startswith(("vision_model.encoder", "branch.")):
        for old, other in BLOCK_RULES:
            new = new.replace(old, other)
    if new.startswith("qformer.encoder"):
        for old, other in QFORMER_RULES:
            new = new.replace(old, other)
    return new


def joined_biases(sources: Iterable[Source]) -> list[Source]:
    """EVA's biases of queries and values as one bias of queries, keys and values; that of the keys is zero."""
    found: dict[str, dict[str, Source]] = {}
    kept = []
    for source in sources:
        if match := BIASES.match(source.name):
            found.setdefault(match[1], {})[match[2]] = source
        else:
            kept.append(source)
    for name, pair in found.items():
        if set(pair) != {"q", "v"}:
            kept += pair.values()
            continue
        query, value = pair["q"], pair["v"]

        def read(query: Source = query, value: Source = value) -> Tensor:
            q, v = query.read(), value.read()
            return torch.cat([q, torch.zeros_like(v), v])

        kept.append(Source(f"{name}.qkv.bias", (3 * query.shape[0],), read))
    return kept


def read_manifest(sources: Iterable[Source], network: Network, released: bool) -> Manifest:
    """Of a released checkpoint, or of a converted one, whose names are ours already."""
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if released:
        return manifest(joined_biases(sources), expected, rename, lambda _: False)
    return manifest(list(sources), expected, lambda name: name, lambda _: False)


def load(name: str, checkpoint: str, dtype: str = "auto", variant: str | None = None) -> StLlm:
    """A folder as `prunesweep model convert stllm` writes it, of this variant or, if that is None, of any.

    Raises ValueError, in one line, for a folder that is incomplete, of another family, or does not fit the model.
    """
    from transformers import AutoTokenizer, CLIPImageProcessor

    folder = local_folder(checkpoint)
    config = read_config(folder)
    if variant is not None:
        require_variant(config, variant, folder)
    with torch.device("meta"):
        network = Network(config)
    found = read_manifest(sources_of(require_shards(folder)), network, released=False)
    found.require_complete(str(folder))
    wanted = dtype_name(dtype)
    cast = (lambda t: t) if wanted == "auto" else (lambda t: t.to(getattr(torch, wanted)))
    network = materialize(network, {key: cast(source.read()) for key, source in found.used.items()})
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        qformer_tokenizer = AutoTokenizer.from_pretrained(folder / QFORMER_TOKENIZER, trust_remote_code=False)
        image_processor = CLIPImageProcessor.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint folder {str(folder)!r} has no usable tokenizers or image processor: {error}") from error
    return StLlm(name, network, tokenizer, qformer_tokenizer, image_processor)


def read_config(folder: Path) -> dict[str, Any]:
    """Raises ValueError for a released checkpoint, which has to be converted first, and for another family's."""
    file = folder / "config.json"
    if file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("model_type") == "st_llm_hf":
        raise ValueError(f"{folder} is ST-LLM as released; convert it first: prunesweep model convert stllm {folder} OUT")
    return require_family(folder, MODEL_TYPE)


VARIANTS: dict[str, dict[str, Any]] = {
    "qa": {"adapter_depth": 3, "video_input": "all", "residual_size": 16, "residual_width": 1024},
    "conversation": {"adapter_depth": 0, "video_input": "residual", "residual_size": 16, "residual_width": 1024},
}
"""What the released configurations of the two variants differ in."""


def require_variant(config: dict[str, Any], variant: str, folder: Path) -> None:
    """Raises ValueError if a converted checkpoint is another variant's: frames and costs would be those of the wrong one."""
    if variant not in VARIANTS:
        raise ValueError(f"model.load.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    has = config.get("video_input")
    if has != VARIANTS[variant]["video_input"]:
        other = next((name for name, own in VARIANTS.items() if own["video_input"] == has), "unknown")
        raise ValueError(f"{folder} holds the {other} variant of ST-LLM; choose model=stllm_7b_{other}, not that of {variant}")


FULL_SIZE: dict[str, Any] = {
    "num_query_tokens": 32,
    "vision_config": {},
    "qformer_config": {"vocab_size": 30523},
    "text_config": {"vocab_size": 32001, "hidden_size": 4096, "intermediate_size": 11008},
}
"""Stock defaults are EVA-CLIP-g's and Vicuna-7B's; BERT's vocabulary has one word more, the LLM's a padding."""


def shape_of(network: Network) -> Shape:
    """The vision part is the ViT's; branch and Q-Former, about a tenth of it, are not counted."""
    text, vision = network.language_model.config, network.vision_model.config
    return llm_shape(
        text,
        VisionShape(
            layers=vision.num_hidden_layers,
            hidden=vision.hidden_size,
            mlp=vision.intermediate_size,
            patches=(vision.image_size // vision.patch_size) ** 2,
            patch_inputs=3 * vision.patch_size**2,
        ),
    )

"""A checkpoint of a published size with random weights: what loading and evaluating one takes can be measured without it.

`PYTHONPATH=tests python tests/support/real_size.py FOLDER` writes SmolVLM2 500M in float32 (2 GB), in its released layout.  Its
answers mean nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.published import PUBLISHED
from support.zoo_parts import Words, template

NAME = "smolvlm2_500m"
NOTHING: Mapping[str, Any] = {}
SIDE = {"longest_edge": 512}
"""Pixels of a frame, as its processor's configuration has them."""


def save(folder: Path, text: Mapping[str, Any] = NOTHING, vision: Mapping[str, Any] = NOTHING) -> Path:
    """With other sizes of LLM and tower, where they are given."""
    import torch
    import transformers as t

    words = Words("<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    published = PUBLISHED[NAME]
    own = {**published.config["text_config"], "bos_token_id": None, "eos_token_id": None, "pad_token_id": None, **text}
    tower = {**published.config["vision_config"], **vision}
    sizes = {**published.config, "text_config": own, "vision_config": tower}
    config = t.SmolVLMConfig(**sizes, image_token_id=words["<image>"])
    processor = t.SmolVLMProcessor(
        t.SmolVLMImageProcessor(size=SIDE, max_image_size=SIDE),
        words.tokenizer,
        t.SmolVLMVideoProcessor(size=SIDE, max_image_size=SIDE),
        image_seq_len=int(published.tokens),
        chat_template=template("<video>"),
    )
    torch.manual_seed(0)
    t.SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(f"{save(Path(sys.argv[1]))} has {NAME} with random weights")

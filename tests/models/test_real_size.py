"""The checkpoint of a real size with random weights, which docs/networks.md measures."""

from __future__ import annotations

from pathlib import Path

import torch

from prunesweep.engine.selfcheck import self_check
from prunesweep.models import adapter
from support import real_size
from support.published import PUBLISHED
from support.zoo import clip_of


@torch.inference_mode()
def test_it_is_served_and_has_the_published_tokens(tmp_path: Path) -> None:
    """With one layer each and few words, to be quick; frames and patches are the real ones."""
    text, vision = {"num_hidden_layers": 1, "vocab_size": 1000}, {"num_hidden_layers": 1, "intermediate_size": 64}
    model = adapter.load("m", str(real_size.save(tmp_path / "m", text, vision)))
    assert self_check(model).alike
    frames, tokens, _ = model.encode(clip_of(2)).x.shape
    assert (frames, tokens) == (2, PUBLISHED[real_size.NAME].tokens)

"""What stock layers are given as their cache."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from prunesweep.types import KeyValue, Recurrent


@functools.cache
def cache_argument(forward: Callable[..., Tensor]) -> str:
    """What a layer calls its cache: transformers 5.24 renamed it, and a name that a layer does not know is silently ignored."""
    parameters = inspect.signature(forward).parameters
    for name in ("cache", "past_key_values"):
        if name in parameters:
            return name
    raise ValueError(f"{forward.__qualname__} takes no cache that prunesweep knows; install transformers 5.23 or 5.24")


class LayerCache:
    """What a stock attention layer needs of a cache, for one layer: earlier keys and values in, all of them out."""

    def __init__(self, past: Any):
        self.past = past
        self.content: KeyValue

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> KeyValue:
        if self.past is not None:  # concatenation makes new tensors: forks may share the old ones
            key, value = torch.cat([self.past.key, key], dim=2), torch.cat([self.past.value, value], dim=2)
        self.content = KeyValue(key, value)
        return self.content


LINEAR = "linear_attn"
"""What layers of linear attention call it."""


class RecurrentCache:
    """The same for a layer of linear attention.

    Its states are written in place, and forks may share those of before: what it hands out is a copy.
    """

    def __init__(self, past: Any):
        self.past = past
        self.inputs: Tensor
        self.state: Tensor

    @property
    def content(self) -> Recurrent:
        return Recurrent(self.inputs, self.state)

    def get_conv_state(self, *_: Any, **__: Any) -> Tensor | None:
        if self.past is None:
            return None
        self.inputs = self.past.inputs.clone()
        return self.inputs

    def get_recurrent_state(self, *_: Any, **__: Any) -> Tensor | None:
        return None if self.past is None else self.past.state.clone()

    def is_recording_past(self, *_: Any) -> bool:
        return False

    def update_conv_state(self, new: Tensor, *_: Any, conv_kernel_size: int, **__: Any) -> Tensor:
        """All inputs that the convolution sees, filled up with zeros at the beginning of a short prompt."""
        if self.past is None:
            whole = F.pad(new, (max(0, conv_kernel_size - new.shape[-1]), 0))
        else:
            whole = torch.cat([self.past.inputs, new], dim=-1)
        self.inputs = whole[..., -conv_kernel_size:].clone()
        return whole

    def update_recurrent_state(self, state: Tensor, *_: Any, **__: Any) -> Tensor:
        self.state = state
        return state

"""The tiny models' tokenizer: one token per word of their questions, characters for everything else.

Any text can be asked, but only the words below were ever trained.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prunesweep.embedded.questions import CORNERS, DIRECTIONS, MOMENTS, NUMBERS
from prunesweep.embedded.scene import BACKGROUNDS, COLOURS, PATTERNS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
FUNCTION_WORDS = (
    *("user", "assistant", "is", "there", "a", "block", "what", "pattern", "has", "the", "which", "way", "does", "move"),
    *("color", "moves", "how", "many", "blocks", "are", "times", "flash", "appears", "last", "background", "at", "where"),
    *("yes", "no", "?"),
)
WORDS = (*FUNCTION_WORDS, *COLOURS, *PATTERNS, *BACKGROUNDS, *NUMBERS, *DIRECTIONS, *CORNERS, *MOMENTS)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} "
    "{% for part in message['content'] if part['type'] == 'video' %}<video>\n{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}<|im_end|>"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The layout of LLaVA-OneVision's own template: the video stands before the question."""


def build_tokenizer(words: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """With words besides WORDS at the end, so that a model that lacks them can go on with what it knows."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = [c for c in string.printable if not c.isspace() and not c.isupper()]
    entries = dict.fromkeys((*SPECIAL, *WORDS, *characters, *(f"##{c}" for c in characters), *words))
    model = models.WordPiece({word: i for i, word in enumerate(entries)}, unk_token="<unk>", max_input_chars_per_word=64)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", "<image>", "<video>"],
    )

"""The nouns: what one stage hands to the next.

Letters in shapes: t frames, p patches (visual tokens) per frame, n visual tokens, s sequence length, q question tokens,
c channels, h attention heads, k key-value heads, d head size.

States are frozen and their tensors are never written in place: trials that share a stage share its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from prunesweep.cost import NOTHING, Usage
from prunesweep.types.caches import KeyValue as KeyValue
from prunesweep.types.caches import Memory as Memory
from prunesweep.types.caches import Recurrent as Recurrent
from prunesweep.types.facts import Fact
from prunesweep.types.slots import Given, Slots
from prunesweep.types.tower import TowerMerger as TowerMerger
from prunesweep.types.tower import TowerTokens as TowerTokens

if TYPE_CHECKING:  # shapes are for readers: reading records must not cost the import of torch
    from jaxtyping import Bool, Float, Int, UInt8
    from torch import Tensor, device


AttentionVariant = Literal["causal", "before_rotary"]
"""Attention as the layer used it; or of the projected queries and keys before the rotary embedding, over all tokens without a
mask and rounded to their type, as PruneVid's released code has it."""

Look = Literal["causal", "before_rotary", "queries"]
"""What is kept of the last of some layers for a step to read: the question's attention, in one of its variants; or the queries
of all tokens, from which any row of the attention follows (the keys are in the layer's cache)."""

Sampling = Literal["even", "released", "per_second"]
"""Which frames of a video: the middles of equal parts; the same with the rounding of PLLaVA's and PruneVid's released code;
or one a second, but 4 at least and as many as asked for at most, as ST-LLM's released code does on MVBench."""


ADDED_LATER = "added later"
"""Metadata of a setting that is not told where it is at its default: what was stored before there was one stays in use."""
LATER = {ADDED_LATER: True}


@dataclass(frozen=True)
class Sample:
    """One question about one video."""

    id: str
    path: Path
    """The video file, or a folder of frames."""
    question: str
    choices: tuple[str, ...]
    """Empty for a question that is answered freely."""
    target: int | None
    """Index of the right choice; None where there is none, or where it is not public."""
    task: str
    video_id: str
    """Questions with one video id share a video; standard errors are clustered by it."""
    start: float | None = None
    end: float | None = None
    """Seconds; None is the beginning or the end of the file."""
    answer: str = ""
    """What a free answer is compared with, by a judge."""
    frame_rate: float | None = None
    """Of a folder of frames, per second."""
    subtitles: str = ""
    """Lines of text that a protocol may put before the question."""
    problem: str | None = None
    """Why this item cannot be asked: its record says so, and it counts in no accuracy."""

    @property
    def reference(self) -> str:
        """The right answer as text; empty where it is not public."""
        return self.answer if self.target is None else self.choices[self.target]


@dataclass(frozen=True)
class Clip:
    """Decoded frames of a video."""

    video_id: str
    frames: UInt8[Tensor, "t height width 3"]
    timestamps: tuple[float, ...]
    """Seconds, one per frame."""


@dataclass(frozen=True)
class Tokens:
    """Visual tokens after vision tower and projector."""

    video_id: str
    x: Float[Tensor, "t p c"]
    suffix: Float[Tensor, "m c"]
    """Tokens that a model appends to the visual ones (LLaVA-OneVision: one newline); treated as text, never reduced."""
    grid: tuple[int, int] | None = None
    """Rows and columns of a frame's tokens, where they are no square."""
    step: float = 1.0
    """From one t to the next, in the position embedding of models that place tokens in time."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Those asked for, by their names in `facts.FACTS`."""
    unreduced: int | None = None
    """Visual tokens of the video at full resolution, where `x` has fewer because the frames were made smaller."""
    vision_patches: int | None = None
    """Patches per frame that the tower saw, where they are not those of the model's shape."""
    frames: int | None = None
    """That the tower saw, where they are not t."""
    slots: Slots | None = None
    """Of a model whose stock forward says where its tokens stand; None: one after the other, `suffix` behind them."""
    source: Int[Tensor, "t u"] | None = None
    """Which of the t x p tokens each of the tower's patches went to, where the tower merged them: then p is of no grid."""
    tower_tokens: tuple[int, ...] | None = None
    """Then also how many a frame has in each layer of the tower, and behind the last."""
    tower_flops: int = 0
    """Spent on choosing what the tower merges."""

    @property
    def dense_tokens(self) -> int:
        """Visual tokens of the video without any reduction."""
        frames, patches, _ = self.x.shape
        return frames * patches if self.unreduced is None else self.unreduced

    def fact(self, name: str) -> Tensor:
        """Raises ValueError for one that was not asked for."""
        if name not in self.facts:
            raise ValueError(f"{name} was not asked of the model; a merger that reads it has it among its needs")
        return self.facts[name].value


class Contributions(NamedTuple):
    """Which patches a token is made of: token = sum of share x patch."""

    token: Int[Tensor, " m"]
    patch: Int[Tensor, " m"]
    """Counted through the video: frame x patches + place."""
    share: Float[Tensor, " m"]


@dataclass(frozen=True)
class Merged:
    """Visual tokens as they enter the LLM."""

    tokens: Tokens
    """What was merged."""
    x: Float[Tensor, "n c"]
    group: Int[Tensor, " n"]
    """Which static pool or which frame a token belongs to, counted through the video."""
    source: Int[Tensor, "t p"]
    """The token that each patch went to (of the tower's patches, if the merge chose among them); -1: dropped."""
    position: Int[Tensor, " n"]
    """Place of each token in the visual sequence, for position embeddings."""
    span: int
    """How many places the visual sequence takes up."""
    flops: int = 0
    """Spent on reducing, without the facts that were needed: multiply-adds twice, as in `prunesweep.cost`."""
    contributions: Contributions | None = None
    """Where tokens are no plain means of the patches that went to them; `source` is the token with the largest share then."""


class Seen(NamedTuple):
    """The s tokens of which a layer's cache holds keys and values; layers may differ in them."""

    position: Int[Tensor, " s *axes"]
    visual: Bool[Tensor, " s"]


class Looks(NamedTuple):
    """What a step inside the LLM asked for besides the state itself."""

    ahead: Float[Tensor, "h 1 n"] | None = None
    """The last token's attention to the visual tokens in the layer ahead, which has not run."""
    normed: Float[Tensor, "s c"] | None = None
    """The hidden states after the LLM's final norm."""
    rotation: tuple[Float[Tensor, "s d"], Float[Tensor, "s d"]] | None = None
    """Cosines and sines of the position embedding of every token."""


NO_LOOKS = Looks()


@dataclass(frozen=True)
class Prefix:
    """A sequence part-way through the LLM, after `len(kv)` layers."""

    video_id: str
    hidden: Float[Tensor, "s c"]
    position: Int[Tensor, " s *axes"]
    """Of models that place tokens in time and space, one column each for time, row and column."""
    visual: Bool[Tensor, " s"]
    group: Int[Tensor, " n"]
    next_position: int
    """Position of the next token in the layers to come; unaffected by pruning, unless that counts positions anew."""
    kv: tuple[Memory, ...] = ()
    next_positions: tuple[int, ...] = ()
    """The same per layer run."""
    seen: tuple[Seen, ...] = ()
    """Per layer run: what its cache holds; nothing after an eviction, when heads may hold different tokens."""
    key: Float[Tensor, "1 k s d"] | None = None
    """Of the last layer run, before the rotary embedding, where a question may still ask for it."""
    attention: Float[Tensor, "h q n"] | None = None
    """Of the last layer run: how much each question token attends to each visual token."""
    query: Float[Tensor, "h s d"] | None = None
    """Of the last layer run, as rotated, if asked for."""
    place: Int[Tensor, " n"] | None = None
    """The first patch that went to each visual token, counted through the video."""
    patches: int = 0
    """Of a frame, in these places."""
    entered: Float[Tensor, "N c"] | None = None
    """The visual tokens that entered the LLM."""
    words: Float[Tensor, "q c"] | None = None
    """The question's tokens as they entered, once it was asked; they are the last of the sequence."""
    carried: Mapping[str, Any] = field(default_factory=dict)
    """What steps leave for later ones, by their own names for it."""
    looks: Looks = NO_LOOKS
    """For the step that is about to read them."""
    received: tuple[Float[Tensor, "h s"], ...] = ()
    """Per layer run, if asked for: the attention that each token of its cache received from all tokens after it, summed."""
    usage: Usage = NOTHING
    """So far: visual and cached tokens of each layer run."""
    given: Given | None = None
    """What the stock forward gives its layers of these tokens, if anything."""

    @property
    def depth(self) -> int:
        return len(self.kv)

    @property
    def caches(self) -> tuple[KeyValue, ...]:
        """Of the layers with full attention; the last one run is among them wherever a step may read this."""
        return tuple(memory for memory in self.kv if isinstance(memory, KeyValue))


@dataclass(frozen=True)
class Answer:
    """What the model said, and what that took."""

    text: str
    token_ids: tuple[int, ...]
    """Generated tokens; empty if the options were scored."""
    choice_scores: tuple[float, ...]
    """Log-likelihood per option; empty if the answer was generated."""
    usage: Usage


@dataclass(frozen=True)
class Record:
    """One line of the results: one trial on one sample."""

    trial: str
    sample_id: str
    video_id: str
    task: str
    choices: tuple[str, ...]
    target: str
    prediction: str | None
    correct: bool | None
    """None for an error, and for what is judged later or elsewhere."""
    choice_scores: tuple[float, ...] = ()
    usage: Usage = NOTHING
    chosen: int | None = None
    """The option that the answer is; None if it names none, or several."""
    named: int | None = None
    """How many options the answer names; None for an error and for a question without options."""
    error: str | None = None
    """Why there is no prediction; such a sample counts in no accuracy."""


class Run(NamedTuple):
    """What a range of decoder layers returns."""

    hidden: Float[Tensor, "s c"]
    kv: tuple[Memory, ...]
    attention: Float[Tensor, "h s total"] | None
    """Of the last layer, if asked for: each row's attention over cache and row tokens, in float32; before the rotary embedding in
    the type of the projections, as released."""
    received: tuple[Float[Tensor, "h total"], ...] = ()
    """Per layer, if asked for: what cache and row tokens receive of all rows' attention, in float32."""
    key: Float[Tensor, "1 k s d"] | None = None
    """Of the last layer: the rows' keys before the rotary embedding."""
    query: Float[Tensor, "h s d"] | None = None
    """Of the last layer, if asked for: the rows' queries as rotated."""


class Places(NamedTuple):
    """Where a video's tokens stand, counted from the first one."""

    visual: Int[Tensor, " n *axes"]
    span: int
    """Where the text after them begins."""


class Branches(Protocol):
    """Several sequences that go on together."""

    def write(self, hidden: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
        """One more token of each: its hidden state after the last layer."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Only those of the sequences that still go on."""
        ...


class Model(Protocol):
    """What the stages need of a video LLM; one file per family in `models/`."""

    name: str
    shape: Any
    """`prunesweep.cost.Shape`."""
    network: Any
    """The stock module, to be moved between devices."""

    @property
    def layers(self) -> int: ...

    @property
    def device(self) -> device:
        """That its tokens and layers are on."""
        ...

    @property
    def encoder_fingerprint(self) -> str:
        """Changes with whatever determines the result of `encode` besides the clip."""
        ...

    @property
    def facts(self) -> frozenset[str]:
        """Names of the facts that `encode` can give."""
        ...

    def encode(self, clip: Clip, scale: float = 1.0, needs: tuple[str, ...] = (), question: str | None = None) -> Tokens:
        """Visual tokens of frames whose sides are `scale` of the model's own, with the facts that are needed.

        A model with `merges_in_tower` also takes a `tower: TowerMerger`, with whole frames and no needs.

        Raises ValueError for what the family's vision tower cannot do, and for facts that it does not have.
        """
        ...

    def project(self, features: Float[Tensor, "n v"]) -> Float[Tensor, "n c"]:
        """Tower features as visual tokens, without pooling."""
        ...

    def prompt(self, text: str, system: str = "", prefix: str = "") -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Token ids before and after the video: a system prompt if given, the question, how the answer begins."""
        ...

    def places(self, merged: Merged) -> Places: ...

    def text_position(self, start: int, count: int) -> Int[Tensor, " count *axes"]:
        """Of `count` text tokens from `start` on."""
        ...

    @property
    def question_conditioned(self) -> bool:
        """Whether the vision tower reads the question."""
        ...

    def tokenize(self, text: str) -> tuple[int, ...]: ...

    def detokenize(self, ids: tuple[int, ...]) -> str: ...

    def embed(self, ids: tuple[int, ...] | Int[Tensor, " s"]) -> Float[Tensor, "s c"]: ...

    def run(
        self,
        hidden: Float[Tensor, "s c"],
        position: Int[Tensor, " s *axes"],
        start: int,
        stop: int,
        past: tuple[Memory, ...] = (),
        look: Look | None = None,
        past_key: Float[Tensor, "1 k past d"] | None = None,
        received: bool = False,
        looking: int = 0,
        given: Given | None = None,
        apart: tuple[int, ...] = (),
    ) -> Run:
        """Layers `start` to `stop` (exclusive); `past` holds one cache for each of them, or is empty.

        With `apart` the rows are several continuations of these lengths, each of which sees the cached tokens and itself.

        Caches may differ in length: every row attends to the whole cache of its layer.  With `look` the rows' attention in the
        last of these layers is handed out, of the last `looking` rows (0: of all), or their queries; the variant before the
        rotary embedding needs the keys of that layer's cache as they were before it.
        """
        ...

    def branches(self, caches: Sequence[tuple[Memory, ...]], next_positions: Sequence[tuple[int, ...]]) -> Branches:
        """Several sequences, to be continued together: of each the caches and the position of its next token, by layer."""
        ...

    def attend(
        self,
        hidden: Float[Tensor, "s c"],
        position: Int[Tensor, " s *axes"],
        layer: int,
        look: bool = False,
        given: Given | None = None,
    ) -> Run:
        """The first half of one layer on a whole sequence, without the feed-forward network: `feed` is the other one.

        With `look` its queries are handed out.

        Raises ValueError where layers do not come apart there.
        """
        ...

    def feed(self, hidden: Float[Tensor, "s c"], layer: int, given: Given | None = None) -> Float[Tensor, "s c"]: ...

    def ahead(self, hidden: Float[Tensor, "s c"], position: Int[Tensor, " s *axes"], layer: int) -> Float[Tensor, "h s"]:
        """The last row's attention in a layer that has not run, from the hidden states that will enter it."""
        ...

    def normed(self, hidden: Float[Tensor, "s c"]) -> Float[Tensor, "s c"]:
        """After the final norm."""
        ...

    def rotation(self, position: Int[Tensor, " s *axes"]) -> tuple[Float[Tensor, "s d"], Float[Tensor, "s d"]]:
        """Cosines and sines of the position embedding."""
        ...

    def logits(self, hidden: Float[Tensor, "s c"]) -> Float[Tensor, "s vocabulary"]: ...

    def stock_logits(self, clip: Clip, text: str) -> Float[Tensor, "s vocabulary"]:
        """Of a whole prompt, by the stock forward alone; what the layers' loop is held against when a checkpoint is loaded."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]: ...

"""What a model or a method hands on is checked, whoever wrote it: each broken result ends in an error that says what is wrong."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prunesweep.cost import Shape, Usage, VisionShape
from prunesweep.engine import stages
from prunesweep.engine.candidate import Candidate
from prunesweep.engine.plan import continuation
from prunesweep.engine.protocol import Protocol
from prunesweep.engine.validity import InvalidError
from prunesweep.models.llava_onevision import LlavaOnevision
from prunesweep.reducers import Evicted, Reducer, keep_tokens
from prunesweep.reducers.frames import Stride
from prunesweep.reducers.pooling import Pool
from prunesweep.reducers.prunevid import Merge
from prunesweep.reducers.random import Drop
from prunesweep.sweep.evaluate import evaluate
from prunesweep.types import KeyValue, Merged, Prefix, Run, Sample, Seen, Tokens
from prunesweep.types.facts import Fact

FRAMES, PATCHES, CHANNELS = 2, 6, 4
COUNT = FRAMES * PATCHES
TOKENS = Tokens(
    "v", torch.arange(COUNT * CHANNELS).view(FRAMES, PATCHES, CHANNELS).float(), torch.zeros(0, CHANNELS), grid=(2, 3)
)
KEPT = torch.tensor([1, 4, 7])


@dataclass(frozen=True)
class Hands:
    """A method that hands on whatever a test wants."""

    function: Callable[..., Any]
    in_order: bool = True

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def merged(kept: torch.Tensor = KEPT, positions: str = "original", **changes: Any) -> Callable[[Tokens], Any]:
    return lambda tokens: replace(keep_tokens(tokens, kept, positions), **changes)  # type: ignore[arg-type]


def with_nan(shape: tuple[int, ...], value: float = math.nan) -> torch.Tensor:
    x = torch.zeros(shape)
    x.view(-1)[-1] = value
    return x


NOTHING = torch.tensor([], dtype=torch.long)
BAD_MERGES = {
    "hands on no token; keep at least one": merged(NOTHING),
    "must hand on Merged, got Tensor": lambda tokens: tokens.x,
    "floats of shape (n, c), got float32 of shape (2, 6, 4)": merged(x=TOKENS.x),
    "floats of shape (n, c), got int64 of shape (3, 4)": merged(x=torch.zeros(3, 4, dtype=torch.long)),
    "tokens x of the type float32 that it got, got float64": merged(x=torch.zeros(3, 4).double()),
    "tokens x of the type float32 that it got, got bfloat16": merged(x=torch.zeros(3, 4).bfloat16()),
    "hands on groups in descending order": merged(group=torch.tensor([0, 2, 1])),
    "tokens of 5 channels; visual tokens have 4": merged(x=torch.zeros(3, 5)),
    "NaN or infinite values in the tokens that it hands on: 1 of 3 rows": merged(x=with_nan((3, 4))),
    "infinite values in the tokens that it hands on": merged(x=with_nan((3, 4), math.inf)),
    "position as whole numbers of shape (3,), got int64 of shape (2,)": merged(position=torch.tensor([0, 1])),
    "position as whole numbers of shape (3,), got float32": merged(position=torch.zeros(3)),
    "group as whole numbers of shape (3,), got int64 of shape (3, 1)": merged(group=torch.zeros(3, 1, dtype=torch.long)),
    "source as whole numbers of shape (2, 6), got int64 of shape (12,)": merged(source=torch.zeros(12, dtype=torch.long)),
    "source as whole numbers of shape (2, 6), got bool": merged(source=torch.zeros(2, 6, dtype=torch.bool)),
    "puts tokens at 1 to 12, outside [0, 12)": merged(position=torch.tensor([1, 4, 12])),
    "puts tokens at -1 to 7, outside": merged(position=torch.tensor([-1, 4, 7])),
    "puts tokens at 1 to 7, outside [0, 3)": merged(span=3),
    "sends patches to 0 to 3; there are 3 tokens": merged(source=torch.tensor([[0, 1, 2], [3, 3, 3]]).repeat_interleave(2, 1)),
    "sends patches to -2 to": merged(source=torch.full((2, 6), -2)),
    "hands on doubled positions": merged(position=torch.tensor([1, 4, 4])),
    "hands on unsorted positions": merged(position=torch.tensor([4, 1, 7])),
    "hands on 1 tokens that no patch went to": merged(torch.tensor([1, 1, 4]), "renumbered"),
    "in another order than the video's": merged(torch.tensor([4, 1, 7]), "renumbered"),
}


@pytest.mark.parametrize("message", BAD_MERGES)
def test_a_merger_that_hands_on_no_valid_tokens_is_an_error(message: str) -> None:
    with pytest.raises(InvalidError) as raised:
        stages.Reduce(Hands(BAD_MERGES[message]))(TOKENS, None)  # type: ignore[arg-type]
    assert message in str(raised.value)
    assert str(raised.value).startswith("test_validity.Hands ")


def test_valid_tokens_pass_untouched() -> None:
    whole = keep_tokens(TOKENS, torch.arange(COUNT), "renumbered")
    for function in (merged(), merged(positions="renumbered"), merged(torch.tensor([0])), lambda _: whole):
        assert stages.Reduce(Hands(function))(TOKENS, None).x.equal(function(TOKENS).x)  # type: ignore[arg-type]


def test_a_merger_may_say_that_its_tokens_have_no_order_but_not_that_they_are_elsewhere() -> None:
    for function in (
        merged(position=torch.tensor([4, 1, 4])),
        merged(group=torch.tensor([2, 1, 0])),
        merged(torch.tensor([4, 1, 7]), "renumbered"),
    ):
        assert len(stages.Reduce(Hands(function, in_order=False))(TOKENS, None).x) == 3  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="outside"):
        stages.Reduce(Hands(merged(span=3), in_order=False))(TOKENS, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("positions", ["renumbered", "original"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 3), (2, 3), (3, 5), (4, 7), (5, 5)])
def test_own_mergers_hand_on_valid_tokens_whatever_the_grid(rows: int, columns: int, positions: Any) -> None:
    x = torch.randn(5, rows * columns, 8, generator=torch.Generator().manual_seed(0))
    tokens = Tokens("v", x, torch.zeros(0, 8), grid=(rows, columns))
    pools = [Pool(r, c, f, positions) for r in range(1, rows + 1) for c in range(1, columns + 1) for f in (None, 2)]
    for merge in (Drop(0.3, positions=positions), Stride(0.4, positions=positions), Merge(positions=positions), *pools):
        for dtype in (torch.float32, torch.bfloat16):
            stages.Reduce(merge)(replace(tokens, x=x.to(dtype)), None)  # type: ignore[arg-type]


HEADS, TEXT = 2, 3
LENGTH = COUNT + TEXT


def prefix(**changes: Any) -> Prefix:
    cache = KeyValue(torch.zeros(1, HEADS, LENGTH, 2), torch.zeros(1, HEADS, LENGTH, 2))
    return Prefix(
        video_id="v",
        hidden=torch.zeros(LENGTH, CHANNELS),
        position=torch.arange(LENGTH),
        visual=torch.arange(LENGTH) < COUNT,
        group=torch.arange(COUNT) // PATCHES,
        next_position=LENGTH,
        **{
            "kv": (cache, cache),
            "seen": (Seen(torch.arange(LENGTH), torch.arange(LENGTH) < COUNT),) * 2,
            "usage": Usage(cached_tokens=(COUNT, COUNT)),
            "received": (torch.zeros(HEADS, LENGTH),) * 2,
            **changes,
        },
    )


BAD_CHOICES = {
    "keeps no token; keep at least one": NOTHING,
    "chooses doubled tokens": torch.tensor([1, 1, 2]),
    "chooses unsorted tokens": torch.tensor([2, 1]),
    "chooses tokens 0 to 12; there are 12": torch.tensor([0, 12]),
    "chooses tokens -1 to 3": torch.tensor([-1, 3]),
    "got bool of shape (12,)": torch.arange(COUNT) > 3,
    "got float32 of shape (2,)": torch.tensor([0.0, 1.0]),
    "got int64 of shape (1, 2)": torch.tensor([[0, 1]]),
    "got list": [0, 1],
}


@pytest.mark.parametrize("message", BAD_CHOICES)
def test_a_pruner_that_chooses_no_valid_tokens_is_an_error(message: str) -> None:
    with pytest.raises(InvalidError) as raised:
        stages.Prune(Hands(lambda _: BAD_CHOICES[message]))(prefix(), None)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_scores_that_are_not_finite_choose_nothing() -> None:
    choose = stages.Prune(Hands(lambda _: torch.tensor([0, 3])))  # type: ignore[arg-type]
    assert len(choose(prefix(attention=torch.zeros(HEADS, TEXT, COUNT)), None).group) == 2  # type: ignore[arg-type]
    with pytest.raises(InvalidError, match="NaN or infinite values in the attention that it reads"):
        choose(prefix(attention=with_nan((HEADS, TEXT, COUNT))), None)  # type: ignore[arg-type]


def small(tokens: int = 5, **changes: Any) -> Evicted:
    values = {"key": torch.zeros(1, HEADS, tokens, 2), "value": torch.zeros(1, HEADS, tokens, 2), "visual": 2, **changes}
    return Evicted(KeyValue(values["key"], values["value"]), values["visual"], 0)


BAD_CACHES = {
    "must leave 1 to 15 tokens of float32 of shape (1, 2, 15, 2), got float32 of shape (1, 2, 0, 2)": small(0),
    "got float32 of shape (1, 2, 16, 2)": small(16),
    "got float32 of shape (1, 1, 5, 2)": small(key=torch.zeros(1, 1, 5, 2)),
    "got float32 of shape (1, 2, 4, 2)": small(value=torch.zeros(1, HEADS, 4, 2)),
    "got float64 of shape (1, 2, 5, 2)": small(value=torch.zeros(1, HEADS, 5, 2).double()),
    "must count the visual tokens left, 0 to 5, got 6": small(visual=6),
    "must count the visual tokens left, 0 to 5, got -1": small(visual=-1),
    "NaN or infinite values in the cache of layer 0": small(key=with_nan((1, HEADS, 5, 2))),
    "must hand on Evicted with a KeyValue, got KeyValue for layer 0": small().kv,
}


@pytest.mark.parametrize("message", BAD_CACHES)
def test_an_evictor_that_leaves_no_valid_cache_is_an_error(message: str) -> None:
    with pytest.raises(InvalidError) as raised:
        stages.Evict(Hands(lambda *_: BAD_CACHES[message]))(prefix(), None)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_received_attention_that_is_not_finite_evicts_nothing() -> None:
    received = (torch.zeros(HEADS, LENGTH), with_nan((HEADS, LENGTH)))
    with pytest.raises(InvalidError, match="attention of layer 1 that it reads"):
        stages.Evict(Hands(lambda *_: small()))(prefix(received=received), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_features_that_are_not_finite_are_an_error(value: float, dtype: torch.dtype) -> None:
    encode = stages.Encode()
    model: Any = SimpleNamespace(encode=lambda *_: replace(TOKENS, x=TOKENS.x.to(dtype)))
    assert encode(None, model).x.dtype == dtype  # type: ignore[arg-type]
    bad = {
        "the visual tokens": replace(TOKENS, x=with_nan((2, 6, 4), value).to(dtype)),
        "the tokens after them": replace(TOKENS, suffix=with_nan((1, 4), value).to(dtype)),
        "the fact features": replace(TOKENS, facts={"features": Fact(with_nan((2, 9, 3), value))}),
        "the fact attention.joined": replace(TOKENS, facts={"attention.joined": Fact(with_nan((2, 9), value))}),
    }
    for name, tokens in bad.items():
        model = SimpleNamespace(encode=lambda *_, tokens=tokens: tokens)
        with pytest.raises(InvalidError, match=f"the vision encoder has NaN or infinite values in {name}: 1 of "):
            encode(None, model)  # type: ignore[arg-type]


VOCABULARY = 9


def speaking(logits: Callable[[int], torch.Tensor]) -> Any:
    """A model whose n-th logits a test chooses."""
    state = {"step": 0}

    def head(hidden: torch.Tensor) -> torch.Tensor:
        state["step"] += 1
        return logits(state["step"]).expand(len(hidden), -1)

    return SimpleNamespace(
        logits=head,
        layers=2,
        stop_ids=frozenset({0}),
        embed=lambda ids: torch.zeros(len(ids), CHANNELS),
        text_position=lambda start, count: torch.arange(start, start + count),
        run=lambda hidden, *_: Run(hidden, (), None),
        detokenize=lambda ids: " ".join(map(str, ids)),
        shape=Shape(2, 1, 1, 1, 1, 1, VOCABULARY, VisionShape(1, 1, 1, 1, 1)),
    )


def peaked(token: int, **changes: float) -> torch.Tensor:
    x = torch.zeros(1, VOCABULARY)
    x[0, token] = 5.0
    for place, value in changes.items():
        x[0, int(place[1:])] = value
    return x


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("step", [1, 2, 4])
def test_logits_that_are_not_finite_at_any_step_generate_nothing(step: int, value: float) -> None:
    model = speaking(lambda n: peaked(3, _1=value) if n == step else peaked(3))
    with pytest.raises(InvalidError, match=f"NaN or infinite values in the logits of generated token {step}$"):
        stages.Generate(5)(prefix(), model)


def test_tokens_that_a_model_rules_out_are_no_error() -> None:
    model = speaking(lambda n: peaked(3 if n < 3 else 0, _1=-math.inf))
    assert stages.Generate(5)(prefix(), model).token_ids == (3, 3, 0)
    assert stages.Choose(((3,), (4,)), ("a", "b"))(prefix(), speaking(lambda _: peaked(4, _1=-math.inf))).text == "b"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_of_options_that_are_not_finite_choose_nothing(value: float) -> None:
    for options in (((1,), (4,)), ((4,), (4, 1))):
        with pytest.raises(InvalidError, match="NaN or infinite values in the scores of the options: "):
            stages.Choose(options, ("a", "b"))(prefix(), speaking(lambda _: peaked(3, _1=value)))


def test_an_option_that_the_tokenizer_has_no_token_for_is_named() -> None:
    model: Any = SimpleNamespace(tokenize=lambda text: tuple(token for token in (1,) if text != "A"))
    assert continuation(model, "", "B") == (1,)
    with pytest.raises(ValueError, match="the tokenizer has no token for option 'A'; use protocol.answering=generate"):
        continuation(model, "", "A")


# In an evaluation


@dataclass(frozen=True)
class BrokenMerge:
    """A user's method with a fault that depends on the video."""

    fault: str

    def __call__(self, tokens: Tokens) -> Merged:
        if self.fault == "index":
            return torch.zeros(3)[len(tokens.video_id) + 3]  # type: ignore[return-value]
        if self.fault == "unpack":
            _, _ = (1, 2, len(tokens.video_id))  # type: ignore[misc]
        return keep_tokens(tokens, torch.tensor([2, 1]), "original")


def test_broken_methods_are_error_records_with_one_traceback_a_kind(
    samples: list[Sample], model: LlavaOnevision, caplog: pytest.LogCaptureFixture
) -> None:
    some, protocol = samples[:6], Protocol("words", "choose")
    trials = [Candidate(fault, Reducer(fault, BrokenMerge(fault)), 4, protocol) for fault in ("index", "unpack", "order")]
    with caplog.at_level(logging.ERROR, "prunesweep.sweep.evaluate"):
        found = evaluate(lambda: model, some, [*trials, Candidate("fine", Reducer("none"), 4, protocol)], progress=False).records
    errors = {name: set(records["error"]) for name, records in found.items()}
    assert errors["fine"] == {None}
    assert all(error.startswith("IndexError: index ") for error in errors["index"])
    assert all(error.startswith("ValueError: too many values to unpack") for error in errors["unpack"])
    assert {error.partition(";")[0] for error in errors["order"]} == {
        "InvalidError: test_validity.BrokenMerge hands on unsorted positions"
    }
    logged = [record for record in caplog.records if record.exc_info]
    assert sorted(record.exc_info[0].__name__ for record in logged) == ["IndexError", "ValueError"]  # type: ignore[index,union-attr]
    assert all("failed in Reduce with" in record.getMessage() for record in logged)

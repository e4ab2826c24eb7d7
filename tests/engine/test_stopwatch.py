"""Seconds of stages, told by the device that runs them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prunesweep.engine.prefix_tree import Clock
from prunesweep.engine.stages import Layers
from prunesweep.engine.stopwatch import begun


class Event:
    """Of a device whose work between two of them takes 250 ms."""

    ticks: Iterator[int]
    waited: list[int]

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self) -> None:
        self.at = next(self.ticks)

    def synchronize(self) -> None:
        self.waited.append(self.at)

    def elapsed_time(self, other: Event) -> float:
        return 250.0 * (other.at - self.at)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> type[Event]:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    Event.ticks, Event.waited = count(), []
    return Event


CUDA: Any = SimpleNamespace(type="cuda")


def test_a_gpu_is_asked_for_its_own_seconds_and_waited_for_only_when_they_are_read(events: type[Event]) -> None:
    ended = begun(CUDA)
    seconds = ended()
    assert not events.waited
    assert seconds() == 0.25
    assert events.waited == [1]


def test_a_clock_waits_once_for_all_that_was_booked(events: type[Event]) -> None:
    clock = Clock()
    for _ in range(3):
        clock.book(Layers(0, 2), begun(CUDA)(), jobs=4)
    together = begun(CUDA)()
    for _ in range(2):
        clock.book(Layers(2, 3), together, jobs=1, part=0.5)
    assert (clock.run, clock.alone, events.waited) == (5, 14, [])
    clock.read()
    assert clock.seconds == {"LLM": 1.0}
    assert clock.kinds == {"Layers": [8, 1.0]}
    clock.read()
    assert clock.seconds == {"LLM": 1.0}


def test_a_cpu_is_timed_by_the_clock() -> None:
    ended = begun(torch.device("cpu"))
    assert 0 <= ended()() < 60

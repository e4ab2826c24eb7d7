"""What is spoken in a video, and which of it at the frames that are shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Subtitles = Literal["none", "all", "frames"]
TIMES = re.compile(r"(\d+):(\d+):(\d+)[,.](\d+)\s*-->\s*(\d+):(\d+):(\d+)[,.](\d+)")
MARKUP = re.compile(r"<[^>]+>")


class Line(NamedTuple):
    """One subtitle; seconds."""

    start: float
    end: float
    text: str


def at_frames(lines: Iterable[Line], duration: float, frames: int) -> list[Line]:
    """Lines on the screen at one of so many frames, each in the middle of its share of the video."""
    times = [(i + 0.5) * duration / frames for i in range(frames)]
    return [line for line in lines if any(line.start <= time <= line.end for time in times)]


def text_of(lines: Sequence[Line]) -> str:
    return "\n".join(line.text for line in lines)


def read_srt(file: Path) -> list[Line]:
    """Lines of a SubRip file, without markup."""
    found = []
    for block in re.split(r"\n\s*\n", file.read_text(encoding="utf-8-sig", errors="replace")):
        if times := TIMES.search(block):
            hours = [int(part) for part in times.groups()]
            start, end = (3600 * h + 60 * m + s + ms / 1000 for h, m, s, ms in (hours[:4], hours[4:]))
            text = " ".join(MARKUP.sub("", block[times.end() :]).split())
            if text:
                found.append(Line(start, end, text))
    return found

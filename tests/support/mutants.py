"""Damaged copies of a video, of every kind that people's disks and downloads hold."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def truncated(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.randrange(1, len(data) - 1)]


def truncated_with_its_header(data: bytes, dice: random.Random) -> bytes:
    """Of a file whose header comes first, as on the web: the header promises frames that are not there."""
    return data[: dice.randrange(data.index(b"mdat") + 8, len(data) - 200)]


def flipped_bits(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice([1, 8, 64, 512])):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def flipped_header(data: bytes, dice: random.Random) -> bytes:
    """Bits of the index alone, where a size or an offset goes wrong."""
    start = data.index(b"moov")
    changed = bytearray(data)
    for _ in range(dice.choice([1, 4, 16])):
        changed[dice.randrange(start, min(len(data), start + 900))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def wrong_header(data: bytes, dice: random.Random) -> bytes:
    return dice.choice([b"RIFF....AVI LIST", b"\x1aE\xdf\xa3matroska", b"GIF89a", bytes(32), b"OggS" * 8]) + data[32:]


def empty(data: bytes, dice: random.Random) -> bytes:
    return bytes(dice.choice([0, 1, 4096]))


def text(data: bytes, dice: random.Random) -> bytes:
    return dice.choice(
        ["404 Not Found", "<html>Sign in to continue</html>\n" * 50, "version https://git-lfs.github.com/spec/v1"]
    ).encode()


def audio_only(data: bytes, dice: random.Random) -> bytes:
    return sound(seconds=dice.choice([0.2, 1.0]))


def over_reported(data: bytes, dice: random.Random) -> bytes:
    """The index counts more frames than there are: `stts` says how many last how long, `stsz` how many there are."""
    changed = bytearray(data)
    more = dice.choice([1, 7, 100, 10**6])
    for box in (b"stts", b"stsz"):
        at = data.index(box) + 12  # name, version, then the number of entries or the common size
        (count,) = struct.unpack(">I", data[at : at + 4])
        changed[at : at + 4] = struct.pack(">I", count + more)
    return bytes(changed)


UNREADABLE = {"truncated", "truncated_with_its_header", "wrong_header", "empty", "text", "audio_only"}
"""Kinds that hold no whole video; the others may still play, with or without blemishes."""
KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    one.__name__: one
    for one in (
        truncated,
        truncated_with_its_header,
        flipped_bits,
        flipped_header,
        wrong_header,
        empty,
        text,
        audio_only,
        over_reported,
    )
}


def write_video(path: Path, seed: int, header_first: bool) -> None:
    """Two seconds of moving noise in H.264; with its index at the front or at the end."""
    noise = np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"} if header_first else {}) as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for number in range(24):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, 3 * number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def sound(seconds: float) -> bytes:
    import io

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16000)
        for number in range(int(seconds * 16000) // 1024 + 1):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            frame.rate, frame.pts, frame.time_base = 16000, 1024 * number, Fraction(1, 16000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def write_mutants(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """`count` damaged files, as many of each kind."""
    dice = random.Random(seed)
    for header_first in (False, True):
        write_video(folder / f"good{header_first:d}.mp4", seed, header_first)
    good = {first: (folder / f"good{first:d}.mp4").read_bytes() for first in (False, True)}
    paths = []
    for number in range(count):
        name = list(KINDS)[number % len(KINDS)]
        data = good[name == "truncated_with_its_header" or (number // len(KINDS)) % 2 == 1]
        path = folder / f"{number:03d}_{name}.mp4"
        path.write_bytes(KINDS[name](data, dice))
        paths.append(path)
    return paths

"""Clips that are read before they are asked for are those that would be read then, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from prunesweep.embedded.h264 import write_video
from prunesweep.types import Clip
from prunesweep.video.prefetch import Asked, Prefetch
from prunesweep.video.reader import DECODE_SECONDS, Decoder, TooSlowError, VideoError, read_clip
from support.decoders import Killing

MANY = 2**40
"""Bytes."""
CLIP = 4 * 64 * 96 * 3
"""Bytes of one that is asked for here."""
SOON = 300.0
"""Seconds within which anything here is done on a busy machine."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(6):
        frames = np.full((12, 64, 96, 3), 20 * number, np.uint8)
        frames[:, :, 8 * number : 8 * number + 8] = 255
        write_video(folder / f"{number}.mp4", frames)
    return sorted(folder.glob("*.mp4"))


@pytest.fixture(scope="module")
def long(videos: list[Path]) -> Path:
    """A video that takes a while."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 240, 320, 3), np.uint8)
    write_video(videos[0].with_name("long.mp4"), noise)
    return videos[0].with_name("long.mp4")


def asked(path: Path, frames: int = 4, seconds: float = DECODE_SECONDS) -> Asked:
    return (path, path.stem, frames, None, None, "even", None, seconds)


@contextmanager
def prefetching(decoders: int, most_bytes: int = MANY) -> Iterator[Prefetch]:
    reading = Prefetch(decoders, most_bytes)
    try:
        yield reading
    finally:
        reading.close()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def found_by(reading: Prefetch) -> list[str]:
    """Names of the videos whose clips wait."""
    with reading._change:
        return [one.asked[0].name for one in reading._expected.values() if one.found is not None]


def halted(decoder: Decoder) -> int:
    """Its process, from now on as slow as can be."""
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGSTOP)
    return decoder._process.pid


def same(one: Clip, other: Clip) -> bool:
    return one.video_id == other.video_id and one.timestamps == other.timestamps and torch.equal(one.frames, other.frames)


@pytest.mark.parametrize("decoders", [1, 3])
def test_clips_are_those_of_read_clip_in_any_order_and_foreseen_or_not(decoders: int, videos: list[Path]) -> None:
    with prefetching(decoders) as reading:
        reading.expect(map(asked, videos[:5]))
        for path in (videos[0], videos[3], videos[1], videos[5], videos[4], videos[2], videos[2]):
            assert same(reading(*asked(path)), read_clip(*asked(path)))
        assert found_by(reading) == []


def test_errors_are_raised_where_the_clip_is_asked_for(videos: list[Path], tmp_path: Path, long: Path) -> None:
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 100)
    bad = {
        asked(tmp_path / "noise.mp4"): VideoError,
        asked(tmp_path / "gone.mp4"): VideoError,
        asked(long, seconds=0.001): TooSlowError,
    }
    with prefetching(2) as reading:
        reading.expect([*bad, asked(videos[0])])
        assert len(reading(*asked(videos[0])).frames) == 4
        for one, kind in bad.items():
            with pytest.raises(kind) as ahead:
                reading(*one)
            with pytest.raises(kind) as now:
                read_clip(*one)
            if kind is not TooSlowError:  # which has two bounds, of time and of waiting; a busy machine meets either first
                assert str(ahead.value) == str(now.value)


@pytest.mark.parametrize(("room", "waiting"), [(0, 1), (2 * CLIP, 2), (3.5 * CLIP, 3)])
def test_no_more_clips_wait_than_there_is_room_for(room: int, waiting: int, videos: list[Path]) -> None:
    with prefetching(3, room) as reading:
        reading.expect([asked(videos[0])])
        reading(*asked(videos[0]))  # of another clip's size nothing is known before
        reading.expect(map(asked, videos[1:]))
        until(lambda: len(found_by(reading)) == waiting)
        time.sleep(0.3)
        assert len(found_by(reading)) == waiting
        for path in videos[:0:-1]:
            assert len(reading(*asked(path)).frames) == 4, "what is waited for needs no room"


def test_what_will_not_be_asked_for_is_dropped(videos: list[Path]) -> None:
    with prefetching(2, 2 * CLIP) as reading:
        reading.expect(map(asked, videos[:3]))
        until(lambda: len(found_by(reading)) == 2)
        reading.expect(map(asked, videos[3:5]))
        until(lambda: found_by(reading) == ["3.mp4", "4.mp4"])


def test_a_video_that_takes_long_stalls_no_other_one(videos: list[Path]) -> None:
    with prefetching(2) as reading:
        for decoder in reading._decoders:
            read_clip(*asked(videos[0]), decoder=decoder)  # it has started
        slow = halted(reading._decoders[0])
        reading.expect(map(asked, videos))
        until(lambda: len(found_by(reading)) == len(videos) - 1)
        (awaited,) = [path for path in videos if path.name not in found_by(reading)]
        reading.expect([asked(awaited), *(asked(path, frames) for frames in (3, 2) for path in videos)])
        until(lambda: len(found_by(reading)) == 2 * len(videos))
        threading.Timer(1.0, os.kill, (slow, signal.SIGCONT)).start()
        assert same(reading(*asked(awaited)), read_clip(*asked(awaited)))


def test_a_decoder_killed_in_the_middle_is_started_once_more(videos: list[Path]) -> None:
    with prefetching(1) as reading:
        reading._decoders[0].close()
        with Killing(reading._decoders[0], times=1) as killing:
            reading.expect([asked(videos[0])])
            found = reading(*asked(videos[0]))
        assert len(killing.killed) == 1
        assert same(found, read_clip(*asked(videos[0])))


def test_a_clip_whose_decoder_is_killed_again_is_an_error_and_the_next_one_is_not(videos: list[Path]) -> None:
    with prefetching(1) as reading:
        reading._decoders[0].close()
        with Killing(reading._decoders[0], times=2) as killing:
            reading.expect([asked(videos[0]), asked(videos[1])])
            with pytest.raises(VideoError, match=r"0.mp4: not a readable video: the decoder was ended by SIGKILL"):
                reading(*asked(videos[0]))
        assert len(killing.killed) == 2
        assert same(reading(*asked(videos[1])), read_clip(*asked(videos[1])))


def test_closing_ends_what_is_being_read_and_the_next_one_reads(videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunesweep.video.prefetch.PATIENCE_SECONDS", SOON)
    reading = Prefetch(2, MANY)
    for decoder in reading._decoders:
        read_clip(*asked(videos[0]), decoder=decoder)
        halted(decoder)
    reading.expect(map(asked, videos))
    until(lambda: sum(one.begun for one in reading._expected.values()) == 2)
    reading.close()
    assert not any(thread.is_alive() for thread in reading._threads)
    with prefetching(2) as again:
        again.expect(map(asked, videos))
        assert all(same(again(*asked(path)), read_clip(*asked(path))) for path in videos)


def test_decoders_are_used_again_by_the_next_one(videos: list[Path]) -> None:
    processes = []
    for _ in range(2):
        with prefetching(1) as reading:
            reading.expect([asked(videos[0])])
            reading(*asked(videos[0]))
            processes.append(reading._decoders[0]._process)
    assert processes[0] is processes[1] is not None


WAIT = """
import os, signal, sys
from pathlib import Path
from prunesweep.video.prefetch import Prefetch

reading, asked = Prefetch(1, 1), (Path(sys.argv[1]), "v", 4, None, None, "even", None, 120.0)
reading.expect([asked])
reading(*asked)
os.kill(reading._decoders[0]._process.pid, signal.SIGSTOP)
reading.expect([asked])
try:
    print("waiting", flush=True)  # inside, for a machine that is too busy to get from here to the next line in time
    reading(*asked)
except KeyboardInterrupt:
    reading.close()
    print("interrupted")
"""


def test_whoever_waits_can_be_interrupted(videos: list[Path]) -> None:
    process = subprocess.Popen([sys.executable, "-c", WAIT, str(videos[0])], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    timer = threading.Timer(SOON, process.kill)
    timer.start()
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == "interrupted\n"
    assert process.wait() == 0
    timer.cancel()


FULL = 'mount -t tmpfs -o size=4k tmpfs /dev/shm && { head -c 1M /dev/zero > /dev/shm/full || true; } && exec "$@"'
"""In a mount namespace of its own."""
READ = """
import sys
from pathlib import Path
from prunesweep.video.prefetch import Prefetch

try:
    Path("/dev/shm/more").write_bytes(bytes(2**16))
    sys.exit("there is room")
except OSError:
    pass
reading, clips = Prefetch(2, 2**30), [(Path(name), "v", 400, None, None, "even", None, 120.0) for name in sys.argv[1:]]
reading.expect(clips)
print([reading(*one).frames.nbytes for one in clips])
reading.close()
"""


def test_nothing_is_kept_in_shared_memory_which_may_be_full(videos: list[Path]) -> None:
    apart = ["unshare", "--map-root-user", "--mount", "sh", "-c", FULL, "sh"]
    try:
        subprocess.run([*apart, "true"], check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no mount namespace may be made here")
    command = [*apart, sys.executable, "-c", READ, *map(str, videos[:3])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SOON)
    assert done.stdout == f"{[100 * CLIP] * 3}\n", done.stderr

import os
import signal
import time
from pathlib import Path

import pytest

from prunesweep.types import Sample
from prunesweep.video import decoder as decoding
from prunesweep.video.reader import Decoder, DecoderError, DecoderTimeError, VideoError, frame_indices, read_clip
from support.decoders import Killing


@pytest.fixture
def video(samples: list[Sample]) -> Path:
    return samples[0].path


def test_frames_are_in_the_middles_of_equal_shares() -> None:
    assert frame_indices(0, 12, 4) == [1, 4, 7, 10]
    assert frame_indices(0, 12, 12) == list(range(12))
    assert frame_indices(5, 7, 4) == [5, 5, 6, 6]
    assert frame_indices(3, 4, 3) == [3, 3, 3]


def test_a_clip_has_its_frames_and_times(video: Path) -> None:
    clip = read_clip(video, "v", frames=6)
    assert clip.frames.shape == (6, 96, 96, 3)
    assert clip.timestamps == tuple(i / 4 for i in (1, 3, 5, 7, 9, 11))


def test_bounds_in_seconds(video: Path) -> None:
    assert read_clip(video, "v", 2, start=1.0, end=2.0).timestamps == (1.25, 1.75)
    with pytest.raises(VideoError, match=r"no frames from 9 s; it lasts 3.0 s"):
        read_clip(video, "v", 2, start=9.0)


@pytest.mark.parametrize("content", [b"", b"not a video at all", bytes(5000)], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_video_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="broken.mp4: not a readable video"):
        read_clip(path, "v", 4)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, video: Path, share: float) -> None:
    data = video.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VideoError, match="cut.mp4: not a readable video"):
        read_clip(path, "v", 4)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="gone.mp4: no such file"):
        read_clip(tmp_path / "gone.mp4", "v", 4)


def request(path: Path, waited: float = 60.0) -> dict[str, object]:
    return {"path": str(path), "frames": 6, "start": None, "end": None, "sampling": "even", "seconds": 60.0, "waited": waited}


def test_the_decoders_process_gives_the_frames_of_the_decoder(video: Path) -> None:
    _, pixels = decoding._decode(request(video))
    assert pixels is not None
    assert (read_clip(video, "v", frames=6).frames.numpy() == pixels).all()


def test_a_decode_that_hangs_is_ended_and_the_next_one_works(tmp_path: Path, video: Path) -> None:
    endless = tmp_path / "endless.mp4"
    os.mkfifo(endless)  # the decoder waits for its first byte, in C
    decoder, begin = Decoder(), time.monotonic()
    with pytest.raises(DecoderTimeError, match=r"decoding waited for more than 0.5 s"):
        decoder.ask(request(endless, waited=0.5))
    assert time.monotonic() - begin < 60
    assert len(decoder.ask(request(video))[0]) == 6
    decoder.close()


def test_a_decoder_that_is_killed_is_started_once_more(video: Path) -> None:
    decoder = Decoder()
    before = decoder.ask(request(video))
    assert decoder._process is not None
    os.kill(decoder._process.pid, signal.SIGKILL)
    after = decoder.ask(request(video))
    assert (after[1] == before[1]).all()
    decoder.close()


def test_a_file_that_always_crashes_the_decoder_is_one_clips_error(tmp_path: Path, video: Path) -> None:
    endless = tmp_path / "endless.mp4"
    os.mkfifo(endless)
    decoder = Decoder()
    with Killing(decoder, signal.SIGSEGV) as killing, pytest.raises(DecoderError, match="the decoder was ended by SIGSEGV"):
        decoder.ask(request(endless))
    assert len(set(killing.killed)) == 2, "it was asked once more"
    assert len(decoder.ask(request(video))[0]) == 6
    decoder.close()


def test_the_decoder_leaves_signals_to_its_caller_and_ends_with_it(video: Path) -> None:
    decoder = Decoder()
    decoder.ask(request(video))
    process = decoder._process
    assert process is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(process.pid, number)
    assert len(decoder.ask(request(video))[0]) == 6
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=60) == 0


def test_a_numpy_file_in_the_current_folder_is_not_imported(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    decoder = Decoder()
    assert len(decoder.ask(request(video))[0]) == 6
    decoder.close()

"""The frames that come back are those that were asked for, whatever the container, the codec and the groups of pictures."""

from __future__ import annotations

import signal
import wave
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from prunesweep.engine.scoring import failure
from prunesweep.engine.stages import Decode
from prunesweep.results.store import Store, to_rows
from prunesweep.sweep import data_check as dataset
from prunesweep.sweep.work import Addresses, left_to_do
from prunesweep.types import Sample
from prunesweep.video import films
from prunesweep.video.films import Counted, Placed, read_frames
from prunesweep.video.packets import FilmError, listed
from prunesweep.video.reader import Decoder, DecoderTimeError, TooSlowError, VideoError, frames_in, read_clip, repeated
from prunesweep.video.timeline import Timeline, frame_indices
from support.numbered import MILLISECONDS, number_of, played, write

FRAMES, RATE = 90, 30
EVEN = [number / RATE for number in range(FRAMES)]
SHORT = {"g": "12"}
BOTH = {"g": "12", "bf": "2"}
X264 = {"preset": "ultrafast", "g": "12"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=24:min-keyint=12"}
LONG265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
CLOSED265 = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:open-gop=0"}
OPEN = {"preset": "veryfast", "g": "12", "x264-params": "open-gop=1:bframes=3"}
REFRESH = {"preset": "veryfast", "g": "12", "x264-params": "intra-refresh=1"}
VPX = {"g": "12", "deadline": "realtime", "cpu-used": "8"}
ALT = {"g": "24", "auto-alt-ref": "1", "lag-in-frames": "16", "arnr-maxframes": "5", "cpu-used": "8", "b": "200k"}
TICK = Fraction(1, RATE)
MATRIX = {
    "h264.mp4": ("libx264", X264, TICK),
    "h264_b.mp4": ("libx264", {"preset": "veryfast", **BOTH}, TICK),
    "h264_open.mp4": ("libx264", OPEN, TICK),
    "h264_refresh.mp4": ("libx264", REFRESH, TICK),
    "h264_one_group.mov": ("libx264", {"preset": "veryfast"}, TICK),
    "h264_b.mkv": ("libx264", {"preset": "veryfast", **BOTH}, MILLISECONDS),
    "h264_b.flv": ("libx264", {"preset": "veryfast", **BOTH}, MILLISECONDS),
    "h264_open.ts": ("libx264", OPEN, TICK),
    "h264_refresh.ts": ("libx264", REFRESH, TICK),
    "h264.avi": ("libx264", X264, TICK),
    "h264_b.avi": ("libx264", {"preset": "veryfast", **BOTH}, TICK),
    "h264_b.asf": ("libx264", {"preset": "veryfast", **BOTH}, MILLISECONDS),
    "hevc_defaults.mp4": ("libx265", LONG265, MILLISECONDS),
    "hevc_open.mp4": ("libx265", X265, TICK),
    "hevc_closed.mp4": ("libx265", CLOSED265, TICK),
    "hevc_open.mkv": ("libx265", X265, MILLISECONDS),
    "hevc_open.ts": ("libx265", X265, TICK),
    "mpeg4_b.avi": ("mpeg4", BOTH, TICK),
    "mpeg4.avi": ("mpeg4", SHORT, TICK),
    "mpeg4_b.mp4": ("mpeg4", BOTH, TICK),
    "mpeg4_b.mkv": ("mpeg4", BOTH, MILLISECONDS),
    "mpeg2_b.mpg": ("mpeg2video", BOTH, TICK),
    "mpeg2_b.ts": ("mpeg2video", BOTH, TICK),
    "mpeg2_b.vob": ("mpeg2video", BOTH, TICK),
    "mpeg1_b.mpg": ("mpeg1video", BOTH, TICK),
    "wmv2.wmv": ("wmv2", SHORT, MILLISECONDS),
    "vp8_hidden.webm": ("libvpx", ALT, MILLISECONDS),
    "vp9.webm": ("libvpx-vp9", VPX, MILLISECONDS),
    "vp9.mp4": ("libvpx-vp9", VPX, TICK),
    "av1.mp4": ("libsvtav1", {"preset": "12", "g": "24"}, TICK),
    "av1.webm": ("libsvtav1", {"preset": "12", "g": "24"}, MILLISECONDS),
    "mjpeg.avi": ("mjpeg", {}, TICK),
    "h263.3gp": ("h263", SHORT, TICK),
    "flv1.flv": ("flv", SHORT, MILLISECONDS),
    "raw.h264": ("libx264", {"preset": "veryfast", **BOTH}, TICK),
    "frames.gif": ("gif", {}, Fraction(1, 100)),
    "streamed.mkv": ("libx264", {"preset": "veryfast", **BOTH}, MILLISECONDS),
    "streamed.webm": ("libvpx-vp9", VPX, MILLISECONDS),
    "fragments.mp4": ("libx264", {"preset": "veryfast", **BOTH}, TICK),
}
MUXERS = {
    "streamed.mkv": {"live": "1"},  # no duration, no index
    "streamed.webm": {"live": "1"},
    "fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
}
PIXELS = {"gif": "rgb8", "mjpeg": "yuvj420p"}
SIZES = {"h263": (176, 144)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films")


def film_of(name: str, folder: Path, times: list[float]) -> Path:
    codec, options, base = MATRIX[name]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    return write(
        folder / name,
        times,
        codec,
        options,
        SIZES.get(codec, (192, 96)),
        base,
        PIXELS.get(codec, "yuv420p"),
        muxer=MUXERS.get(name),
    )


def shown(pixels: np.ndarray) -> list[int]:
    return [number_of(picture) for picture in pixels]


@pytest.mark.parametrize("name", MATRIX)
def test_every_chosen_frame_of_a_constant_rate_is_the_right_one(name: str, folder: Path) -> None:
    path = film_of(name, folder, EVEN)
    assert played(path) == list(range(FRAMES)), "the film itself is in order"
    for frames, start, end in ((7, None, None), (FRAMES, None, None), (5, 1.0, 2.0), (3, 2.5, None), (4, None, 0.3)):
        first = 0 if start is None else round(start * RATE)
        last = FRAMES if end is None else round(end * RATE)
        found = read_frames(str(path), frames, start, end, "even")
        expected = frame_indices(first, last, frames)
        assert shown(found.pixels) == expected
        assert found.timestamps == pytest.approx([number / RATE for number in expected], abs=0.011)


def variable(quick: int, slow: int) -> list[float]:
    """A second at 30 frames a second, a gap of two seconds, then 5 a second: a phone, or a recording of a screen."""
    return [n / 30 for n in range(quick)] + [3 + n / 5 for n in range(slow)]


VARIABLE = ("h264_b.mp4", "h264_b.mkv", "h264_open.ts", "hevc_open.mp4", "vp9.webm", "av1.mp4", "h264_b.flv", "mpeg4_b.mkv")


@pytest.mark.parametrize("name", VARIABLE)
@pytest.mark.parametrize("part", [(None, None), (3.0, 7.0), (0.0, 2.0), (4.0, None), (1.5, 2.5)])
def test_a_chosen_moment_of_a_variable_rate_shows_what_is_on_the_screen_then(
    name: str, part: tuple[float | None, float | None], folder: Path
) -> None:
    times, frames = variable(30, 30), 6
    codec, options, _ = MATRIX[name]
    path = folder / f"variable_{name}"
    if not path.exists():
        write(path, times, codec, options, base=MILLISECONDS)
    found = read_frames(str(path), frames, *part, "even")
    seen = shown(found.pixels)
    assert found.timestamps == pytest.approx([times[number] for number in seen], abs=0.002)
    length = Placed.of(str(path), listed(str(path))).timeline.seconds
    assert times[-1] < length < times[-1] + 0.21, "containers differ in what they say of the last frame"
    start, end = part[0] or 0.0, min(part[1] or 99.0, length)
    inside = [number for number, time in enumerate(times) if start <= time < end]
    for index, number in enumerate(seen):
        moment = start + (index + 0.5) * (end - start) / frames
        low, high = (bisect_right(times, moment + shift) - 1 for shift in (-0.04, 0.04))  # one frame of the quick rate
        if inside:  # a frame from before the part only if it has none of its own
            low, high = (min(max(one, inside[0]), inside[-1]) for one in (low, high))
        assert low <= number <= high


@pytest.mark.parametrize("name", ["h264_b.avi", "h264_b.asf", "mpeg4_b.avi", "mpeg4_b.asf", "mpeg2_b.avi"])
def test_frames_out_of_order_at_uneven_times_that_no_packet_says_are_an_error(name: str, tmp_path: Path) -> None:
    codec, options = {"h264": "libx264", "mpeg4": "mpeg4", "mpeg2": "mpeg2video"}[name.split("_")[0]], BOTH
    path = write(tmp_path / name, variable(30, 30), codec, options, base=MILLISECONDS if name.endswith("asf") else TICK)
    for read in (lambda: read_frames(str(path), 6, 0, 2, "even"), lambda: films.frames_between(str(path), None, None)):
        with pytest.raises(FilmError, match="does not say when its frames are shown"):
            read()


@pytest.mark.parametrize("name", ["h264.avi", "h264.asf", "mpeg4.avi", "mpeg4.asf", "mjpeg.avi", "wmv2.wmv"])
def test_frames_in_order_at_uneven_times_are_shown_when_they_are_decoded(name: str, tmp_path: Path) -> None:
    codec, options = {"h264": ("libx264", X264), "mjpeg": ("mjpeg", {})}.get(name.split(".")[0], (name.split(".")[0], SHORT))
    times, base = variable(30, 30), TICK if name.endswith("avi") else MILLISECONDS
    path = write(tmp_path / name, times, codec, options, base=base, pixels=PIXELS.get(codec, "yuv420p"))
    for start, end in ((0, 2), (3, 7), (4, None)):
        found = read_frames(str(path), 6, start, end, "even")
        assert found.timestamps == pytest.approx([times[number] for number in shown(found.pixels)], abs=0.002)


def test_both_ways_of_reading_give_the_same_pictures(folder: Path) -> None:
    path = str(film_of("hevc_open.mp4", folder, EVEN))
    packets, wanted = listed(path), [3, 25, 26, 50, 89]
    placed, counted = (kind.of(path, packets).pictures(wanted) for kind in (Placed, Counted))
    assert all((placed[index] == counted[index]).all() for index in wanted)


def test_a_film_whose_packets_lie_is_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film_of("h264_b.mp4", folder, EVEN)
    true = listed(str(path))
    swapped = tuple(one._replace(pts=-one.pts) for one in true.listed if one.pts is not None)
    monkeypatch.setattr(films, "listed", lambda _: true.__class__(swapped, true.base, true.rate, true.timed))
    assert shown(read_frames(str(path), 7, None, None, "even").pixels) == frame_indices(0, FRAMES, 7)


def test_seconds_count_from_the_first_frame_that_is_shown(tmp_path: Path) -> None:
    late = write(tmp_path / "late.ts", [40 + time for time in EVEN], options=BOTH)
    cut = write(tmp_path / "cut.mp4", [time - 0.5 for time in EVEN], options=BOTH)  # an edit list hides half a second
    for path in (late, cut):
        numbers = played(path)
        found = read_frames(str(path), len(numbers), None, None, "even")
        assert shown(found.pixels) == numbers
        assert found.timestamps == pytest.approx([n / RATE for n in range(len(numbers))], abs=0.002)


def test_a_part_beyond_the_film_is_what_the_film_has_of_it(folder: Path) -> None:
    path = film_of("h264.mp4", folder, EVEN)
    assert read_clip(path, "v", 4, -3, 1).timestamps == read_clip(path, "v", 4, 0, 1).timestamps
    assert read_clip(path, "v", 4, 2, 99).timestamps == read_clip(path, "v", 4, 2, 3).timestamps
    for start, end in ((3.5, None), (-4, -2), (2, 1)):
        with pytest.raises(VideoError, match=r"h264.mp4: no frames from .* it lasts 3.0 s"):
            read_clip(path, "v", 4, start, end)


@pytest.mark.parametrize("size", [(4, 96), (6, 240), (96, 4)])
def test_narrow_films_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write(tmp_path / "narrow.mkv", EVEN[:10], "ffv1", size=size, base=MILLISECONDS)
    assert read_clip(path, "v", 4).frames.shape == (4, size[1], size[0], 3)


def test_a_film_that_is_to_be_turned_is_turned(tmp_path: Path) -> None:
    plain, turned = (write(tmp_path / f"{angle}.mp4", EVEN[:5], turned=angle) for angle in (0, 90))
    upright = read_clip(plain, "v", 2).frames.numpy()
    assert (read_clip(turned, "v", 2).frames.numpy() == np.rot90(upright, axes=(1, 2))).all()


def test_sound_alone_is_named(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(bytes(8000))
    with pytest.raises(VideoError, match=r"speech.wav: not a video: it holds sound alone"):
        read_clip(tmp_path / "speech.wav", "v", 4)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mov"])
def test_a_film_cut_off_anywhere_in_its_head_is_damaged_and_only_an_unknown_codec_lacks_a_decoder(
    name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, EVEN[:5], options=X264)
    data = path.read_bytes()
    head = data.index(b"moov")
    moved = data[: data.index(b"mdat") - 4] + data[head - 4 :]  # the head before the pictures, as on the web
    for end in range(40, len(moved), 16):
        path.write_bytes(moved[:end])
        with pytest.raises(FilmError, match="damaged, truncated or of another format"):
            read_frames(str(path), 4, None, None, "even")
    path.write_bytes(data.replace(b"avc1", b"zzzz"))
    with pytest.raises(FilmError, match="no decoder for it"):
        read_frames(str(path), 4, None, None, "even")


@pytest.mark.parametrize("name", ["vp9.webm", "h264_b.mkv"])
def test_a_film_that_ends_before_its_file_says_is_damaged_where_it_is_asked_about(name: str, tmp_path: Path) -> None:
    times = [number / RATE for number in range(2 * FRAMES)]
    path = film_of(name, tmp_path, times)
    assert len(read_frames(str(path), 4, None, None, "even").timestamps) == 4
    whole = path.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], whole[:middle] + bytes(len(whole) - middle)):
        path.write_bytes(damaged)
        for part in ((None, None), (0.0, 6.0), (5.5, 6.0)):
            with pytest.raises(FilmError, match=r"damaged or truncated: its frames end at \d.\d s, .* it lasts 6.0 s"):
                read_frames(str(path), 4, *part, "even")
        there = read_frames(str(path), 3, 0.0, 1.0, "even")
        assert there.timestamps == pytest.approx([number / RATE for number in shown(there.pixels)], abs=0.002)
    assert dataset.check([asked_about(path)], {}, dataset.Look(4)).faults == 1


def test_sound_that_goes_on_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "sound.mkv"
    with av.open(str(write(tmp_path / "film.mkv", EVEN[:30], base=MILLISECONDS))) as source, av.open(str(path), "w") as out:
        pictures = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = pictures
                out.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 5 * 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    assert shown(read_frames(str(path), 3, None, None, "even").pixels) == frame_indices(0, 30, 3)


def test_a_film_that_its_index_promises_more_of_is_no_film(folder: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "fast.mp4", EVEN, options=X264)
    whole = path.read_bytes()
    moved = tmp_path / "moved.mp4"
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    moved.write_bytes(moved.read_bytes()[: len(whole) * 2 // 3])
    with pytest.raises(FilmError, match="not a readable video"):
        read_frames(str(moved), 4, None, None, "even")


def test_a_rate_is_constant_where_the_times_say_so() -> None:
    rounded = tuple(round(1000 * time) for time in EVEN)
    assert Timeline(rounded, 3000, MILLISECONDS, Fraction(30)).rate == 30
    assert Timeline(rounded, 3000, MILLISECONDS, Fraction(15)).rate == pytest.approx(30, abs=0.01)
    assert Timeline((*rounded[:40], *rounded[41:]), 3000, MILLISECONDS, Fraction(30)).rate is None, "one frame was dropped"
    assert Timeline((0,), 40, MILLISECONDS).chosen(3, None, None) == [0, 0, 0]


# The limit


def test_a_decode_beyond_its_processor_time_is_another_error_and_the_next_one_works(folder: Path) -> None:
    path = film_of("h264.mp4", folder, EVEN)
    asked = {"path": str(path), "frames": 4, "start": None, "end": None, "sampling": "even", "waited": 600.0}
    decoder = Decoder()
    with pytest.raises(DecoderTimeError, match=r"decoding took more than 0.001 s of processor time; set video.seconds higher"):
        decoder.ask({**asked, "seconds": 0.001})  # starting PyAV alone takes more
    assert len(decoder.ask({**asked, "seconds": 60.0}).numbers) == 4
    decoder.close()
    assert signal.getsignal(signal.SIGPROF) == signal.SIG_DFL


def test_the_limit_is_no_part_of_what_answers(folder: Path) -> None:
    one, other = (Decode(folder / "h264.mp4", "v", 4, None, None, seconds=seconds) for seconds in (1.0, 100.0))
    assert one == other
    assert hash(one) == hash(other)


def test_what_took_too_long_is_tried_again_and_what_is_damaged_only_if_asked(samples: list[Sample], tmp_path: Path) -> None:
    store, (slow, damaged) = Store.open(tmp_path / "store"), samples[:2]
    addresses = Addresses({"trial": "key"}, {sample.id: sample.id for sample in (slow, damaged)})
    errors = {slow: TooSlowError("v.mp4: decoding took more than 1 s"), damaged: VideoError("v.mp4: not a readable video")}
    store.add(to_rows(("key", sample.id, failure(sample, "trial", error)) for sample, error in errors.items()))
    assert left_to_do(store, (slow, damaged), addresses).missing == 1
    assert left_to_do(store, (slow, damaged), addresses).known == 1
    assert left_to_do(store, (slow, damaged), addresses, retry_errors=True).missing == 2


# Before a run


def asked_about(path: Path, **settings: float) -> Sample:
    return Sample(path.stem, path, "what moves ?", ("red", "blue"), 0, "task", path.name, **settings)


def test_many_more_frames_than_a_video_has_get_a_word(folder: Path) -> None:
    sample = asked_about(film_of("h264.mp4", folder, EVEN))
    assert frames_in(sample) == FRAMES
    assert frames_in(asked_about(sample.path, start=1.0, end=2.0)) == RATE
    assert repeated([sample], 2 * FRAMES - 1) is None
    assert "video.frames=180 is far above what h264.mp4 has: 90 frames, which are repeated" in (repeated([sample], 180) or "")
    assert repeated([asked_about(folder / "gone.mp4")], 180) is None, "its record says that"


def test_the_check_finds_what_an_evaluation_would(folder: Path, tmp_path: Path) -> None:
    path = film_of("h264_b.mp4", folder, EVEN)
    data = bytearray(path.read_bytes())
    at = [packet.size for packet in listed(str(path)).listed]
    late = data.index(b"mdat") + 4 + sum(at[:60])
    data[late : late + at[60]] = bytes(at[60])  # the first frame of a later group: one look at the middle does not see it
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(data)
    sample = asked_about(broken)
    with pytest.raises(VideoError):
        read_clip(broken, "v", FRAMES)
    assert dataset.check([sample], {}, dataset.Look(FRAMES)).faults == 1
    assert dataset.check([asked_about(path)], {}, dataset.Look(200)).short == 1


def test_the_check_says_which_films_harnesses_see_otherwise(folder: Path) -> None:
    """decord is exact in H.264 mp4, and shows other frames in AVI, with the right timestamps beside them."""
    pytest.importorskip("decord")
    exact, other = (asked_about(film_of(name, folder, EVEN)) for name in ("h264.mp4", "h264.avi"))
    look = dataset.Look(8, decord=True)
    for asked, otherwise in (([exact], 0), ([other], 1), ([exact, other], 1)):
        found = dataset.check(asked, {}, look)
        assert (found.otherwise, found.faults) == (otherwise, 0)
    assert "1 videos or parts of videos show other pictures to decord" in dataset.report(found)
    assert dataset.check([other], {}, dataset.Look(8)).otherwise is None

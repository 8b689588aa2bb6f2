"""Files that are odd and not broken: every frame is the one that ffmpeg shows, whatever the container says.

In `odd/` each frame has its number in its pixels: its upper third is 2 rows of 8 blocks, and block b is white where bit
b of the number is set.
"""

import io
import itertools
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from caption_assets.errors import ClipError
from caption_assets.media.decode import decode_frames, probe, read_windows
from caption_assets.media.mp4 import cut_window_mp4
from caption_assets.media.pixels import RgbConverter
from caption_assets.media.sampling import preview_picks, sample_window
from caption_assets.records import FramePicks, SampledFrames, VideoInfo, Window
from caption_assets_tests.media.coded import CLIPS, FRAMES, ODD, RATE, SCREEN, Coded, draw, ffmpeg, joined, read, still
from caption_assets_tests.media.shown import differences

SHARED = Path(__file__).parents[2].parent / "shared"


def number(image: np.ndarray) -> int:
    """The number that is in the pixels of an (H, W, 3) picture."""
    height, width, _ = image.shape
    white = [image[int((b // 8 + 0.5) * height / 6), int((b % 8 + 0.5) * width / 8)].mean() > 127 for b in range(16)]
    return sum(bit << b for b, bit in enumerate(white))


def numbers(path: Path, info: VideoInfo, frame_ids: Sequence[int], threads: int = 1) -> list[int]:
    converter = RgbConverter((info.display_width, info.display_height))
    image = np.empty((info.display_height, info.display_width, 3), np.uint8)
    found = []
    for _, frame in decode_frames(str(path), info, frame_ids, threads=threads):
        assert not isinstance(frame, ClipError)
        converter.into(frame, image)
        found.append(number(image))
    return found


@pytest.mark.parametrize(
    ("name", "shown", "seconds", "size"),
    [
        ("noctts_hevc.mp4", range(120), 4.0, (320, 240)),
        ("dtspts.mp4", range(2, 90), 2.93, (320, 240)),
        ("dup1.mkv", range(90), 62.97, (320, 240)),
        ("pixelcrop.mkv", range(60), 2.0, (320, 240)),
        ("clap.mp4", range(60), 2.0, (320, 240)),
        ("grows.mp4", range(2, 60), 1.93, (640, 480)),
        ("seg_1.mp4", range(48, 60), 0.4, (320, 240)),
    ],
)
def test_frames_are_those_that_are_shown(name: str, shown: range, seconds: float, size: tuple[int, int]) -> None:
    info = probe(str(ODD / name))
    assert (info.display_width, info.display_height) == size
    assert info.duration_s == pytest.approx(seconds, abs=0.02)
    assert info.problem == ""
    for threads in (1, 4):
        assert numbers(ODD / name, info, range(info.num_frames), threads) == list(shown)
    if name not in ("dup1.mkv", "seg_1.mp4"):
        assert float(info.frame_rate) == pytest.approx(30, abs=0.01)
    some = [3, len(shown) // 2, len(shown) - 1]
    assert numbers(ODD / name, info, some) == [shown[k] for k in some]


@pytest.mark.parametrize("name", sorted(path.name for path in ODD.iterdir()))
def test_ffmpeg_shows_the_same(name: str) -> None:
    found = differences(ODD / name)
    if name in ("dup1.mkv", "grows.mp4", "dtspts.mp4", "noctts_hevc.mp4"):  # ffmpeg guesses
        found = [difference for difference in found if not difference.endswith("apart")]
    assert found == []


@pytest.mark.parametrize("name", ["pixelcrop.mkv", "clap.mp4"])
def test_what_the_container_crops_is_seen_by_nobody(name: str) -> None:
    path = str(ODD / name)
    info = probe(path)
    (sampled,) = read_windows(path, info, [FramePicks((5,), (0.0,))])
    assert isinstance(sampled, SampledFrames)
    with av.open(io.BytesIO(cut_window_mp4(path, info, Window(0, 29)))) as container:
        cut = next(container.decode(video=0)).to_ndarray(format="rgb24")
    for image in (sampled.frames[0], cut):
        assert image.shape == (240, 320, 3)
        top = image[:80].astype(int)  # black and white; the border was red
        assert (top.max(axis=2) - top.min(axis=2) > 60).mean() < 0.01


def test_a_clip_whose_frames_change_their_size_has_that_of_most() -> None:
    assert "45 of 58 have 640x480" in probe(str(ODD / "grows.mp4")).note


@pytest.mark.parametrize("name", SCREEN)
def test_of_codecs_with_packets_for_nothing_changed_frames_are_those_that_come_out(name: str, tmp_path: Path) -> None:
    path = still(tmp_path, name)
    assert differences(path) == []
    assert differences(path, threads=4) == []


def test_packets_of_which_no_frame_comes_out_are_no_frames(tmp_path: Path) -> None:
    # Fraps 1 is raw pictures, each behind four bytes, of which one bit says: as before.
    raw, path = tmp_path / "raw.avi", tmp_path / "fraps.avi"
    source = "-f rawvideo -pix_fmt gray -s 160x128 -r 25 -i pipe:0 -c:v rawvideo -pix_fmt bgr24"
    ffmpeg([*source.split(), str(raw)], b"".join(draw(k).tobytes() for k in range(FRAMES)))
    with av.open(str(raw)) as pictures, av.open(str(path), "w") as sink:
        stream = sink.add_stream_from_template(pictures.streams.video[0])
        for k, packet in enumerate(packet for packet in pictures.demux(video=0) if packet.size):
            header = (1 if k % 4 == 0 else 1 | 1 << 31).to_bytes(4, "little")
            coded = av.Packet(header + (bytes(packet) if k % 4 == 0 else b""))
            coded.pts, coded.dts, coded.time_base = packet.pts, packet.dts, packet.time_base
            coded.stream, coded.is_keyframe = stream, True
            sink.mux(coded)
    data = bytearray(path.read_bytes())
    at = data.index(b"strf") + 8 + 16
    data[at : at + 4] = b"FPS1"
    path.write_bytes(data)
    info = probe(str(path))
    assert (info.codec, info.num_frames) == ("fraps", FRAMES // 4)
    assert info.pts_s == pytest.approx(np.arange(0, FRAMES, 4) / 25)
    assert differences(path) == []
    (sampled,) = read_windows(str(path), info, [FramePicks((1, 2, 9, 14), (0.0,) * 4)])
    assert isinstance(sampled, SampledFrames)
    assert [read(frame[::-1]) for frame in sampled.frames] == [4, 8, 36, 56]


@pytest.fixture
def palette(tmp_path: Path) -> Path:
    """Raw 8-bit pictures in AVI: the palette comes with the first one."""
    colours = "-f lavfi -i testsrc2=s=160x120:r=30:d=1.3 -vf split[a][b];[a]palettegen[p];[b][p]paletteuse"
    ffmpeg([*colours.split(), "-c:v", "rawvideo", "-pix_fmt", "pal8", str(tmp_path / "pal8.avi")])
    return tmp_path / "pal8.avi"


def test_a_palette_holds_also_where_the_first_frame_is_not_wanted(palette: Path) -> None:
    info = probe(str(palette))
    assert info.pixel_format == "pal8"
    assert differences(palette) == []
    every = [frame for _, frame in decode_frames(str(palette), info, range(39))]
    for ids in ([7], [20, 38]):
        for frame_id, frame in decode_frames(str(palette), info, ids):
            assert not isinstance(frame, ClipError)
            whole = every[frame_id]
            assert not isinstance(whole, ClipError)
            image = frame.to_ndarray(format="rgb24")
            assert np.array_equal(image, whole.to_ndarray(format="rgb24"))
            assert len(np.unique(image.reshape(-1, 3), axis=0)) > 50


def test_side_data_that_the_binding_does_not_know_is_no_hindrance(tmp_path: Path) -> None:
    path = tmp_path / "exif.avi"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6
    whole = next(clip for clip in CLIPS if clip.name == "mjpeg.avi").make(tmp_path)
    with av.open(str(whole)) as source, av.open(str(path), "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                data = bytes(packet)
                tagged = av.Packet(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
                tagged.pts, tagged.dts, tagged.time_base, tagged.stream = (
                    packet.pts,
                    packet.dts,
                    packet.time_base,
                    stream,
                )
                tagged.is_keyframe = True
                sink.mux(tagged)
    info = probe(str(path))
    assert (info.num_frames, info.rotation, info.display_width) == (FRAMES, 90, 128)
    (sampled,) = read_windows(str(path), info, [FramePicks((3, 59), (0.0, 2.24))])
    assert isinstance(sampled, SampledFrames)
    assert [read(np.rot90(frame)) for frame in sampled.frames] == [3, 59]


def test_an_avi_that_was_written_to_a_pipe_lacks_nothing(tmp_path: Path) -> None:
    whole = next(clip for clip in CLIPS if clip.name == "h264.avi").make(tmp_path)
    for size in (b"\xff\xff\xff\xff", b"\xf0\xff\xff\xff"):
        piped = tmp_path / "piped.avi"
        piped.write_bytes(whole.read_bytes()[:4] + size + whole.read_bytes()[8:])
        info = probe(str(piped))
        assert (info.num_frames, info.problem) == (FRAMES, "")
        assert differences(piped) == []


def test_what_is_wrong_with_the_sound_costs_no_frame(tmp_path: Path) -> None:
    clip, path = tmp_path / "whole.mp4", tmp_path / "no_sound.mp4"
    video = next(clip for clip in CLIPS if clip.name == "h264_closed.mp4").make(tmp_path)
    ffmpeg(["-i", str(video), "-f", "lavfi", "-i", "sine=d=2.4", "-c:v", "copy", "-c:a", "aac", str(clip)])
    data = bytearray(clip.read_bytes())
    at = data.rindex(b"stco") + 12
    for k in range(int.from_bytes(data[at - 4 : at], "big")):  # the sound is said to lie behind the end
        data[at + 4 * k : at + 4 * k + 4] = (len(data) + 1000 * k).to_bytes(4, "big")
    path.write_bytes(data)
    info = probe(str(path))
    assert (info.num_frames, info.problem, info.audio_codec) == (FRAMES, "", "aac")
    assert differences(path) == []


def test_a_time_that_is_damaged_costs_no_frame_and_no_other_time(tmp_path: Path) -> None:
    whole, path = next(clip for clip in CLIPS if clip.name == "h264_closed.mp4").make(tmp_path), tmp_path / "late.mp4"
    data = bytearray(whole.read_bytes())
    at = data.index(b"ctts") + 12 + 8 * 10 + 4  # of the eleventh run of frames
    data[at : at + 4] = (30 * 512 + 256).to_bytes(4, "big")  # some 30 frames late
    path.write_bytes(data)
    info = probe(str(path))
    assert (info.num_frames, info.duration_s) == (FRAMES, pytest.approx(FRAMES / 25, abs=0.05))
    assert info.pts_s - info.pts_s[0] == pytest.approx(np.arange(FRAMES) / 25, abs=0.03)
    (sampled,) = read_windows(str(path), info, [FramePicks(tuple(range(FRAMES)), (0.0,) * FRAMES)])
    assert isinstance(sampled, SampledFrames)
    assert [read(frame) for frame in sampled.frames] == list(range(FRAMES))


def test_a_stream_that_could_reorder_frames_and_does_not_is_read_like_others(tmp_path: Path) -> None:
    path = tmp_path / "noise.mp4"
    noise = "-f lavfi -i nullsrc=s=64x64:r=25:d=1.2,geq=lum=random(1)*255:cb=128:cr=128"
    ffmpeg([*noise.split(), "-c:v", "libx264", "-bf", "3", "-pix_fmt", "yuv420p", "-g", "10", str(path)])
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
        assert stream.codec_context.has_b_frames
        assert times == sorted(times)
    info = probe(str(path))
    assert info.keyframe_ids is not None
    assert len(info.keyframe_ids) > 2
    assert differences(path) == []


@pytest.mark.parametrize("cut", [3, 7, 11])
def test_broadcast_streams_have_one_count_whatever_the_threads(cut: int, tmp_path: Path) -> None:
    # Interlaced, cut in the middle of a group, as receivers record it.
    whole, path = tmp_path / "whole.ts", tmp_path / "cut.ts"
    coded = "-c:v libx264 -preset veryfast -flags +ildct+ilme -x264-params tff=1:bframes=3:open-gop=1:keyint=15"
    raw = b"".join(draw(k).tobytes() for k in range(FRAMES))
    source = "-f rawvideo -pix_fmt gray -s 160x128 -r 25 -i pipe:0"
    ffmpeg([*source.split(), *coded.split(), "-pix_fmt", "yuv420p", "-f", "mpegts", str(whole)], raw)
    data = whole.read_bytes()
    packets = len(data) // 188
    path.write_bytes(data[: 3 * 188] + data[packets * cut // 20 * 188 :])
    info = probe(str(path))
    assert differences(path) == differences(path, threads=8) == []
    for threads in (1, 2, 8):
        frames = decode_frames(str(path), info, range(info.num_frames), threads=threads)
        assert [frame_id for frame_id, frame in frames if not isinstance(frame, ClipError)] == list(
            range(info.num_frames)
        )


def test_windows_of_a_stream_without_key_frames_are_cut_as_they_are_shown(tmp_path: Path) -> None:
    coded = "-c:v libx264 -pix_fmt yuv420p -x264-params intra-refresh=1:bframes=0:keyint=15 -f mpegts"
    path = tmp_path / "refresh.mp4"
    ffmpeg(["-i", str(Coded("refresh.ts", coded).make(tmp_path)), "-c", "copy", str(path)])
    info = probe(str(path))
    assert info.keyframe_ids is not None
    starts = [int(k) for k in info.keyframe_ids]  # where refreshing begins: called key frames, and none of them is one
    assert len(starts) > 4
    for start, end in itertools.pairwise([*starts, FRAMES]):
        with av.open(io.BytesIO(cut_window_mp4(str(path), info, Window(start, end - 1)))) as container:
            shown = [read(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
        assert shown == list(range(start, end))


@pytest.mark.skipif(not (SHARED / "videos").exists(), reason="the real clips are not part of the repository")
@pytest.mark.parametrize("threads", [1, 4])
def test_real_clips_are_what_ffmpeg_shows(threads: int) -> None:
    for path in sorted((SHARED / "videos").glob("*.m[pk]*")):
        if path.stat().st_size < 1 << 20:
            assert differences(path, threads=threads) == [], path.name


@pytest.mark.parametrize(
    ("coded", "lengths"),
    [
        ("-c:v libx264 -bf 0 -g 30 -f mpegts", (24, 36)),
        ("-c:v libx264 -bf 0 -g 30 -f mpegts", (20, 25, 15)),
        ("-c:v libx264 -bf 0 -g 30 -output_ts_offset HALF -f mpegts", (14, 14)),  # as few as are reordered
        ("-c:v libx264 -bf 3 -g 12 -f mpegts", (24, 36)),
        ("-c:v libx264 -bf 0 -g 30 -f matroska", (20, 40)),
        ("-c:v mpeg1video -q:v 2 -bf 0 -f mpeg", (20, 40)),
    ],
)
def test_where_parts_with_clocks_of_their_own_are_joined_all_frames_are_seen(
    coded: str, lengths: Sequence[int], tmp_path: Path
) -> None:
    path, frames = joined(tmp_path / "joined.mp4", coded, lengths), sum(lengths)
    info = probe(str(path))
    assert (info.num_frames, info.frame_rate, info.duration_s) == (frames, RATE, frames / RATE)
    assert info.pts_s - info.pts_s[0] == pytest.approx(np.arange(frames) / RATE, abs=1e-3)
    assert f"at frame {lengths[0]}: what follows" in info.note
    assert ("2 times" in info.note) == (len(lengths) == 3)
    picks = sample_window(Window(0, frames - 1), info.pts_s, info.frame_rate, 10.0)
    assert max(b - a for a, b in itertools.pairwise(picks.frame_ids)) <= 3
    assert (
        len(preview_picks(Window(0, frames - 1), info.pts_s, info.pts_s[0] + info.duration_s, RATE).frame_ids) == frames
    )
    (sampled,) = read_windows(str(path), info, [FramePicks(tuple(range(frames)), (0.0,) * frames)])
    assert isinstance(sampled, SampledFrames)
    assert [read(frame) for frame in sampled.frames] == list(range(frames))


def test_a_clock_that_starts_anew_inside_a_file_hides_no_frame(tmp_path: Path) -> None:
    whole = Coded("whole.mp4", "-c:v libx264 -pix_fmt yuv420p -bf 0 -g 10").make(tmp_path)
    anew = "setts=pts=if(lt(N\\,20)\\,PTS\\,PTS-0.8/TB):dts=DTS-2/TB"
    path = tmp_path / "anew.mkv"
    ffmpeg(["-i", str(whole), "-c", "copy", "-bsf:v", anew, str(path)])
    with av.open(str(path)) as container:
        assert [packet.pts for packet in container.demux(video=0)][18:22] == [720, 760, 0, 40]
    info = probe(str(path))
    assert (info.num_frames, info.frame_rate, info.duration_s) == (FRAMES, RATE, FRAMES / RATE)
    assert info.note == "its clock starts anew at frame 20: what follows goes on after what came before"

"""What probing found out comes back just as it was, and is small, whatever the clip."""

from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption_assets.media.decode import probe
from caption_assets.media.packed import pack, unpack
from caption_assets.records import Crop, VideoInfo
from caption_assets_tests.media.coded import CLIPS, Coded


def same(info: VideoInfo, other: VideoInfo | None) -> bool:
    def equal(one: object, two: object) -> bool:
        if isinstance(one, np.ndarray):
            return isinstance(two, np.ndarray) and one.dtype == two.dtype and np.array_equal(one, two)
        return one == two and type(one) is type(two)

    return other is not None and all(equal(getattr(info, f.name), getattr(other, f.name)) for f in fields(info))


def packed(info: VideoInfo) -> bytes:
    data = pack(info)
    assert data is not None
    return data


@pytest.mark.parametrize("clip", CLIPS[::4], ids=lambda clip: clip.name)
def test_every_kind_of_clip_comes_back(clip: Coded, tmp_path: Path) -> None:
    info = probe(str(clip.make(tmp_path)))
    assert same(info, unpack(packed(info)))


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    return probe(str(CLIPS[0].make(tmp_path_factory.mktemp("packed"))))


def long(info: VideoInfo, ticks: np.ndarray, time_base: Fraction) -> VideoInfo:
    pts_s = ticks * time_base.numerator / time_base.denominator
    return replace(info, pts_s=pts_s, time_base=time_base, keyframe_ids=np.arange(0, len(ticks), 250))


def test_100_000_frames_take_some_kilobytes(info: VideoInfo) -> None:
    frames = np.arange(100_000)
    steady = long(info, frames * 512, Fraction(1, 12_288))
    assert same(steady, unpack(packed(steady)))
    assert len(packed(steady)) < 1_000
    rounded = long(info, np.rint(frames * 1000 / 29.97).astype(np.int64), Fraction(1, 1000))
    assert same(rounded, unpack(packed(rounded)))
    assert len(packed(rounded)) < 4_000
    jittering = long(info, np.random.default_rng(0).integers(20, 60, 100_000).cumsum(), Fraction(1, 90_000))
    assert same(jittering, unpack(packed(jittering)))
    assert len(packed(jittering)) < 100_000


def test_whatever_is_odd_comes_back(info: VideoInfo) -> None:
    for odd in (
        replace(info, crop=Crop(1, 2, 3, 4), note="ä", problem="it breaks off", stamp=None, audio_codec=None),
        replace(info, keyframe_ids=np.array([], np.int64)),
        replace(info, pts_s=np.array([-0.2, 0.0]), time_base=Fraction(1, 25), keyframe_ids=None),
    ):
        assert same(odd, unpack(packed(odd)))


def test_what_would_not_come_back_is_not_packed(info: VideoInfo) -> None:
    assert pack(replace(info, pts_s=np.array([0.0, 1 / 3]), time_base=Fraction(1, 1000))) is None


def test_what_cannot_be_read_is_nothing(info: VideoInfo) -> None:
    data = packed(info)
    for wrong in (b"", b"x", data[:-1], data[:20], bytes(reversed(data))):
        assert unpack(wrong) is None

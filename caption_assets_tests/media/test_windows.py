"""Windows: NeMo Curator's rule, with thresholds that it handles badly refused."""

import json
from pathlib import Path

import pytest

from caption_assets.errors import ConfigError
from caption_assets.media.windows import compute_windows

VECTORS = Path(__file__).parents[3] / "shared" / "golden" / "vectors.json"

# (frames, size, threshold) -> windows, as first and last frame
CASES = {
    (0, 256, 128): [],
    (3, 256, 128): [],
    (4, 256, 128): [(0, 3)],
    (250, 256, 128): [(0, 249)],
    (256, 256, 128): [(0, 255)],
    (257, 256, 128): [(0, 256)],
    (383, 256, 128): [(0, 382)],
    (384, 256, 128): [(0, 255), (256, 383)],
    (511, 256, 128): [(0, 255), (256, 510)],
    (512, 256, 128): [(0, 255), (256, 511)],
    (639, 256, 128): [(0, 255), (256, 638)],
    (640, 256, 128): [(0, 255), (256, 511), (512, 639)],
    (1189, 256, 128): [(0, 255), (256, 511), (512, 767), (768, 1023), (1024, 1188)],
    (240, 96, 48): [(0, 95), (96, 191), (192, 239)],
    (600, 256, 300): [(0, 255), (256, 599)],
    (516, 256, 4): [(0, 255), (256, 511), (512, 515)],
    (513, 256, 4): [(0, 255), (256, 512)],
}


@pytest.mark.parametrize(("case", "windows"), CASES.items(), ids=str)
def test_a_remainder_is_a_window_or_extends_the_last(case: tuple[int, int, int], windows: list) -> None:
    assert [(w.start_frame, w.end_frame) for w in compute_windows(*case)] == windows


def test_windows_cover_every_frame_once() -> None:
    for frames in range(4, 700):
        windows = compute_windows(frames, 64, 20)
        assert [f for w in windows for f in range(w.start_frame, w.end_frame + 1)] == list(range(frames))
        assert all(w.num_frames <= 64 + 20 - 1 for w in windows)


@pytest.mark.parametrize(("size", "threshold"), [(3, 128), (256, 3), (256, 0), (0, 4), (256, -1)])
def test_sizes_that_make_unusable_windows_are_refused(size: int, threshold: int) -> None:
    with pytest.raises(ConfigError, match="at least 4"):
        compute_windows(1000, size, threshold)


def test_reference_vectors() -> None:
    if not VECTORS.exists():
        pytest.skip(f"the reference vectors are not there ({VECTORS})")
    for vector in json.loads(VECTORS.read_text())["windows"]:
        case = (vector["total_frames"], vector["window_size"], vector["remainder_threshold"])
        if min(case[1:]) < 4:
            with pytest.raises(ConfigError):
                compute_windows(*case)
        else:
            assert [[w.start_frame, w.end_frame] for w in compute_windows(*case)] == vector["windows"], case

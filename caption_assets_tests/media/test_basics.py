"""The whole of media once, on a clip that it writes itself."""

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from caption_assets.media.decode import probe, read_windows
from caption_assets.media.mp4 import cut_window_mp4, write_mp4
from caption_assets.media.previews import render_previews
from caption_assets.media.sampling import sample_window
from caption_assets.media.windows import compute_windows
from caption_assets.records import Preview, Window
from caption_assets.settings import PreviewSettings
from caption_assets_tests.test_boundaries import FREE


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "grey.mp4"
    write_mp4(str(path), (np.full((48, 64, 3), 2 * k, np.uint8) for k in range(100)), Fraction(25))
    return path


def test_from_file_to_frames_and_previews(clip: Path) -> None:
    info = probe(str(clip))
    assert (info.num_frames, info.frame_rate, info.duration_s, info.codec) == (100, 25, 4.0, "h264")
    windows = compute_windows(info.num_frames, 40, 10)
    picks = [sample_window(w, info.pts_s, info.frame_rate, 2.0) for w in windows]
    for pick, sampled in zip(picks, read_windows(str(clip), info, picks, size=(32, 24)), strict=True):
        assert sampled.frames.shape == (len(pick.frame_ids), 24, 32, 3)
        grey = sampled.frames.reshape(len(pick.frame_ids), -1).mean(axis=1)
        assert grey == pytest.approx([2 * k for k in pick.frame_ids], abs=2)
    for window, preview in render_previews(str(clip), info, windows, PreviewSettings(target_height=48)):
        assert isinstance(preview, Preview)
        image = Image.open(io.BytesIO(preview.data))
        assert (image.n_frames, image.size) == (preview.num_frames, (64, 48)), window


def test_windows_are_cut_to_the_frame(clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(cut_window_mp4(str(clip), probe(str(clip)), Window(13, 37)))
    info = probe(str(cut))
    picks = [sample_window(Window(0, 24), info.pts_s, info.frame_rate, 25.0)]
    (sampled,) = read_windows(str(cut), info, picks)
    assert sampled.frames[0].mean() == pytest.approx(26, abs=2)
    assert (info.num_frames, info.pts_s[0]) == (25, 0.0)


def test_media_needs_neither_dagster_nor_a_model() -> None:
    program = f"""
import sys
for name in ("dagster", "torch", "transformers", "vllm"):
    sys.modules[name] = None
import pkgutil, importlib, caption_assets.media as media
for module in pkgutil.iter_modules(media.__path__):
    importlib.import_module(f"caption_assets.media.{{module.name}}")
ours = {{name for name in sys.modules if name.startswith("caption_assets.") and ".media" not in name}}
assert {{name.split(".")[1] for name in ours}} <= {FREE}, ours
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

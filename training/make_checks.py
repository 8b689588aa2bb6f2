"""Write a check file from real video: `python -m training.make_checks checks.npz --clips 150`.

Scenes are drawn by the package's own renderer (H.264) and by the benchmark's other renderer (MPEG-4), encoded,
decoded, sampled and resized as captioning does it, with seeds that training does not use.
"""

import argparse
import json
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.other_renderer import random_clip, write_mp4
from caption_assets.models.demo import draw, world
from training.clips import smart_resize


def sampled(path: Path, rate: Fraction) -> np.ndarray:
    """The frames of a whole video that a caption model sees, on the model's grid: uint8 (T, H, W, 3)."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = list(container.decode(stream))
    length = len(frames)
    n = max(4.0, length / float(rate) * 2.0)
    n = 2 * round(min(n, 2 * (min(768, length) // 2)) / 2)
    picks = np.linspace(0, length - 1, n).round().astype(int)
    height, width = smart_resize(frames[0].height, frames[0].width)
    out = []
    for k in picks:
        array = frames[k].to_ndarray(format="rgb24")
        shrink = array.shape[0] * array.shape[1] > height * width
        out.append(cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_CUBIC))
    return np.stack(out)


def write_checks(file: Path, count: int, first_seed: int) -> None:
    """Write a check file of `count` clips of each renderer, of seeds from `first_seed` on."""
    arrays, clips = {}, []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for k in range(2 * count):
            seed, own = first_seed + k, k < count
            if own:
                scene = world.sample_scene(np.random.default_rng(seed))
                write_mp4(path, draw.frames(scene), scene.frame_rate, "libx264", crf="23", preset="medium")
            else:
                scene = random_clip(seed)
                write_mp4(path, scene.frames(), scene.frame_rate)
            name, source = f"clip_{k}", "own" if own else "other"
            arrays[name] = sampled(path, scene.frame_rate)
            seconds = scene.num_frames / float(scene.frame_rate)
            clips.append({"name": name, "caption": scene.caption(), "seconds": seconds, "source": source})
    np.savez_compressed(file, clips=json.dumps(clips), **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--clips", type=int, default=150, help="clips of each renderer")
    parser.add_argument("--first-seed", type=int, default=900_000)
    args = parser.parse_args()
    write_checks(args.file, args.clips, args.first_seed)


if __name__ == "__main__":
    main()

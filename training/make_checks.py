"""Write a check file: `python -m training.make_checks checks.npz --clips 80 --others 80`.

Scenes are drawn by the package's own renderer (H.264) and by `other_renderer` (MPEG-4), encoded,
decoded, sampled and resized as captioning does it, with seeds that training does not use. `--drawn` leaves out the
video file in between, and does without PyAV.
"""

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from caption_assets.demo import draw, world
from caption_assets.media.sampling import count_picks
from caption_assets.models.requests import frame_size
from training.clips import LIMITS
from training.other_renderer import OtherClip, random_clip, write_mp4

FIRST_SEED = 900_000


def picks(num_frames: int, rate: Fraction) -> np.ndarray:
    """Numbers of the frames of a whole video that a caption model sees."""
    n = count_picks(num_frames / float(rate), num_frames, sampling_fps=2.0)
    return np.linspace(0, num_frames - 1, n).round().astype(int)


def on_grid(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Frames of any size on the model's grid: uint8 (T, H, W, 3)."""
    height, width = frames[0].shape[:2]
    size = frame_size(width, height, len(frames), LIMITS)
    shrink = height * width > size[0] * size[1]
    how = cv2.INTER_AREA if shrink else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, size, interpolation=how) for frame in frames])


def decoded(path: Path, rate: Fraction) -> np.ndarray:
    """The frames of a video file that a caption model sees, on the model's grid."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        frames = list(container.decode(stream))
    return on_grid([frames[k].to_ndarray(format="rgb24") for k in picks(len(frames), rate)])


def encode(path: Path, scene: world.Scene | OtherClip) -> None:
    """Write a scene as its renderer's kind of video file."""
    if isinstance(scene, OtherClip):
        write_mp4(path, scene.frames(), scene.frame_rate)
    else:
        write_mp4(path, draw.frames(scene), scene.frame_rate, "libx264", crf="23", preset="medium")


def seen(scene: world.Scene | OtherClip, drawn: bool) -> np.ndarray:
    """What a caption model sees of a scene, on its grid: as `drawn`, or out of a video file."""
    if drawn:
        chosen = picks(scene.num_frames, scene.frame_rate)
        pictures = [scene.frame(int(k)) for k in chosen] if isinstance(scene, OtherClip) else draw.pick(scene, chosen)
        return on_grid(pictures)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        encode(path, scene)
        return decoded(path, scene.frame_rate)


def _check(seed: int, own: bool, drawn: bool) -> tuple[dict, np.ndarray]:
    scene = world.sample_scene(np.random.default_rng(seed)) if own else random_clip(seed)
    seconds = scene.num_frames / float(scene.frame_rate)
    source = "own" if own else "other"
    return {"name": f"{source}_{seed}", "caption": scene.caption(), "seconds": seconds, "source": source}, seen(
        scene, drawn
    )


def write_checks(file: Path, clips: int, others: int, first_seed: int = FIRST_SEED, drawn: bool = False) -> None:
    """Write a check file of so many clips of the package's renderer and of the other one, of seeds from the first on.

    See `checks.py` for the format.
    """
    own = [k < clips for k in range(clips + others)]
    seeds = range(first_seed, first_seed + len(own))
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with decoder threads may crash
    with ProcessPoolExecutor(mp_context=spawn, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        made = list(pool.map(_check, seeds, own, [drawn] * len(own)))
    arrays = {clip["name"]: frames for clip, frames in made}
    write = np.savez if drawn else np.savez_compressed  # noise does not compress
    write(file, clips=json.dumps([clip for clip, _ in made]), **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--clips", type=int, default=80, help="clips of the package's renderer")
    parser.add_argument("--others", type=int, default=80, help="clips of the other renderer")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--drawn", action="store_true", help="no video file in between")
    args = parser.parse_args()
    write_checks(args.file, args.clips, args.others, args.first_seed, args.drawn)


if __name__ == "__main__":
    main()

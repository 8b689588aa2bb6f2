"""The demo's dataset: clips of the embedded model's little world, rendered to mp4."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np

from caption_assets.demo.draw import frames
from caption_assets.demo.world import Scene, sample_scene
from caption_assets.media.cores import usable_cores
from caption_assets.media.mp4 import write_mp4

SHARDS = ("shard-000", "shard-001", "shard-002")
# (width, height), frames a second, windows: small, so that rendering takes seconds; the last clips have two windows.
_FORMATS = (
    ((320, 240), Fraction(24), 1),
    ((480, 270), Fraction(30), 1),
    ((270, 400), Fraction(25), 1),
    ((426, 240), Fraction(50), 2),
)


def demo_scenes(seed: int = 7) -> dict[str, list[Scene]]:
    """The demo's scenes by shard."""
    rng = np.random.default_rng(seed)
    return {
        shard: [
            sample_scene(rng, width=width, height=height, frame_rate=rate, windows=windows)
            for (width, height), rate, windows in _FORMATS
        ]
        for shard in SHARDS
    }


def render_dataset(root: Path, scenes: dict[str, list[Scene]]) -> int:
    """Writes `<root>/<shard>/clip-<n>.mp4` for every scene that has no file yet; returns how many it wrote."""
    wanted = [
        (root / shard / f"clip-{number:02d}.mp4", scene)
        for shard, of_shard in scenes.items()
        for number, scene in enumerate(of_shard)
    ]
    missing = [(path, scene) for path, scene in wanted if not path.exists()]
    with ThreadPoolExecutor(usable_cores()) as threads:
        list(threads.map(render_clip, *zip(*missing, strict=True)) if missing else ())
    return len(missing)


def render_clip(path: Path, scene: Scene) -> None:
    """Renders one scene to an mp4 file, which appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.part.mp4")
    write_mp4(str(part), frames(scene), scene.frame_rate, preset="veryfast")
    part.replace(path)

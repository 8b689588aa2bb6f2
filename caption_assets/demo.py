"""The demo's dataset: clips of the embedded model's little world, rendered to mp4."""

from pathlib import Path

import numpy as np

from caption_assets.media.mp4 import write_mp4
from caption_assets.models.demo.draw import frames
from caption_assets.models.demo.world import Scene, sample_scene

SHARDS = ("shard-000", "shard-001", "shard-002")


def demo_scenes(clips_per_shard: int = 4, seed: int = 7) -> dict[str, list[Scene]]:
    """The demo's scenes by shard. The last clip of every shard is longer than one window."""
    rng = np.random.default_rng(seed)
    scenes = {}
    for shard in SHARDS:
        short = [sample_scene(rng, windows=1) for _ in range(clips_per_shard - 1)]
        scenes[shard] = [*short, sample_scene(rng, windows=2)]
    return scenes


def render_dataset(root: Path, scenes: dict[str, list[Scene]]) -> int:
    """Writes `<root>/<shard>/clip-<n>.mp4` for every scene that has no file yet; returns how many it wrote."""
    written = 0
    for shard, of_shard in scenes.items():
        for number, scene in enumerate(of_shard):
            path = root / shard / f"clip-{number:02d}.mp4"
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.part.mp4")
            write_mp4(str(part), frames(scene), scene.frame_rate)
            part.replace(path)
            written += 1
    return written

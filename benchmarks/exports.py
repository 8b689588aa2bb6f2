"""What exports take: memory and rows a second, for many windows.

    python -m benchmarks.exports [--windows 100000] [--shards 100] [--formats jsonl webdataset] [--folder /tmp]

Tables are made through the store, with captions of some 150 words. Each window is kept as a video of its own (one file
of some kilobytes for all of them), so that none is cut: what is measured is everything else. Each export is a process
of its own, made twice: the second has nothing to write. Peak memory is that process's largest resident set. Needs Linux
and no GPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from caption_assets.exports import Export
from caption_assets.media.mp4 import write_mp4
from caption_assets.settings import ExportSettings
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, Store
from caption_assets.workers.local import Workers
from caption_assets_tests.rows import caption, window

WORDS = ("a red circle", "is moving", "slowly", "from left to right", "while somebody", "walks past", "the window")


def make_tables(store: Store, folder: Path, windows: int, shards: int) -> None:
    """Clips of two windows each."""
    rng = np.random.default_rng(0)
    frames = (rng.integers(0, 40, (120, 160, 3), dtype=np.uint8) for _ in range(24))
    write_mp4(str(folder / "clip.mp4"), frames, Fraction(24))
    store.write_bytes("kept/window.mp4", (folder / "clip.mp4").read_bytes())
    for shard in range(shards):
        rows = []
        for number in range(windows // shards):
            clip, part = divmod(number, 2)
            values = {"content_hash": f"{shard:08x}{clip:024x}", "mp4_path": "kept/window.mp4"}
            values |= {"clip_frames": 500, "duration_s": 20.0, "display_width": 160, "display_height": 120}
            clip_id = f"{shard:08x}-0000-5000-8000-{clip:012x}"
            rows.append(window(clip_id, part * 250, part * 250 + 249, **values))
        store.commit_rows(CLIP_WINDOWS, f"shard-{shard:04d}", rows)
        texts = [" ".join(rng.choice(WORDS, 80)) for _ in rows]
        captions = [caption(row, text, mean_logprob=-0.5) for row, text in zip(rows, texts, strict=True)]
        store.commit_rows(WINDOW_CAPTIONS, f"shard-{shard:04d}", captions, "qwen")


def export(store: Store, form: str, to: Path) -> dict[str, float]:
    """Seconds and samples of one export, and the peak MiB of this process."""
    began = time.perf_counter()
    with Workers(1) as workers:
        exporting = Export(store, str(to), form, ExportSettings(max_file_mib=64), workers)
        shards = store.shards(CLIP_WINDOWS)
        changes = [exporting.shard(shard).changes for shard in shards]
        contents, last = exporting.finish(shards)
    seconds = time.perf_counter() - began
    written = sum(of.written for of in changes) + last.written
    return {"samples": contents.samples, "seconds": seconds, "written": written, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    """Of this process alone: what getrusage tells begins with the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--formats", nargs="+", default=["jsonl", "csv", "cosmos", "webdataset", "parquet"])
    parser.add_argument("--folder", help="where tables and exports are made, and removed again")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        out, form, to = options.one
        print(json.dumps(export(Store(out), form, Path(to))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        began = time.perf_counter()
        make_tables(Store(f"{folder}/out"), Path(folder), options.windows, options.shards)
        print(f"{options.windows} windows in {options.shards} shards, made in {time.perf_counter() - began:.0f} s")
        for form in options.formats:
            for turn in ("first", "again"):
                command = [
                    sys.executable,
                    "-m",
                    "benchmarks.exports",
                    "--one",
                    f"{folder}/out",
                    form,
                    f"{folder}/{form}",
                ]
                done = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
                rate = done["samples"] / done["seconds"]
                print(
                    f"{form:12s} {turn}: {done['samples']} samples, {done['written']:6d} files written, "
                    f"{done['seconds']:6.1f} s, {rate:6.0f} windows/s, {done['peak_mib']:5.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()

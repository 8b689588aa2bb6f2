"""A crash before, amid and after every change of the file system, and a disk that is full from there on.

    python -m benchmarks.faults.crashes [--seed 0] [--every 1]

All four steps run over a small shard, once with an empty output and once over what other settings have made. Each
change that a run makes below the output root is a place to die: before it, after half of its bytes, after it. A process
dies there at once; then a run that is left alone goes on, and the output must be what undisturbed runs make. The same
with a disk that takes no byte more from some change on: the steps must say so, and the next run must complete the
output. Needs Linux (each run is a fork of this process).
"""

import argparse
import errno
import gc
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from benchmarks.faults.outputs import Output, faults_of, read_output
from caption_assets.dataset import open_dataset
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.errors import CaptionAssetsError
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PreviewSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import (
    StepContext,
    caption_shards,
    enhance_shards,
    model_session,
    preview_shard,
    window_shard,
)
from caption_assets.store import Store
from caption_assets.store.scratch import Scratch
from caption_assets.workers.local import Workers

SHARD = "s"
_CRASHED, _FOREIGN, _SAID = 137, 3, 4
_CALLS = ("replace", "unlink", "rmdir", "mkdir")
CAPTIONER = CaptionModelSettings(model_variant="demo", device="cpu")
WRITER = TextModelSettings(model_variant="demo_lm", device="cpu")
_TOKENS = 8
# Old settings, and new ones under which files of the old become stale.
OLD: Mapping[str, Mapping[str, Any]] = {"windows": {"window_size": 16, "remainder_threshold": 8}, "previews": {}}
NEW: Mapping[str, Mapping[str, Any]] = {"windows": {"window_size": 24, "remainder_threshold": 8}, "previews": {}}


class Crash:
    """Counts the changes below a folder, and at the one numbered `at` does what `how` says."""

    def __init__(self, root: Path, at: int | None, how: str) -> None:
        self._root, self._at, self._how = str(root), at, how
        self.count = 0
        self._full = False

    def around(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def changed(path: str, *args: Any, **options: Any) -> Any:
            if not str(path).startswith(self._root):
                return call(path, *args, **options)
            self.here("before", frees=name in ("unlink", "rmdir"))
            result = call(path, *args, **options)
            self.here("after", frees=True)
            return result

        return changed

    def here(self, moment: str, *, frees: bool = False) -> None:
        """A place to die, or to be full."""
        self.count += 1
        if self.count == self._at:
            if self._how == "crash":
                os._exit(_CRASHED)
            self._full = True
        if self._full and not frees and moment != "after":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Written:
    """A new file, whose writes are changes, too."""

    def __init__(self, file: BinaryIO, crash: Crash) -> None:
        self._file, self._crash = file, crash

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._crash.here("amid")
        self._file.write(data[len(data) // 2 :])
        self._file.flush()
        self._crash.here("after", frees=True)


@contextmanager
def crashing(crash: Crash) -> Iterator[None]:
    """The store's changes go through `crash`; for a process that is thrown away."""
    for name in _CALLS:
        setattr(os, name, crash.around(name, getattr(os, name)))
    create = Scratch.create
    Scratch.create = lambda self: _Written(create(self), crash)  # type: ignore[method-assign, assignment, return-value]
    yield


def steps(clips: Path, out: Path, chosen: Mapping[str, Mapping[str, Any]]) -> None:
    """All four over the shard. Raises the first error of the shard's."""
    with Workers(1) as workers:
        context = StepContext(Store(str(out)), workers)
        windows = WindowSettings(store_window_mp4=True, **chosen["windows"])
        window_shard(context, open_dataset(str(clips)), SHARD, windows)
        preview_shard(context, SHARD, PreviewSettings(**chosen["previews"]))
        with model_session(CAPTIONER) as session:
            _good(caption_shards(context, [SHARD], session, CaptionSettings(max_output_tokens=_TOKENS)))
        with model_session(WRITER) as session:
            enhance = EnhanceSettings(max_output_tokens=_TOKENS, include_flagged=True)
            _good(enhance_shards(context, [SHARD], "demo", session, enhance))


def _good(outcomes: Iterator[Any]) -> None:
    for ended in outcomes:
        if isinstance(ended.outcome, CaptionAssetsError):
            raise ended.outcome


def in_a_fork(work: Callable[[], object]) -> int:
    """The exit status of a fork that does it: 0, that of a crash, or one for an error of ours or of others."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 0
    try:
        logging.disable()
        work()
    except CaptionAssetsError as error:
        status = _SAID if os.strerror(errno.ENOSPC) in str(error) else _FOREIGN
        if status == _FOREIGN:
            traceback.print_exc()
    except BaseException:
        traceback.print_exc()
        status = _FOREIGN
    gc.collect()  # a process that ends takes its scratch folder with it
    os._exit(status)


@dataclass(frozen=True)
class Scene:
    """Runs to disturb: over `clips` with settings `new`, in an output that begins as `begun`, if anything."""

    name: str
    clips: Path
    begun: Path | None
    new: Mapping[str, Mapping[str, Any]]
    wanted: Output

    def fresh(self, out: Path) -> Path:
        shutil.rmtree(out, ignore_errors=True)
        if self.begun is not None:
            shutil.copytree(self.begun, out)
        return out


def scenes(work: Path) -> Iterator[Scene]:
    """An empty output, and one that other settings have filled. Each is made once without a fault."""
    clips = work / "clips"
    render_dataset(clips, {SHARD: next(iter(demo_scenes().values()))[:1]})
    made = {}
    for name, settings in (("old", OLD), ("new", NEW)):
        made[name] = work / name
        assert in_a_fork(lambda name=name, settings=settings: steps(clips, made[name], settings)) == 0
    wanted = read_output(made["new"], [SHARD])
    yield Scene("an empty output", clips, None, NEW, wanted)
    yield Scene("an output of other settings", clips, made["old"], NEW, wanted)


def count_changes(scene: Scene, out: Path) -> int:
    """How many places to die an undisturbed run of the scene has."""
    counted = out.with_name("count")

    def work() -> None:
        crash = Crash(out, None, "")
        with crashing(crash):
            steps(scene.clips, out, scene.new)
        counted.write_text(str(crash.count))

    scene.fresh(out)
    assert in_a_fork(work) == 0
    return int(counted.read_text())


def campaign(every: int, seed: int) -> Counter[str]:
    """What became of every `every`-th trial; what begins with FOUND is a fault."""
    outcomes: Counter[str] = Counter()
    os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other beside busy workers
    for model in (CAPTIONER, WRITER):  # forks have all that is imported then
        with model_session(model) as session:
            session.start()
    with tempfile.TemporaryDirectory(prefix="crashes-") as folder:
        work, skipped = Path(folder), seed % every
        for scene in scenes(work):
            out = work / "out"
            places = count_changes(scene, out)
            outcomes[f"places in {scene.name}"] = places
            trials = [(at, how) for at in range(1, places + 1) for how in ("crash", "full")]
            for at, how in trials[skipped::every]:
                for fault in _trial(scene, out, at, how):
                    outcomes[f"FOUND {fault} ({how} at {at} of {places}, {scene.name})"] += 1
                outcomes[f"{how} in {scene.name}"] += 1
            skipped = (skipped - len(trials)) % every
    return outcomes


def _trial(scene: Scene, out: Path, at: int, how: str) -> list[str]:
    scene.fresh(out)

    def disturbed() -> None:
        with crashing(Crash(out, at, how)):
            steps(scene.clips, out, scene.new)

    status = in_a_fork(disturbed)
    faults = faults_of(out, [SHARD]) if how == "crash" else []
    # What frees room, and documents that are rendered again, may fail without a word.
    if status not in ((_CRASHED,) if how == "crash" else (_SAID, 0)):
        faults.append(f"the disturbed run ends with {status}")
    if (status := in_a_fork(lambda: steps(scene.clips, out, scene.new))) != 0:
        faults.append(f"the next run ends with {status}")
    return faults + faults_of(out, [SHARD], scene.wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="only every so-manieth trial (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="which trial is the first, with --every")
    options = parser.parse_args()
    began = time.perf_counter()
    outcomes = campaign(options.every, options.seed)
    for outcome, count in outcomes.most_common():
        print(f"{count:5d}  {outcome}")
    print(f"in {time.perf_counter() - began:.0f} s")
    sys.exit(any(outcome.startswith("FOUND") for outcome in outcomes))


if __name__ == "__main__":
    main()

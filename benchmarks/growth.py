"""How what a dataset costs grows with it: CPU time, memory and stored bytes by stage, for datasets of several sizes.

    python -m benchmarks.growth --sizes 1x100 1x5000 100x10 1000x10 [--stages plan captions …] [--folder /data/growth]

A size is shards x clips of each. The clips are real ones (24 frames of 64x48, one window each, each with bytes of its
own). Each stage is a process of its own that works on what those before it have made:

    list        what shards there are, and the version of each one's listing
    plan        windows: each clip is opened and probed
    previews    a WebP for each window, by a decode of its own
    captions    frames are decoded and sent to an engine that answers at once: a server on the loopback device
    documents   all of the layout's JSON, rendered anew from the tables
    nothing     windows, previews and captions once more, where nothing is to be done
    run         the same four through Dagster, into an instance and an output of their own: `caption-assets run`
    rerun       that once more
    sensor      a tick of the sensor that looks at every shard of that instance; later ticks only look for new shards
    schedule    a tick of the schedule: is anything missing or out of date
    plain-run   a run of each of three plain assets with the same names, shards and checks, which do and say nothing:
                what Dagster itself needs for `run`
    next        thirty shards as `run` makes them, in an instance that has the history of all others
    backfill    what `caption-assets backfill` asks for, and the daemon at work until it has nothing more to launch
    plain-backfill
                the same of those plain assets

CPU seconds are of a stage's process and of all that it starts, without the imports (but for `run` and `rerun`, whose
start is in them). Memory is the largest resident set of any of its processes. Each is the least of `--times`
measurements, as what else the machine does only ever adds; their spread stands behind it. The second half of a line
compares with the size before of as many clips a shard (of one shard: with the one before): what each further clip
costs, so without what is the same for all sizes, and that by what each clip more cost from the first such size to
the second. Bytes are those of Dagster's storage.

With `--folder`, figures that are there are not measured again, so that a long run can be taken up; what stages work on
is there, too, so that one that is measured again needs those before it only once. Needs Linux, no GPU.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.parts.growing import Place, Size, answering
from benchmarks.parts.growth_stages import STAGES, Figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=_size, default=[Size(1, 100), Size(1, 2000), Size(100, 10)])
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), metavar="STAGE")
    parser.add_argument("--folder", type=Path, help="where datasets, outputs and figures are kept")
    parser.add_argument("--times", type=int, default=1, help="how often each stage is measured")
    parser.add_argument("--again", action="store_true", help="forget what has been measured of these stages")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        (stage,), place = options.stages, Place(options.one, *options.sizes)
        figures = [*_kept(place, stage), STAGES[stage](place)]
        place.figures(stage).write_text(json.dumps([asdict(each) for each in figures]))
        return
    with contextlib.ExitStack() as kept:
        folder = options.folder or Path(kept.enter_context(tempfile.TemporaryDirectory()))
        server = kept.enter_context(answering())
        # By stage: the sizes of as many clips a shard, in their order.
        rows: dict[str, dict[int, list[tuple[Size, Figures]]]] = defaultdict(lambda: defaultdict(list))
        for size in options.sizes:
            place = Place(folder, size)
            place.make()
            for stage in options.stages:
                if options.again:
                    place.figures(stage).unlink(missing_ok=True)
                figures = _figures(place, stage, server, options.times)
                series = rows[stage][0 if size.shards == 1 else size.each]
                series.append((size, _least(figures)))
                print(_line(stage, series, figures), flush=True)


def _size(text: str) -> Size:
    if not (found := re.fullmatch(r"(\d+)x(\d+)", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 100x10")
    return Size(*map(int, found.groups()))


def _figures(place: Place, stage: str, server: str, times: int) -> list[Figures]:
    while len(found := _kept(place, stage)) < times:
        command = [sys.executable, "-m", "benchmarks.growth", "--one", str(place.folder.parent)]
        command += ["--sizes", str(place.size), "--stages", stage]
        environment = os.environ | {"OPENAI_BASE_URL": server}
        if status := subprocess.run(command, env=environment, stdout=sys.stderr).returncode:
            raise SystemExit(f"{stage} of {place.size} ended with status {status}")
    return found


def _kept(place: Place, stage: str) -> list[Figures]:
    path = place.figures(stage)
    return [Figures(**each) for each in json.loads(path.read_text())] if path.exists() else []


def _least(figures: Sequence[Figures]) -> Figures:
    return Figures(**{name: min(getattr(each, name) for each in figures) for name in asdict(figures[0])})


def _line(stage: str, series: list[tuple[Size, Figures]], measured: Sequence[Figures]) -> str:
    size, figures = series[-1]
    text = f"{stage:14s} {size!s:>9s}  {figures.cpu_s:8.2f} s CPU"
    if len(measured) > 1:
        text += f" (to {max(each.cpu_s for each in measured):.2f})"
    text += (
        f" {figures.wall_s:8.2f} s  {1000 * figures.cpu_s / figures.clips:8.2f} ms a clip  {figures.peak_mib:6.0f} MiB"
    )
    if figures.stored:
        text += f"  {figures.stored / 1024:9.0f} KiB stored"
    if len(series) < 2:
        return text
    (_, first), (_, before) = series[0], series[-2]
    if before.clips == figures.clips:
        return f"{text} | x {figures.cpu_s / first.cpu_s:.2f}, x {figures.peak_mib / first.peak_mib:.2f}"
    each = _each(before, figures)
    text += f" | each more {1000 * each.cpu_s:7.2f} ms {each.peak_mib * 1024:6.2f} KiB"
    if figures.stored:
        text += f", {each.stored * size.each / 1024:.1f} KiB stored a shard"
    if len(series) > 2:
        once = _each(first, series[1][1])
        text += f" (x {each.cpu_s / once.cpu_s:.2f}, x {each.peak_mib / once.peak_mib:.2f})"
    return text


@dataclass(frozen=True)
class _More:
    cpu_s: float
    peak_mib: float
    stored: float


def _each(before: Figures, after: Figures) -> _More:
    """What each clip more cost, from one size to the next: what is the same for all sizes is left out."""
    more = after.clips - before.clips
    cpu_s, peak_mib, stored = (
        (getattr(after, name) - getattr(before, name)) / more for name in ("cpu_s", "peak_mib", "stored")
    )
    return _More(cpu_s, peak_mib, stored)


if __name__ == "__main__":
    main()

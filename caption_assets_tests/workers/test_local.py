"""The workers: results stream, memory is bounded, and a worker takes nothing but its own item with it."""

import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.media.cores import usable_cores
from caption_assets.media.mp4 import write_mp4
from caption_assets.settings import DecodeLimits, WorkerSettings
from caption_assets.workers import local, process
from caption_assets.workers.local import Workers
from caption_assets.workers.process import WorkerProcess
from caption_assets_tests.workers import tasks


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(2, memory_limit_bytes=8 << 30) as workers:
        yield workers


def test_every_item_has_its_result(workers: Workers) -> None:
    assert sorted(workers.map_unordered(tasks.double, range(20))) == [(k, 2 * k) for k in range(20)]


def test_results_of_a_generator_stream_in_order_and_are_writable(workers: Workers) -> None:
    by_item: dict[int, list[int]] = {}
    for item, frames in workers.map_unordered(tasks.frames, [10, 20, 30]):
        assert frames.shape == (4, 200, 300, 3)
        frames += 1
        by_item.setdefault(item, []).append(int(frames.max()))
    assert by_item == {k: [k + 1, k + 2, k + 3] for k in (10, 20, 30)}


def test_what_the_consumer_holds_stays_as_it_was(workers: Workers) -> None:
    held = []
    for item, frames in workers.map_unordered(tasks.frames, range(0, 200, 10)):
        first, value = frames[0, :10], int(frames[0, 0, 0, 0])  # a small view holds on to all of it
        assert value - item in (0, 1, 2)
        if item % 20:
            held.append((value, first))
    assert len(held) == 30
    assert all((first == value).all() for value, first in held)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")
@pytest.mark.parametrize("items", [100, 300])
def test_results_that_are_held_cost_no_descriptors(workers: Workers, items: int) -> None:
    list(workers.map_unordered(tasks.double, range(2)))
    limits, used = resource.getrlimit(resource.RLIMIT_NOFILE), len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 30, limits[1]))
    try:
        held = [frames for _, frames in workers.map_unordered(tasks.frames, range(items), in_flight=3 * items)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(held) == 3 * items
    assert len(os.listdir("/proc/self/fd")) < used + 10
    values = sorted(int(frames[0, 0, 0, 0]) for frames in held)
    assert values == sorted((item + k) % 256 for item in range(items) for k in range(3))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")
def test_memory_is_used_again_when_the_consumer_is_done() -> None:
    with Workers(1) as workers:
        for _ in workers.map_unordered(tasks.frames, range(20), in_flight=2):
            pass
        ((_, memories),) = workers.map_unordered(tasks.shared_memories, [0])
    # Of 60 results: two wait, one is with the pump, one on its way to it, and two are here while one follows the other.
    assert 1 <= memories <= 6


@pytest.mark.parametrize(
    ("item", "kind", "says"),
    [
        ("kill", "worker_died", "SIGKILL"),
        ("crash", "worker_died", "SIGSEGV"),
        ("hang", "timeout", "no answer for 1 s"),
        ("clip", "decode", "it is broken"),
        ("bug", "unexpected", "KeyError"),
        ("memory", "limit", "memory"),
    ],
)
def test_a_failure_costs_its_item_only(
    workers: Workers, item: str, kind: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: dict[str, list] = {}

    def deadline(worker: WorkerProcess) -> float:
        """The others have all the time that a busy machine takes, and this one until it has begun."""
        return vars(worker)["at"] if worker.item in ends and item == worker.item else math.inf

    both = property(deadline, lambda worker, at: vars(worker).update(at=at))
    monkeypatch.setattr(WorkerProcess, "deadline", both, raising=False)
    for name, result in workers.map_unordered(tasks.misbehave, ["a", item, "b", "c"], time_limit_s=1.0):
        ends.setdefault(name, []).append(result)
    error = ends[item].pop()
    assert isinstance(error, CaptionAssetsError)
    assert error.kind == kind
    assert says in str(error)
    assert ends == {item: ["first"]} | {k: ["first", "second"] for k in "abc"}


def test_processes_stay_for_the_next_call_and_end_with_the_block() -> None:
    with Workers(1) as workers:
        (_, first), *_ = workers.map_unordered(tasks.pid, range(3))
        assert {value for _, value in workers.map_unordered(tasks.pid, range(3))} == {first}
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_items_are_read_as_they_are_needed_and_results_are_bounded(workers: Workers) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = workers.map_unordered(tasks.frames, endless(), in_flight=2)
    next(results)
    time.sleep(1.0)
    assert taken <= 4  # three results an item: two wait in the queue, one with the pump, one in each worker
    results.close()


def test_a_worker_runs_no_more_than_two_results_ahead(workers: Workers, tmp_path: Path) -> None:
    progress = tmp_path / "begun"
    results = workers.map_unordered(tasks.count_into, [str(progress)], in_flight=1)
    for taken in range(1, 4):
        next(results)
        time.sleep(0.3)
        # One is in the queue, one with the pump, and in the worker one is ready and one in the making.
        assert progress.stat().st_size <= taken + 4
    results.close()


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is told by Linux")
def test_memory_does_not_grow_with_the_length_of_a_clip(workers: Workers, tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    picture = np.random.default_rng(0).integers(0, 255, (360, 640, 3), np.uint8)
    write_mp4(str(path), (np.roll(picture, k, 1) for k in range(800)), Fraction(25), crf=40, preset="ultrafast")
    used = [memory for _, (_, memory) in workers.map_unordered(tasks.windows_and_memory, [str(path)])]
    assert len(used) == 40
    window = 8 * 360 * 640 * 3
    assert max(used[20:]) - max(used[:5]) < 2 * window


def test_a_slow_consumer_does_not_use_up_the_time_limit(workers: Workers) -> None:
    for number, (_, result) in enumerate(workers.map_unordered(tasks.frames, [0, 1], time_limit_s=3.0, in_flight=1)):
        assert isinstance(result, np.ndarray)
        time.sleep(0 if number else 4.0)
    assert number == 5


def test_ending_early_leaves_no_process() -> None:
    with Workers(1) as workers:
        ((_, pid),) = workers.map_unordered(tasks.pid, [0])
        results = workers.map_unordered(tasks.misbehave, ["hang"])
        assert next(results) == ("hang", "first")
        results.close()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("how", [tasks.killed_once, tasks.orphaned_once])
def test_an_item_whose_worker_was_killed_is_tried_once_more(
    workers: Workers, how: Callable[[str], str], tmp_path: Path
) -> None:
    markers = [str(tmp_path / "was here"), str(tmp_path / "and here")]
    assert sorted(workers.map_unordered(how, markers, at_once=1)) == sorted((marker, "done") for marker in markers)


def test_workers_that_do_not_start_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_START", "raise SystemExit(3)")
    with Workers(2) as workers:
        with pytest.raises(ConfigError, match="status 3"):
            workers.start()
        assert [error.kind for _, error in workers.map_unordered(tasks.double, [1, 2, 3])] == ["worker_died"] * 3


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_what_tasks_need_is_loaded_once_for_all_workers(tmp_path: Path) -> None:
    loads = tasks.LoadedByOne(tmp_path / "loaded")
    with Workers(3) as workers:
        list(workers.map_unordered(tasks.pid, range(3)))  # without it
        for k in range(2):  # what is loaded stays
            clips = [tasks.Clip(str(tmp_path / f"{k}" / f"{clip}"), work=3) for clip in range(3)]
            (tmp_path / f"{k}").mkdir()
            times = [result for _, result in workers.run(tasks.meet, clips, loads=loads)]
            assert max(began for began, _ in times) < min(ended for _, ended in times)
        assert len(workers._idle) == 3


def test_errors_of_the_items_reach_the_consumer(workers: Workers) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more clips")

    with pytest.raises(RuntimeError, match="no more clips"):
        list(workers.map_unordered(tasks.double, broken()))


def test_the_largest_task_is_first_and_each_knows_how_to_read() -> None:
    limits = DecodeLimits(max_decode_seconds=7.0)
    clips = [tasks.Clip("small", 1), tasks.Clip("large", 3), tasks.Clip("medium", 2)]
    with Workers(1, limits=limits, keep_bytes=5) as workers:
        made = list(workers.run(tasks.tell, clips))
        assert [task.location for task, _ in made] == ["large", "medium", "small"]
        assert all(reading == workers.reading for _, (_, reading) in made)
        assert (workers.reading.limits, workers.reading.copies.most_bytes) == (limits, 5)
        folder = Path(workers.reading.copies.folder)
        assert folder.is_dir()
    assert not folder.exists()


@pytest.mark.parametrize("at_once", [1, 2, 5, None])
def test_no_more_tasks_run_at_once_than_asked_for(workers: Workers, at_once: int | None, tmp_path: Path) -> None:
    most = min(at_once or 2, 2)
    clips = [tasks.Clip(str(tmp_path / f"{k}"), work=most) for k in range(6)]
    times = sorted(result for _, result in workers.run(tasks.meet, clips, at_once=at_once))
    at_the_begin_of_each = [sum(began <= moment < ended for began, ended in times) for moment, _ in times]
    assert len(times) == 6
    assert max(at_the_begin_of_each) == most


def test_clips_in_this_process_s_memory_are_worked_on_here(workers: Workers) -> None:
    made = dict(workers.run(tasks.tell, [tasks.Clip("memory://bucket/clip.mp4"), tasks.Clip("clip.mp4", 1)]))
    here = {task.location: result[0] == os.getpid() for task, result in made.items()}
    assert here == {"memory://bucket/clip.mp4": True, "clip.mp4": False}


def test_a_stuck_worker_is_ended_some_time_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_SPARE_SECONDS", 0.5)
    with Workers(1, limits=DecodeLimits(max_decode_seconds=0.1)) as workers:
        ((_, error),) = workers.run(tasks.hang, [tasks.Clip("a clip")])
    assert error.kind == "timeout"
    assert "max_decode_seconds" in str(error).lower()


def test_what_a_user_sets_is_what_the_workers_do() -> None:
    with Workers.from_settings(WorkerSettings(processes=3, keep_gib=0.5, max_clip_seconds=9.0)) as workers:
        assert workers.processes == 3
        assert workers.reading.limits == DecodeLimits(max_clip_seconds=9.0)
        assert workers.reading.copies.most_bytes == 1 << 29
    assert Workers.from_settings(WorkerSettings()).processes == usable_cores()


def test_calls_may_overlap(workers: Workers) -> None:
    outer = workers.map_unordered(tasks.frames, [0, 10])
    next(outer)
    assert len(list(workers.map_unordered(tasks.pid, range(3)))) == 3
    assert len(list(outer)) == 5
    assert len(workers._idle) <= workers.processes

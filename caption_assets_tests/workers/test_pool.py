"""The pool: results stream, memory is bounded, and a worker takes nothing but its own item with it."""

import os
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.media.mp4 import write_mp4
from caption_assets.workers import pool as workers
from caption_assets.workers.pool import WorkerPool, run
from caption_assets_tests.workers import tasks as jobs


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, memory_limit_bytes=8 << 30) as pool:
        yield pool


def test_every_item_has_its_result(pool: WorkerPool) -> None:
    assert sorted(pool.run(jobs.double, range(20))) == [(k, 2 * k) for k in range(20)]


def test_results_of_a_generator_stream_in_order_and_are_writable(pool: WorkerPool) -> None:
    by_item: dict[int, list[int]] = {}
    for item, frames in pool.run(jobs.frames, [10, 20, 30]):
        assert frames.shape == (4, 200, 300, 3)
        frames += 1
        by_item.setdefault(item, []).append(int(frames.max()))
    assert by_item == {k: [k + 1, k + 2, k + 3] for k in (10, 20, 30)}


def test_what_the_consumer_holds_stays_as_it_was(pool: WorkerPool) -> None:
    held = []
    for item, frames in pool.run(jobs.frames, range(0, 200, 10)):
        first, value = frames[0, :10], int(frames[0, 0, 0, 0])  # a small view holds on to all of it
        assert value - item in (0, 1, 2)
        if item % 20:
            held.append((value, first))
    assert len(held) == 30
    assert all((first == value).all() for value, first in held)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is shared on Linux only")
def test_memory_is_used_again_when_the_consumer_is_done() -> None:
    with WorkerPool(1) as pool:
        for _ in pool.run(jobs.frames, range(20), in_flight=2):
            pass
        ((_, memories),) = pool.run(jobs.shared_memories, [0])
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
def test_a_failure_costs_its_item_only(pool: WorkerPool, item: str, kind: str, says: str) -> None:
    ends: dict[str, list] = {}
    for name, result in pool.run(jobs.misbehave, ["a", item, "b", "c"], time_limit_s=1.0):
        ends.setdefault(name, []).append(result)
    error = ends[item].pop()
    assert isinstance(error, CaptionAssetsError)
    assert error.kind == kind
    assert says in str(error)
    assert ends == {item: ["first"]} | {k: ["first", "second"] for k in "abc"}


def test_a_pool_of_its_own_ends_with_the_call() -> None:
    (_, worker), *_ = run(jobs.pid, range(3), workers=1)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_pool_keeps_its_processes() -> None:
    with WorkerPool(1) as pool:
        (_, first), *_ = pool.run(jobs.pid, range(3))
        assert {value for _, value in pool.run(jobs.pid, range(3))} == {first}
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


def test_items_are_read_as_they_are_needed_and_results_are_bounded(pool: WorkerPool) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    results = pool.run(jobs.frames, endless(), in_flight=2)
    next(results)
    time.sleep(1.0)
    assert taken <= 4  # three results an item: two wait in the queue, one with the pump, one in each worker
    results.close()


def test_a_worker_runs_no_more_than_two_results_ahead(pool: WorkerPool, tmp_path: Path) -> None:
    progress = tmp_path / "begun"
    results = pool.run(jobs.count_into, [str(progress)], in_flight=1)
    for taken in range(1, 4):
        next(results)
        time.sleep(0.3)
        # One is in the queue, one with the pump, and in the worker one is ready and one in the making.
        assert progress.stat().st_size <= taken + 4
    results.close()


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="memory is told by Linux")
def test_memory_does_not_grow_with_the_length_of_a_clip(pool: WorkerPool, tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    picture = np.random.default_rng(0).integers(0, 255, (360, 640, 3), np.uint8)
    write_mp4(str(path), (np.roll(picture, k, 1) for k in range(800)), Fraction(25), crf=40, preset="ultrafast")
    used = [memory for _, (_, memory) in pool.run(jobs.windows_and_memory, [str(path)])]
    assert len(used) == 40
    window = 8 * 360 * 640 * 3
    assert max(used[20:]) - max(used[:5]) < 2 * window


def test_a_slow_consumer_does_not_use_up_the_time_limit(pool: WorkerPool) -> None:
    for _, result in pool.run(jobs.frames, [0, 1], time_limit_s=1.0, in_flight=1):
        assert isinstance(result, np.ndarray)
        time.sleep(0.5)


def test_ending_early_leaves_no_process() -> None:
    pool = WorkerPool(1)
    pool.start()
    (worker,) = pool._idle
    results = pool.run(jobs.misbehave, ["hang"])
    assert next(results) == ("hang", "first")
    results.close()
    assert worker.process.returncode is not None
    pool.close()


def test_workers_that_do_not_start_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START", "raise SystemExit(3)")
    with WorkerPool(2) as pool:
        with pytest.raises(ConfigError, match="status 3"):
            pool.start()
        assert [error.kind for _, error in pool.run(jobs.double, [1, 2, 3])] == ["worker_died"] * 3


def test_errors_of_the_items_reach_the_consumer(pool: WorkerPool) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more clips")

    with pytest.raises(RuntimeError, match="no more clips"):
        list(pool.run(jobs.double, broken()))

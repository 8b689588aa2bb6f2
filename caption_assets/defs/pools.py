"""Slots of pools come back from runs whose process is gone, and a run that waits for one says who has it.

Dagster's daemon gives back the slots of runs that have ended, and learns from a code server when a run's process dies.
A run of the command line has no code server, and an instance need not have a daemon. So each run holds a lock on a
file beside the instance's storage, which the kernel gives back however the process ends, and each run looks after
the others' for as long as it lasts. And it rests between its questions for a slot, which Dagster's executor does not.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES, RunRecord

from caption_assets.models.locks import holder, try_lock

log = logging.getLogger(__name__)
COMMAND_TAG = "caption_assets/command"
"""On every run of the command line: which call of it the run belongs to."""
_SECONDS = 5.0
# After these, Dagster's own rule for a run that has ended: what its process still had to clear away is cleared.
_ENDED_SECONDS = 60.0
_UNFINISHED = [*IN_PROGRESS_RUN_STATUSES, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.CANCELING]


@contextlib.contextmanager
def looked_after(instance: dg.DagsterInstance, name: str, say: Callable[[str], object] | None = None) -> Iterator[None]:
    """In this block the run, or the command, called `name` is known to live, and looks after the slots of all.

    `name` is the id of a run, or the value of its COMMAND_TAG. `say` is told, once each, what a step of it waits for.
    """
    if instance.is_ephemeral:  # nobody else can see it
        yield
        return
    path = _lock_path(instance, name)
    held, stop = None, threading.Event()
    with contextlib.suppress(OSError):  # a file system without locks: nobody will know, which is no harm to this run
        held = try_lock(path, shared=True)
    watch = threading.Thread(target=_watch, args=(instance, name, say or log.warning, stop), name="pools", daemon=True)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        watch.join()
        if held is not None:
            path.unlink(missing_ok=True)
            held.close()


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Gives back the slots of runs whose process is gone, and says of those of the command line that they failed."""
    storage = instance.event_log_storage
    with_slots = storage.get_concurrency_run_ids() if storage.supports_global_concurrency_limits else set()
    records = {record.dagster_run.run_id: record for record in _unfinished_of_commands(instance)}
    if missing := with_slots - records.keys():
        found = instance.get_run_records(dg.RunsFilter(run_ids=list(missing)))
        records |= {record.dagster_run.run_id: record for record in found}
    for run_id in with_slots - records.keys():  # deleted, with its history
        if not _is_held(_lock_path(instance, run_id)):
            storage.free_concurrency_slots_for_run(run_id)
    for run_id, record in records.items():
        run = record.dagster_run
        if not _is_dead(instance, record):
            continue
        if not run.is_finished:
            instance.report_run_failed(run, "Its process ended without a word: it was killed, or ran out of memory.")
        if run_id in with_slots:
            storage.free_concurrency_slots_for_run(run_id)
        _lock_path(instance, _name(run)).unlink(missing_ok=True)


def _unfinished_of_commands(instance: dg.DagsterInstance) -> list[RunRecord]:
    records = instance.get_run_records(dg.RunsFilter(statuses=_UNFINISHED))
    return [record for record in records if _is_of_command(record.dagster_run)]


def _is_dead(instance: dg.DagsterInstance, record: RunRecord) -> bool:
    run = record.dagster_run
    path = _lock_path(instance, _name(run))
    if not path.exists():  # it ended in its own time, or it runs on another machine
        return run.is_finished and time.time() - (record.end_time or 0.0) > _ENDED_SECONDS
    # Steps of Dagster's runs may have processes of their own: what became of such a run, Dagster itself will say.
    return (run.is_finished or _is_of_command(run)) and not _is_held(path)


def _is_held(path: Path) -> bool:
    """Whether a process has the lock of the file at `path`, if there is one."""
    if not path.exists():
        return False
    try:
        lock = try_lock(path)
    except OSError:
        return True  # nobody can tell
    if lock is not None:
        lock.close()
    return lock is None


def _watch(instance: dg.DagsterInstance, name: str, say: Callable[[str], object], stop: threading.Event) -> None:
    said: set[str] = set()
    while True:
        try:
            end_dead_runs(instance)
            for sentence in _waits(instance, name):
                if sentence not in said:
                    said.add(sentence)
                    say(sentence)
        except Exception as error:  # it must not end the run that it watches for
            log.debug("the pools cannot be looked after now: %s", error)
        if stop.wait(_SECONDS):
            return


def _waits(instance: dg.DagsterInstance, name: str) -> Iterator[str]:
    """What steps of the run or command `name` wait for, a sentence each."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    for pool in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(pool)
        for step in info.pending_steps:
            run = instance.get_run_by_id(step.run_id)
            if step.assigned_timestamp is not None or run is None or _name(run) != name:
                continue
            holders = [_described(instance, run_id) for run_id in sorted(info.active_run_ids)]
            if holders:
                yield (
                    f"{step.step_key} waits for a slot of pool {pool!r}, held by {'; '.join(holders)}. "
                    "One that no longer works can be terminated in Dagster's UI, or its process ended."
                )


def _described(instance: dg.DagsterInstance, run_id: str) -> str:
    run = instance.get_run_by_id(run_id)
    if run is None:
        return f"run {run_id}, which was deleted"
    path = _lock_path(instance, _name(run))
    process = f" ({holder(path)})" if path.exists() else ""
    return f"run {run_id} of {'the command line' if _is_of_command(run) else repr(run.job_name)}{process}"


def _name(run: dg.DagsterRun) -> str:
    return run.tags[COMMAND_TAG] if _is_of_command(run) else run.run_id


def _is_of_command(run: dg.DagsterRun) -> bool:
    """Whether the command line works on it: a run that is executed again has the tags of the first one, too."""
    return COMMAND_TAG in run.tags and run.parent_run_id is None


def _seconds_to_next_question(context: InstanceConcurrencyContext) -> float:
    """Until a slot is asked for again, at most 15. Dagster takes the smallest of them and 0: its executor that runs all
    in one process would not rest at all, and keep a core busy for as long as it waits."""
    return max(0.0, min(context._pending_timeouts.values(), default=0.0) - time.time())


setattr(InstanceConcurrencyContext, "interval_to_next_pending_claim_check", _seconds_to_next_question)  # noqa: B010


def _lock_path(instance: dg.DagsterInstance, name: str) -> Path:
    return Path(instance.storage_directory()) / "caption_assets" / f"{name}.lock"

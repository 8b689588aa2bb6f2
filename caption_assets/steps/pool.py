"""Clips to worker processes, and back."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Protocol, TypeVar

from caption_assets.errors import CaptionAssetsError
from caption_assets.media.workers import WorkerPool


class ClipJob(Protocol):
    """Work on one clip; `source` is what the decoder opens."""

    @property
    def source(self) -> str: ...


J = TypeVar("J", bound=ClipJob)


def run_jobs(
    pool: WorkerPool, work: Callable[[J], Iterator[Any]], jobs: Iterable[J], in_flight: int | None = None
) -> Iterator[tuple[J, Any]]:
    """`(job, result)` for everything that `work`, a generator function, yields for each job, as results come.

    A job that fails ends with `(job, CaptionAssetsError)`. What lies in this process's memory (`memory://`) is
    invisible to other processes, so such clips are worked on here.
    """
    jobs = iter(jobs)
    first = next(jobs, None)
    if first is None:
        return
    jobs = chain([first], jobs)
    if first.source.startswith("memory:"):
        yield from _here(work, jobs)
    else:
        yield from pool.run(work, jobs, in_flight=in_flight)


def _here(work: Callable[[J], Iterator[Any]], jobs: Iterable[J]) -> Iterator[tuple[J, Any]]:
    for job in jobs:
        try:
            for result in work(job):
                yield job, result
        except CaptionAssetsError as error:
            yield job, error

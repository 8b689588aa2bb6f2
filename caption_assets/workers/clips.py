"""Clips to worker processes, and back."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from caption_assets.errors import CaptionAssetsError
from caption_assets.settings import DecodeLimits
from caption_assets.workers.pool import WorkerPool

# For what is done with the frames.
_SPARE_SECONDS = 60.0


class ClipJob(Protocol):
    """Work on one clip; `source` is what the decoder opens, `work` says how much there is to do."""

    @property
    def source(self) -> str: ...

    @property
    def limits(self) -> DecodeLimits: ...

    @property
    def work(self) -> int: ...


J = TypeVar("J", bound=ClipJob)


def run_jobs(
    pool: WorkerPool, work: Callable[[J], Iterator[Any]], jobs: Sequence[J], in_flight: int | None = None
) -> Iterator[tuple[J, Any]]:
    """`(job, result)` for everything that `work`, a generator function, yields for each job, as results come.

    A job that fails ends with `(job, CaptionAssetsError)`. What lies in this process's memory (`memory://`) is
    invisible to other processes, so such clips are worked on here.
    """
    if not jobs:
        return
    # The largest first: no worker is left with one when the others are done.
    jobs = sorted(jobs, key=lambda job: -job.work)
    if jobs[0].source.startswith("memory:"):
        yield from _here(work, jobs)
        return
    # A clip is read twice, to be probed and decoded. Readers keep to their limit themselves, unless they are stuck.
    time_limit_s = 2 * max(job.limits.max_decode_seconds for job in jobs) + _SPARE_SECONDS
    yield from pool.run(work, jobs, in_flight=in_flight, time_limit_s=time_limit_s)


def _here(work: Callable[[J], Iterator[Any]], jobs: Iterable[J]) -> Iterator[tuple[J, Any]]:
    for job in jobs:
        try:
            for result in work(job):
                yield job, result
        except CaptionAssetsError as error:
            yield job, error

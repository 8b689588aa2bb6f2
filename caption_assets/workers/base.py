"""What the steps need of whatever works on clips: worker processes of this machine are one backend."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from caption_assets.media.files import Reading


class ClipTask(Protocol):
    """Work on one clip. It pickles, and `str` of it names the clip in errors."""

    @property
    def location(self) -> str:
        """What the decoder opens: a local path or fsspec URL."""

    @property
    def work(self) -> int:
        """How much there is to do, compared with other tasks of its kind."""


Task = TypeVar("Task", bound=ClipTask)


def work_on(work: Callable[[Task, Reading], Iterator[Any]], reading: Reading, task: Task) -> Iterator[Any]:
    """`work(task, reading)`; with the first two bound, a function of the task alone that can be sent to a process."""
    return work(task, reading)


class Loads(Protocol):
    """What tasks need that takes a process long to import or to read. It pickles; equal ones load the same."""

    def load(self) -> None: ...


class ClipWorkers(Protocol):
    """Works on clips, several at a time, wherever that may be."""

    @property
    def processes(self) -> int:
        """How many tasks are worked on at once, at most."""

    @property
    def start_seconds(self) -> float:
        """What the first tasks waited for the start of whoever works on them."""

    @property
    def reading(self) -> Reading:
        """How clips are read; handed to every task."""

    def run(
        self,
        work: Callable[[Task, Reading], Iterator[Any]],
        tasks: Iterable[Task],
        *,
        at_once: int | Callable[[], int] | None = None,
        in_flight: int | None = None,
        loads: Loads | None = None,
    ) -> Iterator[tuple[Task, Any]]:
        """`(task, result)` for everything that `work`, a generator function of a module, yields, as results come.

        A task that fails ends with `(task, CaptionAssetsError)`; the others go on. Results of one task come in order,
        those of different tasks mix. At most `at_once` tasks are worked on at the same time, by what a function says
        then, and about `in_flight` results wait for the consumer. Whoever works on them loads `loads` first.
        """

    def start(self) -> None:
        """Start now what would start with the first tasks. Raises ConfigError where that fails."""

    def close(self) -> None:
        """End everything, and remove what was kept."""

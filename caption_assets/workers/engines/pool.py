"""Several engines as one: requests go to whichever has room, and come back to the others where one dies."""

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from caption_assets.errors import CaptionAssetsError, ModelError
from caption_assets.models.engines.base import CaptionEngine, EngineDeathError, EngineInfo, EngineOptions
from caption_assets.models.requests import Author, Request, Result
from caption_assets.models.waits import waiting
from caption_assets.records import Outcome
from caption_assets.workers.engines.hands import Hands
from caption_assets.workers.engines.process import EngineProcess

log = logging.getLogger(__name__)
_END = object()
# Engines that are not there a moment after the first one are not waited for.
_LOOK_S, _TOGETHER_S = 0.5, 5.0
_MOST_SET_ASIDE = 3
# Of one engine, with no answer in between.
_MOST_DEATHS = 2


class EnginePool:
    """A `CaptionEngine` of `count` engines for one model, each in a process of its own.

    They start together, and those that are ready work: one that waits for a GPU, or takes longer, joins in later. An
    engine that dies or gets stuck is started again, and what it had goes back to all of them; what two have died on is
    tried alone, and set aside where that engine dies, too. An engine that cannot be is left out, with a warning; where
    none is left, ModelError says why.
    """

    def __init__(
        self,
        make: Callable[[], CaptionEngine],
        count: int,
        options: EngineOptions,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """`make` makes an engine, here and in the processes, and is pickled. `options` are what it runs by;
        `environment` are further variables of the processes."""
        self._make, self._count, self._options, self._environment = make, count, options, environment or {}
        self.restarts = 0
        """How often an engine was started again by now."""
        self._change = threading.Condition()
        self._members: list[_Member] = []
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._hands = Hands(options.in_flight_bytes, options.batch_size)
        self._deaths: Counter[str] = Counter()
        self._set_aside = 0
        self._more_to_come = False
        self._info: EngineInfo | None = None
        self._why_out: CaptionAssetsError | None = None

    @cached_property
    def _unstarted(self) -> CaptionEngine:
        return self._make()

    def author(self) -> Author:
        return self._unstarted.author()

    def check_schema(self, schema: str, asked: str) -> None:
        self._unstarted.check_schema(schema, asked)

    def start(self) -> EngineInfo:
        """Begins to start all engines; says what runs as soon as the first one can. Raises ModelError."""
        with self._change:
            self._info = self._why_out = None
            self._members = [_Member(self, number) for number in range(self._count)]
        for member in self._members:
            member.launch()
        with waiting(self._waits_for), self._change:
            self._wait(lambda: self._info is not None or not self._left())
            until = time.monotonic() + _TOGETHER_S
            self._wait(lambda: all(member.info for member in self._left()) or time.monotonic() > until)
            self._refuse_without_any()
            assert self._info is not None
            infos = [member.info for member in self._left() if member.info]
            held = [info.held_since for info in infos if info.held_since is not None]
            return replace(
                self._info,
                device=", ".join(info.device for info in infos),
                ahead_bytes=self._count * self._options.in_flight_bytes,
                in_batches=False,
                engines=self._count,
                # Those that are still waited for are taken to be as many as the others, from then on.
                gpus=self._count * self._info.gpus,
                held_since=min(held, default=None),
            )

    def ready(self) -> float:
        """Waits for the first one."""
        with waiting(self._waits_for), self._change:
            self._wait(lambda: any(member.ready_after for member in self._members) or not self._left())
            self._refuse_without_any()
            return min(member.ready_after for member in self._members if member.ready_after)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields results as they end. Requests are read ahead as long as those in hand stay within the bytes of all."""
        with self._change:
            self._answers, self._more_to_come = queue.SimpleQueue(), True
        stopped = threading.Event()
        reader = threading.Thread(target=self._read, args=(requests, stopped), name="engines-feeder", daemon=True)
        reader.start()
        try:
            while (answer := self._answers.get()) is not _END:
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
                del answer
        finally:
            stopped.set()
            with self._change:
                self._hands.drop_all()
                self._change.notify_all()
            reader.join()

    def close(self) -> None:
        """Ends all processes, and gives their GPUs back."""
        with self._change:
            members, self._members = self._members, []
            for member in members:
                member.out = True
            self._change.notify_all()
        for member in members:
            member.begin_to_end()
        for member in members:
            member.end()

    # The reading thread.

    def _read(self, requests: Iterable[Request], stopped: threading.Event) -> None:
        try:
            for request in requests:
                with self._change:
                    while not (stopped.is_set() or self._hands.has_room(self._count, request)):
                        self._change.wait()
                    if stopped.is_set():
                        return
                    self._hands.add(request)
                    self._change.notify_all()
                del request
            with self._change:
                self._more_to_come = False
                self._end_if_done()
                self._change.notify_all()
        except BaseException as error:  # of the caller's requests; it belongs to the consumer
            self._answers.put(error)

    # The threads of the members.

    def work_for(self, member: "_Member") -> tuple[EngineProcess, list[Request]] | None:
        """What a member's process is to do next, as soon as there is something; None where the member is out."""
        with self._change:
            while not member.out:
                if member.process is not None and member.ready_after:
                    taken = self._hands.take(member.number, self._expected(), self._waits())
                    if taken:
                        return member.process, taken
                self._change.wait(_LOOK_S)
            return None

    def told(self, member: "_Member", kind: str, value: Any) -> None:
        """What a member's process says."""
        with self._change:
            if member.out:
                return
            if kind == "info":
                self._hear_info(member, value)
            elif kind == "ready":
                member.ready_after, member.ready_at = max(value, 1e-9), time.monotonic()
                self._hands.join(member.number, in_batches=bool(member.info and member.info.in_batches))
                where = member.info.device if member.info else "?"
                log.info("Engine %d of %d is ready after %.1f s, on %s.", member.number + 1, self._count, value, where)
            elif kind == "result" and self._hands.done(member.number, value.request_id):
                member.deaths = 0
                self._answers.put(value)
            elif kind == "round":
                self._hands.end_round(member.number)
            elif kind == "died":
                self._hear_death(member, value)
            elif kind == "failed":
                self._leave_out(member, value)
            self._end_if_done()
            self._change.notify_all()

    def _hear_info(self, member: "_Member", info: EngineInfo) -> None:
        first = self._info = self._info or info
        if (info.context.size, info.frame_limits) != (first.context.size, first.frame_limits):
            wrong = "it takes requests of another length than the first one, with less memory or more"
            self._leave_out(member, ModelError(f"an engine on {info.device}", wrong, "choose GPUs that are alike"))
        else:
            member.info = info

    def _hear_death(self, member: "_Member", death: EngineDeathError) -> None:
        alone = self._hands.alone(member.number)
        back = self._hands.leave(member.number)
        self._deaths.update(request.request_id for request in back)
        for request in back:
            if alone and self._deaths[request.request_id] > 2:
                message = f"engines {death.did} on it three times, so it was set aside ({death.wrong})"
                self._answers.put(Result(request.request_id, outcome=Outcome("failed", death.kind, message)))
                self._hands.forget(request)
                self._set_aside += 1
            else:
                self._hands.give_back(request, suspect=self._deaths[request.request_id] > 1)
        member.deaths += not alone
        if member.deaths > _MOST_DEATHS or self._set_aside > _MOST_SET_ASIDE:
            wrong = f"it keeps {death.doing} ({death.wrong})"
            self._leave_out(member, ModelError(death.asked, wrong, death.fix))
            return
        log.warning("%s It is started again, and what it had goes to all engines of the run.", death)
        self.restarts += 1
        member.relaunch()

    def _leave_out(self, member: "_Member", error: CaptionAssetsError) -> None:
        member.out = True
        for request in self._hands.leave(member.number):
            self._hands.give_back(request)
        self._why_out = self._why_out or error
        if self._left():
            log.warning("%s The run goes on with %d of %d engines.", error, len(self._left()), self._count)
        else:
            self._answers.put(self._out())
        member.begin_to_end()

    # With the lock.

    def _left(self) -> list["_Member"]:
        return [member for member in self._members if not member.out]

    def _expected(self) -> int:
        """Engines among which work is to be shared now: those at work, and those that may be in a moment."""
        ready = [member for member in self._left() if member.ready_after]
        began = min(member.ready_at for member in ready)
        soon = self._left() if time.monotonic() < began + 3 * _TOGETHER_S else []
        return max(len(ready), sum(1 for member in soon if member.info))

    def _waits(self) -> bool:
        """Whether more requests are about to be there."""
        return self._more_to_come and self._hands.has_room(self._count)

    def _end_if_done(self) -> None:
        if not self._more_to_come and not self._hands.in_sight:
            self._answers.put(_END)

    def _wait(self, until: Callable[[], bool]) -> None:
        while not until():
            self._change.wait(_LOOK_S)

    def _waits_for(self) -> str:
        said = [process.waits_for for member in self._members if (process := member.process) and process.waits_for]
        return said[0] if said and self._info is None else "the engines to start"

    def _refuse_without_any(self) -> None:
        if not self._left():
            raise self._out()

    def _out(self) -> CaptionAssetsError:
        return self._why_out or ModelError("the engines of a run", "they have been closed")


class _Member:
    """One engine of a pool: its process, which may be another one after a death, and the thread that feeds it.

    `ready_after` is how long it took to load, in seconds, 0 while it does; `deaths` are those since its last answer.
    """

    def __init__(self, pool: EnginePool, number: int) -> None:
        self._pool, self.number = pool, number
        self.process: EngineProcess | None = None
        self.info: EngineInfo | None = None
        self.ready_after = self.ready_at = 0.0
        self.deaths = 0
        self.out = False

    def launch(self) -> None:
        self._start_process()
        threading.Thread(target=self._feed, name=f"engine-{self.number}", daemon=True).start()

    def relaunch(self) -> None:
        """Starts it anew, in a thread: what is left of the old process is ended first."""
        self.ready_after, dead = 0.0, self.process
        threading.Thread(target=self._replace, args=(dead,), daemon=True).start()

    def begin_to_end(self) -> None:
        if self.process is not None:
            self.process.begin_to_end()

    def end(self) -> None:
        if self.process is not None:
            self.process.end()

    def _replace(self, dead: EngineProcess) -> None:
        dead.kill()
        dead.end()
        if not self.out:
            self._start_process()
        if self.out:  # meanwhile
            self.end()

    def _start_process(self) -> None:
        pool = self._pool
        self.process = EngineProcess(
            pool._make,
            lambda process, kind, value: pool.told(self, kind, value),
            environment=pool._environment,
            silence_s=pool._options.stuck_s,
        )

    def _feed(self) -> None:
        while (work := self._pool.work_for(self)) is not None:
            process, requests = work
            for request in requests:
                process.ask(request)
            if self.info is not None and self.info.in_batches:
                process.flush()
            del work, requests, request  # held by the pool until it is answered, and no longer

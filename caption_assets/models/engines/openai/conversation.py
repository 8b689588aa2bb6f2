"""Requests that are open at servers, many at once, beside the thread that asks for them."""

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import nullcontext, suppress
from typing import Any, TypeVar

from caption_assets.models.engines.openai.server import BusyError, ElsewhereError, Patience, Server, ServerGoneError
from caption_assets.models.engines.openai.servers import Servers
from caption_assets.models.engines.visits import Visit
from caption_assets.models.requests import Request, Result
from caption_assets.records import Outcome

T = TypeVar("T")
Further = Callable[[Request, Request], Request]


class Conversation:
    """Requests that are open at servers, in an event loop on a thread of its own.

    Ends with every request that is still open. `broken` are the ids of those that a server had when the connection
    broke. A window that one has gone away over goes to another, and no other such window goes with it. One that a
    server fails with, and not with others, goes to another, too, once.
    """

    def __init__(self, servers: Servers, further: Further | None = None) -> None:
        """`further` makes what is sent for another question about a video that has been sent."""
        self.servers, self._further = servers, further
        self.broken: set[str] = set()
        self._answers: queue.SimpleQueue[Result | ServerGoneError] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._suspects = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-server", daemon=True)

    def __enter__(self) -> "Conversation":
        self._thread.start()
        self._loop.call_soon_threadsafe(self.servers.begin)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What becomes of it in the loop. Raises CancelledError where the conversation is closed meanwhile."""

        async def begun() -> T:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            return await task

        return asyncio.run_coroutine_threadsafe(begun(), self._loop).result()

    def send(self, request: Request) -> None:
        """Asks as soon as there is room; returns at once."""
        with suppress(RuntimeError):  # closed meanwhile, as `answers` will say
            self._loop.call_soon_threadsafe(self._begin, request)

    def answers(self, *, block: bool) -> Iterator[Result]:
        """The answers that are there, the first of them waited for with `block`. Raises ServerGoneError."""
        gone = None
        while block or not self._answers.empty():
            answer, block = self._answers.get(), False
            if isinstance(answer, Result):
                yield answer
            else:
                gone = answer
        if gone is not None:
            raise gone

    def close(self) -> None:
        """Breaks off what is open. A caller that waits for an answer gets an error. May be called more than once."""
        with self._closing:
            if self._loop.is_closed():
                return
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
        self._answers.put(ServerGoneError("it was closed in the middle of its work"))

    def _begin(self, request: Request) -> None:
        task = self._loop.create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        try:
            self._answers.put(await self._somewhere(request))
        except ServerGoneError as gone:
            self._answers.put(gone)
        except Exception as error:  # of one request alone
            self._answers.put(_failed(request, error))

    async def _somewhere(self, request: Request) -> Result:
        """A visit at the least busy server; where that is too busy or goes, what is left of it at another.

        Raises ServerGoneError where none is left.
        """
        way, deaths = _OnTheWay(request), 0
        failing: Server | None = None
        while True:
            try:
                async with self._suspects if deaths else nullcontext(), self.servers.least_busy(failing) as server:
                    return await self._visit(way, server)
            except BusyError:
                continue
            except ElsewhereError:
                failing = server
            except ServerGoneError as gone:
                if not self.servers.any_there:
                    raise
                deaths += request.request_id in self.broken
                self.broken.discard(request.request_id)
                if deaths > 1:
                    message = f"two servers went away on it, so it was set aside ({gone})"
                    return Result(request.request_id, outcome=Outcome("failed", "engine_died", message))

    async def _visit(self, way: "_OnTheWay", server: Server) -> Result:
        """One question after the other: the server has the video's tokens once it has answered the first."""
        while way.left:
            asked = way.left[0]
            try:
                ready = asked.request
                if asked is not way.visit.first:
                    assert self._further is not None, "there is nothing to ask further questions with"
                    ready = self._further(way.request, ready)
                result = await server.ask(ready, way.patience, self.broken)
            except (ServerGoneError, BusyError, ElsewhereError):
                raise
            except Exception as error:
                result = _failed(way.request, error)
            way.left[:1] = way.visit.answered(asked, result)
            way.patience = Patience()
        assert way.visit.result is not None
        return way.visit.result

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.servers.close()


class _OnTheWay:
    """A visit that may begin at one server and end at another: what is left to ask, the first of it next."""

    def __init__(self, request: Request) -> None:
        self.request, self.visit, self.patience = request, Visit(request), Patience()
        self.left = [self.visit.first, *self.visit.beside]


def _failed(request: Request, error: Exception) -> Result:
    outcome = Outcome("failed", "engine", f"{type(error).__name__} while asking the server")
    return Result(request.request_id, outcome=outcome)

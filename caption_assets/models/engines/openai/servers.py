"""The servers of a model: a window goes to the least busy, and one that has gone is left out until it is back.

One that says that it is busy rests for as long as it asks, or ever longer; then it has one window at a time until it
answers.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from caption_assets.models.engines.openai import server as asking
from caption_assets.models.engines.openai.server import BusyError, Server, ServerGoneError

log = logging.getLogger(__name__)
IsBack = Callable[[Server], Awaitable[bool]]


@dataclass(slots=True, eq=False)
class _Place:
    """A server from when it is there until it has gone, with the visits that it has now.

    `pause_s` is how long it has rested last, 0 once it has answered since. Times are those of `time.monotonic`.
    """

    server: Server
    open: int = 0
    rests_until: float = 0.0
    pause_s: float = 0.0
    was_busy: bool = False

    def has_room(self, connections: int) -> bool:
        return self.open < (1 if self.pause_s else connections)

    def rest(self, busy: BusyError) -> None:
        now = time.monotonic()
        if now >= self.rests_until:  # or else it is of the same moment as others that it could not take
            self.pause_s = min(2 * self.pause_s or asking.FIRST_PAUSE_S, asking.LONGEST_PAUSE_S)
        wait_s = max(busy.wait_s, self.pause_s * random.uniform(0.5, 1.5))
        self.rests_until = max(self.rests_until, now + wait_s)
        if not self.was_busy:
            log.warning("The server at %s is busy: %s. The others have its windows.", self.server.address.shown, busy)
        self.was_busy = True


class Servers:
    """Servers that all have the same model, for one event loop; each takes `connections` visits at once."""

    def __init__(
        self,
        servers: Sequence[Server],
        connections: int,
        is_back: IsBack | None = None,
        away: Collection[Server] = (),
    ) -> None:
        """`is_back` looks whether one that has gone can be asked again; those in `away` are not there yet."""
        self.all, self._connections, self._is_back, self._away = servers, connections, is_back, away
        self._there = [_Place(server) for server in servers if server not in away]
        self._last_gone = ServerGoneError("no server is there")
        self._changed = asyncio.Event()
        self._looks: set[asyncio.Task[None]] = set()
        for server in servers:
            server.has_others = len(servers) > 1

    @property
    def any_there(self) -> bool:
        return bool(self._there)

    def begin(self) -> None:
        """To be called in the event loop: from now on it looks for those that are away."""
        for server in self._away:
            self._look_for(server)

    @asynccontextmanager
    async def least_busy(self, but: Server | None = None) -> AsyncIterator[Server]:
        """The server with the fewest visits of those that do not rest, as soon as it has room for one more: any
        but this one, where others are there.

        Raises ServerGoneError where none is there. One of which the block raises that is left out; with BusyError, it
        rests.
        """
        place = await self._take(but)
        try:
            yield place.server
            place.pause_s = 0.0
        except BusyError as busy:
            place.rest(busy)
            raise
        except ServerGoneError as gone:
            if place in self._there:  # or else it is known already, and may be back
                self._there.remove(place)
                self._last_gone = gone
                if self._is_back is not None and len(self.all) > 1:
                    said = "The others go on" if self._there else "It was the last one"
                    log.warning("The server at %s is left out: %s. %s.", place.server.address.shown, gone, said)
                    self._look_for(place.server)
            raise
        finally:
            place.open -= 1
            self._changed.set()

    async def close(self) -> None:
        for look in self._looks:
            look.cancel()
        await asyncio.gather(*self._looks, return_exceptions=True)
        for server in self.all:
            await server.close()

    async def _take(self, but: Server | None) -> _Place:
        while True:
            if not self._there:
                raise self._last_gone
            now = time.monotonic()
            able = [place for place in self._there if place.server is not but] or self._there
            free = [place for place in able if place.has_room(self._connections)]
            ready = [place for place in free if place.rests_until <= now]
            if ready:
                place = min(ready, key=lambda place: place.open)
                place.open += 1
                return place
            self._changed.clear()
            rest_s = min((place.rests_until - now for place in free), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(rest_s):
                    await self._changed.wait()

    def _look_for(self, server: Server) -> None:
        look = asyncio.get_running_loop().create_task(self._until_back(server))
        self._looks.add(look)
        look.add_done_callback(self._looks.discard)

    async def _until_back(self, server: Server) -> None:
        assert self._is_back is not None, "nobody knows whether it is back"
        pause = asking.FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, asking.LONGEST_PAUSE_S)
            if await self._is_back(server):
                log.warning("The server at %s is there, and has its part of the windows.", server.address.shown)
                self._there.append(_Place(server))
                self._changed.set()
                return

"""The servers of a model: a window goes to the least busy, and one that has gone is left out until it is back."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from caption_assets.models.engines.openai import server as asking
from caption_assets.models.engines.openai.server import Server, ServerGoneError

log = logging.getLogger(__name__)
IsBack = Callable[[Server], Awaitable[bool]]


@dataclass(slots=True, eq=False)
class _Place:
    """A server from when it is there until it has gone, with the visits that it has now."""

    server: Server
    open: int = 0


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
    async def least_busy(self) -> AsyncIterator[Server]:
        """The server with the fewest visits, as soon as it has room for one more.

        Raises ServerGoneError where none is there. One of which the block raises that is left out.
        """
        place = await self._take()
        try:
            yield place.server
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

    async def _take(self) -> _Place:
        while True:
            place = min(self._there, key=lambda place: place.open, default=None)
            if place is None:
                raise self._last_gone
            if place.open < self._connections:
                place.open += 1
                return place
            self._changed.clear()
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

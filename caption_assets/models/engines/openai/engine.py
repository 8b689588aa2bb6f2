"""The server engine: requests to any OpenAI-compatible servers (`vllm serve`, or others), many at once."""

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass

from caption_assets.errors import ModelError
from caption_assets.models.contexts import Context
from caption_assets.models.engines.base import EngineDeathError, EngineInfo, EngineOptions
from caption_assets.models.engines.openai.address import Address, find_addresses
from caption_assets.models.engines.openai.conversation import Conversation
from caption_assets.models.engines.openai.inputs import ServerPrepare
from caption_assets.models.engines.openai.look import way_in
from caption_assets.models.engines.openai.meeting import Meetings, Met
from caption_assets.models.engines.openai.server import Server, ServerGoneError
from caption_assets.models.engines.openai.servers import Servers
from caption_assets.models.requests import Author, Request, Result
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import Checkpoint
from caption_assets.records import Outcome

log = logging.getLogger(__name__)
_FIRST_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class _Found:
    """The servers' addresses, with what was met at those that are there; `one` stands for all of these. `away` says why
    the others are not."""

    addresses: tuple[Address, ...]
    met: Mapping[Address, Met]
    away: Mapping[Address, str]
    seconds: float

    @property
    def one(self) -> Met:
        return next(iter(self.met.values()))


class OpenAIEngine:
    """A `CaptionEngine` for a model that servers run, one or several. Its weights need not be here."""

    def __init__(
        self, variant: Variant, checkpoint: Checkpoint, options: EngineOptions, model_dir: str | None = None
    ) -> None:
        self._variant, self._options = variant, options
        self._meetings = Meetings(variant, checkpoint, options, model_dir)
        self._found: _Found | None = None
        self._author: Author | None = None
        self._open: set[Conversation] = set()

    def author(self) -> Author:
        """The model that the servers have, as they say. Raises as `start` does."""
        if self._author is None:
            self._found = self._find(_FIRST_WAIT_S)
        assert self._author is not None
        return self._author

    def check_schema(self, schema: str, asked: str) -> None:
        """Which schemas a server takes is its own affair: it is tried with them when it is met."""
        self._meetings.schemas.setdefault(schema, asked)

    def start(self) -> EngineInfo:
        """Finds the servers and the model that they serve, and asks each for a few words.

        Servers that were there before are waited for. Of several, those that are not there are left out for now.
        Raises ModelError where there is none, where it serves another model, and where it does not answer requests of
        the kind that we send.
        """
        if self._found is None:
            self._found = self._find(_FIRST_WAIT_S if self._author is None else self._options.server.return_s)
        met = self._found.one
        for warning in self._warnings(self._found):  # of what is going to be asked: `author` alone asks for nothing
            log.warning("%s", warning)
        return EngineInfo(
            engine="openai",
            engine_version=f"{met.served.software} {met.served.version}".strip() or "unknown",
            device="server",
            precision="unknown" if self._options.precision == "auto" else self._options.precision,
            frame_limits=met.limits,
            context=Context(met.served.context),
            prepare=met.passed.prepare,
            engines=len(self._found.addresses),
            notes=tuple(self._notes(met)),
            is_server=True,
        )

    def ready(self) -> float:
        return self._found.seconds if self._found else 0.0

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields results as the servers answer, with more requests at hand than are open.

        Requests are read in the caller's thread. Raises EngineDeathError where all servers have gone.
        """
        assert self._found is not None, "the engine has not been started"
        prepare, addresses = self._found.one.passed.prepare, self._found.addresses
        batch, most_bytes = self._options.batch_size * len(addresses), self._options.in_flight_bytes
        waiting, more = iter(requests), True
        asked: dict[str, int] = {}
        with self._conversation(self._found) as conversation:
            self._open.add(conversation)
            try:
                while more or asked:
                    room = len(asked) < batch + batch // 4 + 1 and (not asked or sum(asked.values()) < most_bytes)
                    if more and room:
                        request = next(waiting, None)
                        more = request is not None
                        ready = _ready(request, prepare) if request is not None else None
                        if isinstance(ready, Request):
                            asked[ready.request_id] = ready.num_bytes
                            conversation.send(ready)
                        elif ready is not None:
                            yield ready
                    for answer in conversation.answers(block=bool(asked) and not (more and room)):
                        del asked[answer.request_id]
                        yield answer
            except ServerGoneError as gone:
                raise EngineDeathError(
                    "server of engine 'openai'",
                    str(gone),
                    _after(gone, addresses[0]),
                    in_flight=frozenset(conversation.broken & asked.keys()),
                ) from None
            finally:
                self._open.discard(conversation)

    def close(self) -> None:
        """Breaks off what is open; a server notices, and drops it."""
        for conversation in list(self._open):
            conversation.close()
        self._found = None

    def _find(self, wait_s: float) -> _Found:
        started = time.perf_counter()
        addresses, _ = find_addresses(text_model=self._variant.is_text), self._meetings.frame_limits
        servers = [Server(address, self._options.server) for address in addresses]
        with Conversation(Servers(servers, 1)) as conversation:
            self._open.add(conversation)
            try:
                again = self._author is not None
                met, away = conversation.run(self._meetings.meet_all(servers, wait_s, again=again))
            except CancelledError:
                asked = f"server of engine 'openai' in {addresses[0].variable}"
                raise ModelError(asked, "the engine was closed in the middle of its start", "start it again") from None
            finally:
                self._open.discard(conversation)
        by_address = {server.address: each for server, each in met.items()}
        why_away = {server.address: why for server, why in away.items()}
        found = _Found(addresses, by_address, why_away, time.perf_counter() - started)
        self._author = found.one.author
        return found

    def _conversation(self, found: _Found) -> Conversation:
        servers = {address: Server(address, self._options.server) for address in found.addresses}
        for address, met in found.met.items():
            met.introduce(servers[address])
        away = [server for address, server in servers.items() if address not in found.met]

        async def is_back(server: Server) -> bool:
            return await self._meetings.is_back(server, found.one)

        several = Servers(list(servers.values()), self._options.batch_size, is_back, away)
        return Conversation(several, found.one.passed.prepare.further)

    def _warnings(self, found: _Found) -> Iterator[str]:
        """What whoever starts a run should know of its servers."""
        for address, why in found.away.items():
            yield f"The server at {address.shown} is left out for now: {why}"
        if found.one.served.others is not None:
            asked, variable = found.one.served.model, found.addresses[0].variable
            yield f"The server in {variable} lists no {asked!r}; it is asked for it."
        yield from found.one.passed.left_out()

    def _notes(self, met: Met) -> Iterator[str]:
        """What whoever reads the captions should know."""
        served, passed = met.served, met.passed
        if not self._variant.is_text:
            yield f"Frames go to the server in the form {passed.prepare.form!r}."
        if not {served.model, served.root} & set(self._meetings.names):
            yield f"The server calls its model {served.model!r}."
        yield from passed.left_out()
        release = tuple(int(part) for part in re.findall(r"\d+", served.version)[:2])
        family = self._variant.family
        if served.software == "vllm" and release < family.server_times_since:
            since = ".".join(map(str, family.server_times_since))
            does_not = (
                f"vLLM {served.version} does not" if release else "vLLM, which does not tell its version, may not"
            )
            yield f"{does_not} give {family.title} the frames' times; {since} and newer do."


def _after(gone: ServerGoneError, address: Address) -> str:
    """What to do about a server that has gone."""
    if gone.status == 429:
        return "see to the server's limits, or have fewer requests open at once (batch_size)"
    if 0 < gone.status < 500:
        return way_in(address, gone.status) or "see to what the server says"
    return "see why it went away; it may have run out of memory"


def _ready(request: Request, prepare: ServerPrepare) -> Request | Result:
    """The request as it is sent, or why it cannot be."""
    try:
        return request if request.prepared is not None else prepare(request)
    except Exception as error:
        return Result(request.request_id, outcome=Outcome("failed", "engine", f"it cannot be sent ({error})"))

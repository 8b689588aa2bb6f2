"""The server engine: requests to any OpenAI-compatible server (`vllm serve`, or another), many at once."""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import cast, get_args

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.contexts import Context
from caption_assets.models.engines.base import EngineDeathError, EngineInfo, EngineOptions
from caption_assets.models.engines.openai import server as asking
from caption_assets.models.engines.openai.address import Address, find_address
from caption_assets.models.engines.openai.conversation import Conversation
from caption_assets.models.engines.openai.dialects import DIALECTS
from caption_assets.models.engines.openai.inputs import Form, ServerPrepare
from caption_assets.models.engines.openai.look import Served, look, way_in
from caption_assets.models.engines.openai.server import Server, ServerGoneError
from caption_assets.models.engines.openai.trial import Passed, hold_trial
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import Author, Request, Result
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import Checkpoint, asked_limits, frame_limits
from caption_assets.models.weights.downloads import locate_config
from caption_assets.records import Outcome

log = logging.getLogger(__name__)
_FIRST_WAIT_S = 5.0
_MORE_TRIES = 3
_Met = tuple[Served, Passed, FrameLimits | None]


@dataclass(frozen=True, slots=True)
class _Found:
    """A server that has passed its trial."""

    address: Address
    served: Served
    passed: Passed
    author: Author
    limits: FrameLimits | None
    seconds: float


class OpenAIEngine:
    """A `CaptionEngine` for a model that a server runs. Its weights need not be here."""

    def __init__(
        self, variant: Variant, checkpoint: Checkpoint, options: EngineOptions, model_dir: str | None = None
    ) -> None:
        self._variant, self._checkpoint, self._options, self._model_dir = variant, checkpoint, options, model_dir
        self._found: _Found | None = None
        self._author: Author | None = None
        self._open: set[Conversation] = set()

    def author(self) -> Author:
        """The model that the server has, as the server says. Raises as `start` does."""
        if self._author is None:
            self._found = self._find(_FIRST_WAIT_S)
        assert self._author is not None
        return self._author

    def start(self) -> EngineInfo:
        """Finds the server and the model that it serves, and asks it for a few words.

        A server that was there before is waited for. Raises ModelError where there is none, where it serves another
        model, and where it does not answer requests of the kind that we send.
        """
        if self._found is None:
            self._found = self._find(_FIRST_WAIT_S if self._author is None else self._options.server.return_s)
        served, passed = self._found.served, self._found.passed
        return EngineInfo(
            engine="openai",
            engine_version=f"{served.software} {served.version}".strip() or "unknown",
            device="server",
            precision="unknown" if self._options.precision == "auto" else self._options.precision,
            frame_limits=self._found.limits,
            context=Context(served.context),
            prepare=passed.prepare,
            notes=tuple(self._notes(served, passed)),
        )

    def ready(self) -> float:
        return self._found.seconds if self._found else 0.0

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields results as the server answers, with more requests at hand than are open.

        Requests are read in the caller's thread. Raises EngineDeathError where the server has gone.
        """
        assert self._found is not None, "the engine has not been started"
        prepare = self._found.passed.prepare
        batch, most_bytes = self._options.batch_size, self._options.in_flight_bytes
        waiting, more = iter(requests), True
        asked: dict[str, int] = {}
        with self._conversation(self._found, batch) as conversation:
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
                    _after(gone, conversation.server.address),
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
        address, limits = find_address(text_model=self._variant.is_text), self._frame_limits()
        with Conversation(Server(address, self._options.server), 1) as conversation:
            self._open.add(conversation)
            try:
                served, passed, limits = conversation.run(self._meet(conversation.server, limits, wait_s))
            except CancelledError:
                asked = f"server of engine 'openai' in {address.variable}"
                raise ModelError(asked, "the engine was closed in the middle of its start", "start it again") from None
            finally:
                self._open.discard(conversation)
        author = self._author = _author(address, served, passed)
        for note in passed.left_out():
            log.warning("%s", note)
        return _Found(address, served, passed, author, limits, time.perf_counter() - started)

    async def _meet(self, server: Server, limits: FrameLimits | None, wait_s: float) -> _Met:
        """A server that was there before is not given up for one answer: others may come from where it restarts."""
        deadline, pause = time.monotonic() + wait_s, asking.FIRST_PAUSE_S
        for _ in range(0 if self._author is None else _MORE_TRIES):
            try:
                return await self._meet_once(server, limits, max(0.0, deadline - time.monotonic()))
            except ModelError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(pause)
            pause *= 2
        return await self._meet_once(server, limits, max(0.0, deadline - time.monotonic()))

    async def _meet_once(self, server: Server, limits: FrameLimits | None, wait_s: float) -> _Met:
        options = self._options
        served = await look(server, self._names(), wait_s)
        form = self._form(served)
        if limits is not None and form in ("images", "mp4"):
            limits = limits.as_images()
        prepare = ServerPrepare(
            served.model,
            self._variant.family,
            form,
            options.sampling,
            self._variant.stop,
            DIALECTS["vllm"] if form in ("jpeg", "png") else served.dialect,
            options.server.encode_mp4,
        )
        patience_s = max(wait_s, options.server.retry_s)
        return served, await hold_trial(server, prepare, limits, patience_s, served.others), limits

    def _conversation(self, found: _Found, connections: int) -> Conversation:
        server = Server(found.address, self._options.server)
        server.trial, server.trial_model, server.author = found.passed.body, found.passed.answer.model, found.author
        return Conversation(server, connections, found.passed.prepare.further)

    def _names(self) -> tuple[str, ...]:
        """What a server may call the model."""
        folder = [str(self._checkpoint.folder)] if self._checkpoint.folder else []
        return self._checkpoint.model_id, *folder, self._variant.name

    def _frame_limits(self) -> FrameLimits | None:
        if self._variant.is_text:
            return None
        if self._variant.frames is not None and self._checkpoint.folder is None:
            return asked_limits(self._variant, self._variant.frames)
        folder = locate_config(self._checkpoint, self._model_dir)
        return frame_limits(self._variant, folder, self._variant.family)

    def _form(self, served: Served) -> Form:
        options = self._options.server
        video = options.video
        if video not in (*get_args(Form), "auto"):
            raise ConfigError(f"form of video {video!r}", "it is unknown", "choose auto, jpeg, png, images or mp4")
        if video == "mp4" and options.encode_mp4 is None:
            raise ConfigError("form of video 'mp4'", "nothing here makes mp4 files", "give encode_mp4")
        if video == "auto":
            return "jpeg" if served.software == "vllm" else "images"
        return cast(Form, video)

    def _notes(self, served: Served, passed: Passed) -> Iterator[str]:
        """What whoever reads the captions should know."""
        if not self._variant.is_text:
            yield f"Frames go to the server in the form {passed.prepare.form!r}."
        if not {served.model, served.root} & set(self._names()):
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


def _author(address: Address, served: Served, passed: Passed) -> Author:
    """The model by its answer's name for it; where that is only ours, by what the server has loaded it from."""
    named, prepare = address.redact(passed.answer.model), passed.prepare
    model_id = served.root if served.root and named in ("", served.model) else named or served.model
    # No text depends on whether its tokens' log-probabilities are told.
    changed = (f"{name}={new}" for name, new in prepare.changed.items() if new is None and name != "logprobs")
    manner = (*(() if prepare.family.is_text else (prepare.form,)), *sorted(changed))
    return Author(model_id, server_model=served.model, manner=manner)

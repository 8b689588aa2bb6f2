"""The server engine: requests to any OpenAI-compatible server (`vllm serve`, or another), many at once."""

import asyncio
import queue
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, cast, get_args

import numpy as np

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.engines.base import EngineDeathError, EngineInfo, EngineOptions
from caption_assets.models.engines.openai.address import Address, find_address
from caption_assets.models.engines.openai.inputs import Form, ServerPrepare
from caption_assets.models.engines.openai.server import Served, Server, ServerGoneError
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import Request, Result, caption_request, enhance_request, frame_size
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import Checkpoint, asked_limits, frame_limits
from caption_assets.models.weights.downloads import locate_config
from caption_assets.records import FramePicks, Outcome, SampledFrames

_FIRST_WAIT_S = 5.0


class OpenAIEngine:
    """A `CaptionEngine` for a model that a server runs. Its weights need not be here."""

    def __init__(
        self, variant: Variant, checkpoint: Checkpoint, options: EngineOptions, model_dir: str | None = None
    ) -> None:
        self._variant, self._checkpoint, self._options, self._model_dir = variant, checkpoint, options, model_dir
        self._was_there = False
        self._server: Server | None = None
        self._prepare: ServerPrepare | None = None
        self._open: set[_Conversation] = set()
        self._seconds = 0.0

    def start(self) -> EngineInfo:
        """Finds the server and the model that it serves, and asks it for one word.

        A server that was there before is waited for. Raises ModelError where there is none, where it serves another
        model, and where it does not take requests of the kind that we send.
        """
        started = time.perf_counter()
        address = find_address(text_model=self._variant.is_text)
        limits = self._frame_limits()
        server = Server(address, self._options.server)
        served = server.look(self._names(), self._options.server.return_s if self._was_there else _FIRST_WAIT_S)
        form = self._form(served)
        if limits is not None and form in ("images", "mp4"):
            limits = limits.as_images()
        prepare = ServerPrepare(
            served.model,
            self._variant.family,
            form,
            self._options.sampling,
            self._variant.stop,
            served.extended or form in ("jpeg", "png"),
            self._options.server.encode_mp4,
        )
        if objection := server.try_out(_trial(prepare, limits)):
            raise _refused(address, form if limits else None, objection)
        self._server, self._prepare, self._was_there = server, prepare, True
        self._seconds = time.perf_counter() - started
        return EngineInfo(
            engine="openai",
            engine_version=f"{served.software} {served.version}".strip() or "unknown",
            device="server",
            precision="unknown" if self._options.precision == "auto" else self._options.precision,
            frame_limits=limits,
            prepare=prepare,
            notes=tuple(self._notes(served, prepare)),
        )

    def ready(self) -> float:
        return self._seconds

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields results as the server answers, with more requests at hand than are open.

        Requests are read in the caller's thread. Raises EngineDeathError where the server has gone.
        """
        server, prepare = self._server, self._prepare
        assert server is not None, "the engine has not been started"
        assert prepare is not None
        batch, most_bytes = self._options.batch_size, self._options.in_flight_bytes
        waiting, more = iter(requests), True
        asked: dict[str, int] = {}
        with _Conversation(server, batch) as conversation:
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
                    "see why it went away; it may have run out of memory",
                    in_flight=frozenset(conversation.broken & asked.keys()),
                ) from None
            finally:
                self._open.discard(conversation)

    def close(self) -> None:
        """Breaks off what is open; a server notices, and drops it."""
        for conversation in list(self._open):
            conversation.close()
        self._server = self._prepare = None

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

    def _notes(self, served: Served, prepare: ServerPrepare) -> Iterator[str]:
        """What whoever reads the captions should know."""
        if not self._variant.is_text:
            yield f"Frames go to the server in the form {prepare.form!r}."
        if not {served.model, served.root} & set(self._names()):
            yield f"The server calls its model {served.model!r}."
        if not prepare.extended and self._options.sampling.repetition_penalty != 1:
            yield "The server is not known to take a repetition penalty; none is used."
        release = tuple(int(part) for part in re.findall(r"\d+", served.version)[:2])
        family = self._variant.family
        if served.software == "vllm" and release < family.server_times_since:
            since = ".".join(map(str, family.server_times_since))
            yield f"vLLM {served.version} does not give {family.title} the frames' times; {since} and newer do."


def _ready(request: Request, prepare: ServerPrepare) -> Request | Result:
    """The request as it is sent, or why it cannot be."""
    try:
        return request if request.prepared is not None else prepare(request)
    except Exception as error:
        return Result(request.request_id, outcome=Outcome("failed", "engine", f"it cannot be sent ({error})"))


def _trial(prepare: ServerPrepare, limits: FrameLimits | None) -> bytes:
    """A request of the kind that is sent, as small as can be."""
    if limits is None:
        request = enhance_request("trial", "Repeat this.", "Yes.", 1)
    else:
        width, height = frame_size(limits.factor, limits.factor, 4, limits)
        picks = FramePicks((0, 1, 2, 3), (0.0, 0.5, 1.0, 1.5))
        frames = SampledFrames(np.zeros((4, height, width, 3), np.uint8), picks)
        request = caption_request("trial", "Describe the video.", frames, 1)
    return bytes(prepare(request).prepared)


def _refused(address: Address, form: Form | None, objection: str) -> ModelError:
    asked = f"video in the form {form!r}" if form else "a text"
    if "trust-request-mm-kwargs" in objection:
        fix = "start the server with --trust-request-mm-kwargs, by which vLLM lets a request state its frames' times"
    elif form:
        fix = "start the server as docs/engines.md says, or choose another form as server_video"
    else:
        fix = "check which model it serves"
    return ModelError(f"{asked} for the server in {address.variable}", f"it refuses it ({objection})", fix)


class _Conversation:
    """Requests that are open at a server, at most `connections` at once, in an event loop on a thread of its own.

    Ends with every request that is still open. `broken` are the ids of those that the server had when the connection
    broke.
    """

    def __init__(self, server: Server, connections: int) -> None:
        self.broken: set[str] = set()
        self._server, self._connections = server, connections
        self._answers: queue.SimpleQueue[Result | ServerGoneError] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(connections)
        self._tasks: set[asyncio.Task[None]] = set()
        self._client: Any = None
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-server", daemon=True)

    def __enter__(self) -> "_Conversation":
        self._client = self._server.client(self._connections)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            async with self._slots:
                self._answers.put(await self._server.ask(self._client, request, self.broken))
        except ServerGoneError as gone:
            self._answers.put(gone)
        except Exception as error:  # of one request alone
            outcome = Outcome("failed", "engine", f"{type(error).__name__} while asking the server")
            self._answers.put(Result(request.request_id, outcome=outcome))

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()

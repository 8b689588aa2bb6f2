"""What every engine is: requests in, results out, started once, closed always. Imports no engine."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from caption_assets.errors import CaptionAssetsError
from caption_assets.models.contexts import Context
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import Author, Prepare, Request, Result
from caption_assets.models.variants import Sampling
from caption_assets.records import SampledFrames
from caption_assets.settings import AskedPrecision, VideoForm


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs, for tables and metadata.

    `precision` is that of the weights as they are computed with, in the words of the setting, or "unknown".
    `frame_limits` bound the frames that requests may carry; None for text models. `context` is what prompt and answer
    may be long; whoever makes requests asks it first. `prepare`, where the engine has
    one, is to be applied to every request before it is given to `generate`. `ahead_bytes` of requests may be read while
    it starts. `in_batches` says that requests run in batches, so that a result's `seconds` are its part of its batch's.
    `engines` is how many share the requests. `gpus` are all of theirs, held since `held_since`, a time of
    `time.monotonic`; none on a CPU or behind a server. `notes` are sentences that whoever reads the metadata should
    know, such as a precision that this GPU only emulates. `is_server` says that the model runs elsewhere already, so
    that nothing was started.
    """

    engine: str
    engine_version: str
    device: str
    precision: str
    frame_limits: FrameLimits | None = None
    context: Context = field(default_factory=Context)
    prepare: Prepare | None = field(default=None, repr=False)
    ahead_bytes: int = 0
    in_batches: bool = False
    engines: int = 1
    gpus: int = 0
    held_since: float | None = None
    notes: tuple[str, ...] = ()
    is_server: bool = False


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a model is asked that a server runs. Where the server is, and its key, are in the environment only.

    `model` is the name that the server has for the model, found by itself where None. `video` is the form in which
    frames are sent, "auto" by what the server is. An answer may take `timeout_s` seconds; for `retry_s` seconds a
    request is sent again where the server is busy or the connection breaks; a server that has gone away is waited
    for `return_s` seconds. `encode_mp4`, for the form "mp4", makes a file of a window's frames; it is pickled.
    """

    model: str | None = None
    video: VideoForm = "auto"
    timeout_s: float = 600.0
    retry_s: float = 60.0
    return_s: float = 300.0
    encode_mp4: Callable[[SampledFrames], bytes] | None = None


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs.

    `device` is "auto", "cpu", "cuda" or "cuda:<n>"; `tensor_parallel` is over how many GPUs one model is spread.
    `batch_size` is how many requests run together in an engine that works in batches, or are open at a server;
    `in_flight_bytes` bounds the requests that an engine holds. One in this process or started by it that shows no sign
    of work for `stuck_s` seconds counts as stuck. `trust_remote_code` allows code from a model's repository to run,
    where the variant needs it. `several` says that requests have further questions, for which an engine may keep what
    it knows of their videos. `vllm_args` are further `EngineArgs` of vLLM, which win over our own.
    """

    device: str = "auto"
    precision: AskedPrecision = "auto"
    batch_size: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    tensor_parallel: int = 1
    in_flight_bytes: int = 8 << 30
    stuck_s: float = 600.0
    trust_remote_code: bool = False
    several: bool = False
    server: ServerOptions = field(default_factory=ServerOptions)
    vllm_args: Mapping[str, Any] = field(default_factory=dict)


class EngineDeathError(CaptionAssetsError):
    """An engine that ended in the middle of its work. `in_flight` are the ids of the requests that it had then."""

    kind, did, doing = "engine_died", "died", "dying"

    def __init__(self, asked: str, wrong: str, fix: str = "", in_flight: frozenset[str] = frozenset()) -> None:
        super().__init__(asked, wrong, fix)
        self.in_flight = in_flight


class EngineStuckError(EngineDeathError):
    """An engine that does not go on: it is still there, and shows no sign of work."""

    kind, did, doing = "engine_stuck", "got stuck", "getting stuck"

    @classmethod
    def after(cls, seconds: float, engine: str, in_flight: frozenset[str]) -> "EngineStuckError":
        wrong = f"it has not gone on for {seconds:g} seconds"
        return cls(f"engine {engine!r}", wrong, "raise engine_timeout_s where it is only slow", in_flight)


class Pulse:
    """When an engine last showed that it works; any thread may tell it (`beat`)."""

    def __init__(self, most_seconds: float) -> None:
        self.most_seconds = most_seconds
        self._last = time.monotonic()

    def beat(self) -> None:
        self._last = time.monotonic()

    @property
    def left(self) -> float:
        """Seconds until the engine counts as stuck, 0 or less where it does."""
        return self._last + self.most_seconds - time.monotonic()


class CaptionEngine(Protocol):
    """An engine for one model.

    `start` begins to load it, and says what will run, so that requests can be prepared meanwhile; `ready` waits until
    it is loaded, and returns the seconds that this took. Both raise ModelError. `generate` yields one result for every
    request, in any order, and never raises for a single bad request; it may read `requests` ahead, in a thread, and
    has stopped doing so when it ends. Where the engine itself ends or gets stuck, it raises EngineDeathError. `close`
    frees everything and may be called at any time, more than once; `start` may follow it. `author` is who will write
    the texts; it may be asked for before the start, loads nothing, and raises ModelError where a server has to tell it
    and does not. `check_schema` may be called before the start, too, and raises ConfigError, of what was `asked`, for a
    schema that it could keep no answer to.
    """

    def author(self) -> Author: ...

    def check_schema(self, schema: str, asked: str) -> None: ...

    def start(self) -> EngineInfo: ...

    def ready(self) -> float: ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]: ...

    def close(self) -> None: ...

"""What every engine is: requests in, results out, started once, closed always. Imports no engine."""

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from caption_assets.errors import CaptionAssetsError, ModelError
from caption_assets.models.variants import FrameLimits, Sampling, Variant
from caption_assets.records import OK, Outcome, SampledFrames

log = logging.getLogger(__name__)
_MOST_SET_ASIDE = 3
# What a model thinks aloud before it answers. Its beginning may stand in the prompt already.
_THINKING = re.compile(r"\A(?:(?!</think>).)*</think>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Request:
    """One text to generate.

    `messages` are chat messages as chat templates take them; at most one content part is a video, and `frames`
    are then its frames, already in the size that the model sees. `max_tokens` bounds the answer. `prepared` is what
    the engine's own `prepare` made of it, in place of the frames, of `num_bytes` bytes; `prepared_at` is when, in
    seconds of the monotonic clock, which all processes of a machine share.
    """

    request_id: str
    messages: tuple[dict[str, Any], ...]
    frames: SampledFrames | None = None
    max_tokens: int = 512
    prepared: Any = field(default=None, repr=False)
    prepared_at: float | None = None
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request. `text` is None unless `outcome` is ok.

    `finish_reason` is "stop", or "length" where `max_tokens` cut the text off. `seconds` is the engine's time for it,
    shared evenly where requests ran as a batch. Where the engine can tell, `wait_s` is the time from the end of the
    request's preparation until the model began with it, `prefill_s` from then to the first token, and `generate_s`
    from the first to the last token.
    """

    request_id: str
    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float = 0.0
    wait_s: float | None = None
    prefill_s: float | None = None
    generate_s: float | None = None
    outcome: Outcome = OK


Prepare = Callable[[Request], Request]
"""Work on a request that needs no GPU: pickled, and called in worker processes beside the decoding."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs, for tables and metadata.

    `precision` is that of the weights as they are computed with, in the words of the setting, or "unknown".
    `frame_limits` bound the frames that requests may carry; None for text models. `prepare`, where the engine has
    one, is to be applied to every request before it is given to `generate`. `notes` are sentences that whoever reads
    the metadata should know, such as a precision that this GPU only emulates.
    """

    engine: str
    engine_version: str
    device: str
    precision: str
    frame_limits: FrameLimits | None = None
    prepare: Prepare | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Which weights: a folder (`revision` is then a hash of its files), or a Hugging Face id at a pinned revision."""

    model_id: str
    revision: str
    folder: Path | None = None


VideoForm = Literal["auto", "jpeg", "png", "images", "mp4"]


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
    `in_flight_bytes` bounds the prepared requests that an engine with continuous batching holds. `trust_remote_code`
    allows code from a model's repository to run, where the variant needs it. `vllm_args` are further `EngineArgs` of
    vLLM, which win over our own.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    tensor_parallel: int = 1
    in_flight_bytes: int = 8 << 30
    trust_remote_code: bool = False
    server: ServerOptions = field(default_factory=ServerOptions)
    vllm_args: Mapping[str, Any] = field(default_factory=dict)


class EngineDeathError(CaptionAssetsError):
    """An engine that ended in the middle of its work. `in_flight` are the ids of the requests that it had then."""

    kind = "engine_died"

    def __init__(self, asked: str, wrong: str, fix: str = "", in_flight: frozenset[str] = frozenset()) -> None:
        super().__init__(asked, wrong, fix)
        self.in_flight = in_flight


class CaptionEngine(Protocol):
    """An engine for one model.

    `start` begins to load it, and says what will run, so that requests can be prepared meanwhile; `ready` waits until
    it is loaded, and returns the seconds that this took. Both raise ModelError. `generate` yields one result for every
    request, in any order, and never raises for a single bad request; it may read `requests` ahead, in a thread, and
    has stopped doing so when it ends. Where the engine itself ends, it raises EngineDeathError. `close` frees
    everything and may be called at any time, more than once; `start` may follow it.
    """

    def start(self) -> EngineInfo: ...

    def ready(self) -> float: ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]: ...

    def close(self) -> None: ...


class EngineSession:
    """One model for the whole of a run: its engine starts when the first shard needs it, and stops with the run.

    `variant` and `source` say which model it is without starting anything. Once it is loaded, `start_seconds` is what
    that took, and `ready_at` when it was, by `time.perf_counter`.
    """

    def __init__(self, variant: Variant, source: ModelSource, engine: CaptionEngine) -> None:
        self.variant, self.source = variant, source
        self._engine = engine
        self._info: EngineInfo | None = None
        self.start_seconds = 0.0
        self.ready_at: float | None = None

    @property
    def info(self) -> EngineInfo:
        """What runs. Begins to start the engine where that has not been done yet; raises ModelError."""
        if self._info is None:
            self._info = self._engine.start()
        return self._info

    @property
    def started(self) -> bool:
        return self._info is not None

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """One result for every request, in any order.

        An engine that dies is started again, and what is unfinished is sent again: first the requests that it had
        when it died, one at a time, then the others. A request that it dies on twice is set aside with a failed
        result. Raises ModelError where the engine does not start again, dies at once again with no request to blame,
        or dies of more than a few.
        """
        self._await_engine()
        unfinished: dict[str, Request] = {}
        deaths: Counter[str] = Counter()
        answered, set_aside = True, 0
        fresh = _Recorded(requests, unfinished)
        parts: list[Iterable[Request]] = [fresh]
        while parts:
            try:
                for result in self._engine.generate(parts[0]):
                    del unfinished[result.request_id]
                    answered = True
                    yield replace(result, text=result.text and _THINKING.sub("", result.text).strip())
                del parts[0]
            except EngineDeathError as death:
                deaths.update(death.in_flight)
                killers = [name for name in death.in_flight if deaths[name] > 1]
                set_aside += len(killers)
                if set_aside > _MOST_SET_ASIDE or not (killers or answered):
                    raise ModelError(death.asked, f"it keeps dying ({death.wrong})", death.fix) from death
                log.warning("%s It is started again for what is unfinished.", death)
                self.close()
                self._await_engine()
                for name in killers:
                    del unfinished[name]
                    message = f"the engine died on it twice, so it was set aside ({death.wrong})"
                    yield Result(name, outcome=Outcome("failed", death.kind, message))
                answered = False
                suspects = [[request] for name, request in unfinished.items() if deaths[name]]
                parts = [*suspects, [request for name, request in unfinished.items() if not deaths[name]], fresh]

    def close(self) -> None:
        self._engine.close()
        self._info = None

    def _await_engine(self) -> None:
        _ = self.info
        seconds = self._engine.ready()
        if self.ready_at is None:
            self.start_seconds, self.ready_at = seconds, time.perf_counter()


class _Recorded:
    """Requests as they are read, each noted in `unfinished` before anything can happen to it."""

    def __init__(self, requests: Iterable[Request], unfinished: dict[str, Request]) -> None:
        self._requests, self._unfinished = iter(requests), unfinished

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        request = next(self._requests)
        self._unfinished[request.request_id] = request
        return request

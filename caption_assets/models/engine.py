"""What every engine is: requests in, results out, started once, closed always. Imports no engine."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from caption_assets.models.variants import Sampling
from caption_assets.records import OK, Outcome, SampledFrames


@dataclass(frozen=True, slots=True)
class Request:
    """One text to generate.

    `messages` are chat messages as chat templates take them; at most one content part is a video, and `frames`
    are then its frames, already in the size that the model sees. `max_tokens` bounds the answer.
    """

    request_id: str
    messages: tuple[dict[str, Any], ...]
    frames: SampledFrames | None = None
    max_tokens: int = 512


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request. `text` is None unless `outcome` is ok.

    `finish_reason` is "stop", or "length" where `max_tokens` cut the text off. `seconds` is the engine's time,
    shared evenly where requests ran as a batch.
    """

    request_id: str
    text: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float = 0.0
    outcome: Outcome = OK


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What runs, for tables and metadata. `start_seconds` is what loading cost."""

    engine: str
    engine_version: str
    device: str
    precision: str
    start_seconds: float


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model that can be loaded: `path` is what the loader takes, `model_id` and `revision` what the tables say."""

    model_id: str
    revision: str
    path: str
    load_revision: str | None = None


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an engine runs. `device` is "auto", "cpu", "cuda" or "cuda:<n>"."""

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 8
    sampling: Sampling = field(default_factory=Sampling)


class CaptionEngine(Protocol):
    """An engine for one model.

    `start` loads it (raises ModelError), `generate` yields one result for every request, in any order, and never
    raises for a single bad request; `close` frees everything and may be called at any time, more than once.
    """

    def start(self) -> EngineInfo: ...

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]: ...

    def close(self) -> None: ...


class EngineSession:
    """One engine for the whole of a run: started when the first shard needs it, closed with the `with` block."""

    def __init__(self, engine: CaptionEngine) -> None:
        self._engine = engine
        self._info: EngineInfo | None = None

    @property
    def info(self) -> EngineInfo:
        """Starts the engine where it is not started yet."""
        if self._info is None:
            self._info = self._engine.start()
        return self._info

    @property
    def started(self) -> bool:
        return self._info is not None

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        _ = self.info
        return self._engine.generate(requests)


@contextmanager
def engine_session(engine: CaptionEngine) -> Iterator[EngineSession]:
    """Yields a session of `engine` that starts it at most once and closes it whatever happens."""
    try:
        yield EngineSession(engine)
    finally:
        engine.close()

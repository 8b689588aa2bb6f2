"""What every engine is: requests in, results out, started once, closed always. Imports no engine."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from caption_assets.models.variants import FrameLimits, Sampling, Variant
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
    """What runs, for tables and metadata. `start_seconds` is what loading cost.

    `frame_limits` bound the frames that requests may carry; None for text models.
    """

    engine: str
    engine_version: str
    device: str
    precision: str
    start_seconds: float
    frame_limits: FrameLimits | None = None


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Which weights: a folder (`revision` is then a hash of its files), or a Hugging Face id at a pinned revision."""

    model_id: str
    revision: str
    folder: Path | None = None


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
    """One model for the whole of a run: its engine starts when the first shard needs it, and stops with the run.

    `variant` and `source` say which model it is without starting anything.
    """

    def __init__(self, variant: Variant, source: ModelSource, engine: CaptionEngine) -> None:
        self.variant, self.source = variant, source
        self._engine = engine
        self._info: EngineInfo | None = None

    @property
    def info(self) -> EngineInfo:
        """What runs. Starts the engine where it is not started yet; raises ModelError."""
        if self._info is None:
            self._info = self._engine.start()
        return self._info

    @property
    def started(self) -> bool:
        return self._info is not None

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """One result for every request, in any order."""
        _ = self.info
        return self._engine.generate(requests)

    def close(self) -> None:
        self._engine.close()
        self._info = None

"""What a worker process does before an engine is asked: decode a clip's windows, and make requests of them."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from caption_assets.errors import CaptionAssetsError, RequestError
from caption_assets.models.requests import Prepare, Request, caption_request
from caption_assets.records import Window
from caption_assets.settings import DecodeLimits
from caption_assets.workers.tasks import DecodeJob, decode_clip

_MOST_WORKERS = 8


def prepare_workers() -> int:
    """Worker processes that prepare windows for one engine: one a core, up to as many as any engine needs.

    A window of 16 frames takes a worker about 0.4 s, and each holds about a gigabyte once it renders for vLLM.
    """
    return min(os.cpu_count() or 1, _MOST_WORKERS)


@dataclass(frozen=True, slots=True)
class PrepareJob:
    """A clip's windows to ask about: for each one the request's id and the prompt."""

    decode: DecodeJob
    questions: Mapping[Window, tuple[str, str]]
    max_tokens: int
    prepare: Prepare | None

    @property
    def source(self) -> str:
        return self.decode.source

    @property
    def limits(self) -> DecodeLimits:
        return self.decode.limits

    @property
    def work(self) -> int:
        return self.decode.work

    def __str__(self) -> str:
        return f"clip {self.source}"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One window's request, or why there is none, and what it took: to decode and resize, and to render it."""

    request_id: str
    request: Request | CaptionAssetsError
    decode_s: float
    render_s: float


def prepare_clip(job: PrepareJob) -> Iterator[Prepared]:
    """Every window in the order of the decoding. Raises ClipError where the file breaks or has changed."""
    clock = time.perf_counter()
    for window, frames in decode_clip(job.decode):
        decoded = time.perf_counter()
        request_id, prompt = job.questions[window]
        request = _request(request_id, caption_request(request_id, prompt, frames, job.max_tokens), job.prepare)
        yield Prepared(request_id, request, decoded - clock, time.perf_counter() - decoded)
        del frames, request  # before the next window's are there
        clock = time.perf_counter()


def _request(request_id: str, request: Request, prepare: Prepare | None) -> Request | CaptionAssetsError:
    try:
        if prepare is None:
            return replace(request, prepared_at=time.monotonic())
        return prepare(request)
    except CaptionAssetsError as error:
        return error
    except Exception as error:  # of the model's own processing code
        return RequestError(f"request {request_id}", f"it cannot be prepared ({type(error).__name__}: {error})")

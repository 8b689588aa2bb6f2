"""The vLLM engine: continuous batching in a process of its own, on a GPU, spread over several, or on the CPU."""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np

from caption_assets.errors import ModelError, first_line
from caption_assets.extras import importing
from caption_assets.models.contexts import Context
from caption_assets.models.engines.base import EngineDeathError, EngineInfo, EngineOptions, EngineStuckError, Pulse
from caption_assets.models.engines.grammars import check_schema
from caption_assets.models.engines.visits import Asked, Visit, failed
from caption_assets.models.engines.vllm.children import Children
from caption_assets.models.engines.vllm.flight import END, Flight
from caption_assets.models.engines.vllm.inputs import (
    VllmPrepare,
    context_size,
    engine_input,
    further_input,
    prepared_input,
)
from caption_assets.models.engines.vllm.last_error import LastError
from caption_assets.models.engines.vllm.launch import check_build, launch_args, vllm_version
from caption_assets.models.families import Family, FrameLimits
from caption_assets.models.gpus import GpuLease, check, fit, lease
from caption_assets.models.requests import (
    Author,
    Request,
    Result,
    caption_request,
    enhance_request,
    frame_size,
    request_seed,
)
from caption_assets.models.schemas import grammatical
from caption_assets.models.thinking import leaves_out_marks
from caption_assets.models.variants import Variant, require_kind
from caption_assets.models.weights.checkpoints import (
    Checkpoint,
    checkpoint_family,
    frame_limits,
    weights_gib,
)
from caption_assets.models.weights.downloads import locate
from caption_assets.records import FramePicks, SampledFrames

log = logging.getLogger(__name__)
_FIX = "the engine's own messages are in the log above"
_SPARE_GIB, _LOOK_S = 4.0, 1.0
_BREAK_OFF_SECONDS, _CLOSE_SECONDS = 3.0, 60.0
_WARM_UP_SIZE, _WARM_UP_FRAMES, _WARM_UP_TOKENS, _WARM_UP_REQUESTS = (1280, 720), 8, 4, 3
_SETTINGS = {
    # The core is a process of its own, started afresh: this one has threads, and maybe CUDA.
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


class VllmEngine:
    """A `CaptionEngine` on vLLM's AsyncLLM. Requests arrive rendered (`EngineInfo.prepare`), the rest is the GPU's."""

    def __init__(
        self, variant: Variant, checkpoint: Checkpoint, options: EngineOptions, model_dir: str | None = None
    ) -> None:
        self._variant, self._checkpoint, self._options, self._model_dir = variant, checkpoint, options, model_dir
        self._lease: GpuLease | None = None
        self._family: Family = variant.family
        self._llm: Any = None
        self._pulse = Pulse(options.stuck_s)
        self._last_error = LastError()
        self._prepare: VllmPrepare | None = None
        self._keeps_marks = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._launched: Future[float] | None = None
        self._children = Children()
        self._ended: asyncio.Future[None] | None = None

    def author(self) -> Author:
        return Author(self._checkpoint.model_id, self._checkpoint.revision)

    def check_schema(self, schema: str, asked: str) -> None:
        check_schema(schema, asked)

    def start(self) -> EngineInfo:
        """Checks and leases the GPU, fetches the weights and begins to load them. Raises ModelError."""
        variant, options = self._variant, self._options
        check_build(variant, options.device)
        check(variant, options.precision, device=options.device, tensor_parallel=options.tensor_parallel)
        folder = locate(self._checkpoint, self._model_dir, trust_remote_code=options.trust_remote_code)
        self._family = family = checkpoint_family(folder, variant.family)
        require_kind(variant, family, f"model in {folder}")
        limits = frame_limits(variant, folder, family)
        need_gib = None if variant.min_gpu_gib else weights_gib(folder) + _SPARE_GIB
        self._lease = lease(
            variant,
            options.precision,
            device=options.device,
            tensor_parallel=options.tensor_parallel,
            min_gib=need_gib,
        )
        fitted = replace(variant, vllm=fit(variant, self._lease.gpus, need_gib))
        arguments = launch_args(fitted, options, folder, family, limits)
        arguments.setdefault("gpu_memory_utilization", fitted.vllm.gpu_memory_utilization)
        self._prepare = VllmPrepare(arguments, family)
        self._launch(arguments, self._lease, limits)
        return EngineInfo(
            engine="vllm",
            engine_version=vllm_version(),
            device=", ".join(f"{gpu.name} {gpu.uuid}" for gpu in self._lease.gpus) or "cpu",
            precision="fp32" if options.device == "cpu" else variant.weights_precision(options.precision),
            frame_limits=limits,
            context=Context(context_size(arguments), folder / "tokenizer.json"),
            prepare=None if variant.is_text else self._prepare,
            ahead_bytes=options.in_flight_bytes,
            gpus=len(self._lease.gpus),
            held_since=self._lease.since,
            notes=self._lease.notes,
        )

    def ready(self) -> float:
        assert self._launched is not None, "the engine has not been started"
        try:
            return self._launched.result()
        except Exception as error:
            self.close()
            asked = f"variant {self._variant.name!r} with engine 'vllm'"
            why = error.wrong if isinstance(error, EngineDeathError) else first_line(error)
            raise ModelError(asked, f"vLLM does not start ({str(self._last_error) or why})", _FIX) from error

    def _launch(self, arguments: dict[str, Any], gpus: GpuLease, limits: FrameLimits | None) -> None:
        """Begins to start vLLM's processes, from an event loop in a thread, which then talks to them."""
        loop, last_error = asyncio.new_event_loop(), LastError()
        self._loop, self._last_error = loop, last_error
        threading.Thread(target=loop.run_forever, name="vllm", daemon=True).start()
        self._children = children = Children()

        async def make() -> float:
            started = time.perf_counter()
            # vLLM's processes take their GPUs and settings from the environment that they start in.
            quiet = {"VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "WARNING")}
            chosen = {"CUDA_VISIBLE_DEVICES": gpus.visible_devices}
            with _environment(_SETTINGS | quiet | chosen | last_error.environment | children.environment):
                with importing():
                    from vllm.engine.arg_utils import AsyncEngineArgs
                    from vllm.v1.engine.async_llm import AsyncLLM

                if self._loop is not loop:
                    raise ModelError(f"variant {self._variant.name!r}", "it was closed while it started")
                self._llm = AsyncLLM.from_engine_args(
                    AsyncEngineArgs(**arguments), stat_loggers=[_pulse_logger(self._pulse)]
                )
            self._ended = children.end()
            self._keeps_marks = leaves_out_marks(self._llm.renderer.get_tokenizer())
            await self._warm_up(limits)
            return time.perf_counter() - started

        self._launched = asyncio.run_coroutine_threadsafe(make(), self._loop)

    async def _warm_up(self, limits: FrameLimits | None) -> None:
        """Asks for a few words about black frames: what is compiled at the first request is part of the start.

        The frames are as large as those of real windows, since kernels are chosen by what they are first tried with;
        and there are several requests, since some are compiled anew for more than one.
        """
        if limits is None:
            request = enhance_request("warm-up", "Repeat this.", "One, two.", _WARM_UP_TOKENS)
        else:
            width, height = frame_size(*_WARM_UP_SIZE, _WARM_UP_FRAMES, limits)
            picks = FramePicks(tuple(range(_WARM_UP_FRAMES)), tuple(k / 2 for k in range(_WARM_UP_FRAMES)))
            frames = SampledFrames(np.zeros((_WARM_UP_FRAMES, height, width, 3), np.uint8), picks)
            request = caption_request("warm-up", "Describe this.", frames, _WARM_UP_TOKENS)
        flight = Flight(0, self._pulse)
        asked = [request, *(replace(request, request_id=f"warm-up {k}") for k in range(1, _WARM_UP_REQUESTS))]
        self._pulse.beat()
        asking = asyncio.gather(*(self._ask(one, flight) for one in asked))
        while not (await asyncio.wait((asking,), timeout=_LOOK_S))[0]:
            if self._pulse.left <= 0:
                asking.cancel()
                raise EngineStuckError.after(self._pulse.most_seconds, "vllm", frozenset())
        for _ in asked:
            answer = flight.answers.get_nowait()
            if isinstance(answer, BaseException):
                raise answer
            if not answer.outcome.ok:
                log.warning("vLLM is not warmed up, so that the first window takes longer: %s", answer.outcome.message)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """Yields results as they end. Requests are read ahead as long as those in flight stay within the bytes.

        Raises EngineDeathError and EngineStuckError.
        """
        flight = Flight(self._options.in_flight_bytes, self._pulse)
        feeder = threading.Thread(target=self._feed, args=(requests, flight), name="vllm-feeder", daemon=True)
        feeder.start()
        try:
            while (answer := flight.next_answer()) is not END:
                if isinstance(answer, BaseException):
                    raise answer
                flight.landed(answer.request_id)
                yield answer
        finally:
            flight.stop()
            feeder.join()
            flight.cancel()

    def close(self) -> None:
        """Ends vLLM's processes, which frees the GPU's memory, and gives the lease back."""
        loop, gpus = self._loop, self._lease
        self._loop = self._lease = None
        if loop is not None:
            self._break_off_start()

            async def end() -> None:
                if self._llm is not None:
                    self._llm.shutdown()

            with suppress(Exception):  # it may be dead already
                starting = self._launched is not None and not self._launched.done()
                asyncio.run_coroutine_threadsafe(end(), loop).result(timeout=0 if starting else _CLOSE_SECONDS)
            loop.call_soon_threadsafe(loop.stop)
            self._llm = None
        if gpus is not None:
            gpus.close()

    def _break_off_start(self) -> None:
        """Ends the processes of an engine that is still starting: vLLM itself would first wait for them."""
        until = time.monotonic() + _BREAK_OFF_SECONDS
        while self._launched is not None and not self._launched.done() and time.monotonic() < until:
            self._children.kill()
            time.sleep(0.05)  # what is imported meanwhile is imported to the end

    def _feed(self, requests: Iterable[Request], flight: Flight) -> None:
        assert self._loop is not None
        try:
            for request in requests:
                if not flight.take_off(request):
                    return
                flight.track(request, asyncio.run_coroutine_threadsafe(self._ask(request, flight), self._loop))
            flight.finish()
        except BaseException as error:  # of the caller's requests; it belongs to the consumer
            flight.answers.put(error)

    async def _ask(self, request: Request, flight: Flight) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        assert self._ended is not None
        visit = asyncio.ensure_future(self._visit(request, time.monotonic()))
        visit.add_done_callback(lambda done: done.cancelled() or done.exception())  # also where nobody waits for it
        try:
            await asyncio.wait((visit, self._ended), return_when=asyncio.FIRST_COMPLETED)
            if not visit.done():
                raise EngineDeadError
            flight.answers.put(visit.result())
        except* EngineDeadError as errors:
            said = str(self._last_error)
            wrong = f"vLLM's engine process ended{': ' * bool(said)}{said}"
            death = EngineDeathError("engine 'vllm'", wrong, _FIX, in_flight=flight.ids())
            death.__cause__ = errors
            flight.answers.put(death)
        except* Exception as errors:  # nothing else answers it
            error: Exception = errors
            while isinstance(error, ExceptionGroup):
                error = error.exceptions[0]
            flight.answers.put(failed(request, error))
        finally:
            visit.cancel()

    async def _visit(self, request: Request, started: float) -> Result:
        """The result of a request with those of its further questions. Raises EngineDeadError, in a group."""
        from vllm.v1.engine.exceptions import EngineDeadError

        assert self._prepare is not None
        visit, renderer, prepare = Visit(request), self._llm.renderer, self._prepare
        try:
            prepared = request.prepared or prepared_input(renderer, prepare, request)
            rendered = engine_input(prepared)
        except Exception as error:
            return failed(request, error)

        async def ask(asked: Asked, beside: list[Asked]) -> None:
            """Asks it and, once it has begun, what is `beside` it; then what its answer leads to."""
            async with asyncio.TaskGroup() as group:

                def begun() -> None:
                    while beside:
                        group.create_task(ask(beside.pop(0), []))

                try:
                    given, since = (rendered, prepared.opened), request.prepared_at or started
                    if asked is not visit.first:
                        given = further_input(renderer, prepare, rendered, request, asked.request)
                        since = time.monotonic()
                    result = await self._answer(asked, *given, since, begun if beside else None)
                except EngineDeadError:
                    raise
                except Exception as error:
                    result = failed(request, error)
                begun()
                for further in visit.answered(asked, result):
                    group.create_task(ask(further, []))

        await ask(visit.first, visit.beside)
        assert visit.result is not None
        return visit.result

    async def _answer(
        self, asked: Asked, rendered: dict[str, Any], opened: str, since: float, begun: Callable[[], None] | None
    ) -> Result:
        """What comes of one question, ready `since` then; its first token is told by `begun`."""
        request, started = asked.request, time.monotonic()
        sampling = self._sampling(request, tells_more=begun is not None)
        last: Any = None
        # What is asked next of a window comes before another window.
        first = asked.id == request.request_id
        async for output in self._llm.generate(rendered, sampling, asked.id, priority=0 if first else -1):
            last = output
            if begun is not None:
                begun()
        text, times = last.outputs[0], last.metrics
        ended = time.monotonic()
        began = times.scheduled_ts or started
        return Result(
            request.request_id,
            text=opened + text.text,
            finish_reason=text.finish_reason,
            prompt_tokens=len(last.prompt_token_ids),
            cached_tokens=last.num_cached_tokens if self._options.several else None,
            output_tokens=len(text.token_ids),
            seconds=ended - began,
            wait_s=max(0.0, began - since),
            prefill_s=times.first_token_ts - began,
            generate_s=times.last_token_ts - times.first_token_ts,
            tokens=[
                (token.decoded_token or "", token.logprob)
                for (token, *_) in (step.values() for step in text.logprobs or ())
            ],
        )

    def _sampling(self, request: Request, *, tells_more: bool = False) -> Any:
        """How vLLM answers the request: at once when it is done, or also while it `tells_more`."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        sampling = request.sampling or self._options.sampling
        drawn = sampling.temperature > 0
        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            seed=request_seed(sampling.seed, request.request_id) if drawn else None,
            max_tokens=request.max_tokens,
            skip_special_tokens=not self._keeps_marks,
            stop=list(self._variant.stop),
            structured_outputs=StructuredOutputsParams(json=grammatical(request.schema)) if request.schema else None,
            # Of the chosen tokens alone; raw, before temperature and penalties, as `logprobs_mode` is by default.
            logprobs=0,
            flat_logprobs=True,
            output_kind=RequestOutputKind.CUMULATIVE if tells_more else RequestOutputKind.FINAL_ONLY,
        )


def _pulse_logger(pulse: Pulse) -> Callable[..., Any]:
    """What vLLM tells of each step of its engine, of which only that there was one is of interest."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class PulseLogger(StatLoggerBase):
        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def record(self, *_: Any, **__: Any) -> None:
            pulse.beat()

        def log_engine_initialized(self) -> None:
            pass

    return PulseLogger


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

"""A session: one engine for a whole run, started when it is needed, and started again where it dies."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from caption_assets.errors import ModelError
from caption_assets.models.confidence import confidence_of
from caption_assets.models.engines.ahead import ReadAhead
from caption_assets.models.engines.base import CaptionEngine, EngineDeathError, EngineInfo, EngineStuckError
from caption_assets.models.engines.meter import Meter, Usage
from caption_assets.models.engines.shares import InBatches, Shares, SideBySide
from caption_assets.models.requests import Author, Request, Result
from caption_assets.models.thinking import answer_of
from caption_assets.models.variants import Variant
from caption_assets.models.waits import waiting
from caption_assets.models.weights.checkpoints import Checkpoint
from caption_assets.records import Outcome

log = logging.getLogger(__name__)
_START = "the engine to start"
_MOST_SET_ASIDE = 3
# Deaths with no answer in between that windows may be to blame for: one that it died with others, and one alone. Of
# an engine that has never answered only the first, unless it has been asked a single window each time.
_MOST_AT_ONCE = 2
# Deaths of an engine that does answer in between, and that no window is to blame for, where it answers so few requests
# for each of them: its starts then take longer than its work.
_MOST_FOR_NOTHING, _FEW_ANSWERS = 5, 16
# Of an engine that gets stuck again and again, each time after minutes.
_MOST_STUCK = 2


class EngineSession:
    """One model for the whole of a run: its engine starts when the first shard needs it, and stops with the run.

    `variant` and `checkpoint` say which model it is without starting anything. Once it is loaded, `start_seconds` is
    what that took, and `ready_at` when it was, by `time.perf_counter`. The `seconds` of its results are their shares of
    the time in which it worked; `answered_s` is the sum of them by now. An hour of a GPU costs `gpu_hour_price`, if
    that is known. `when_ready` are called when it is, and `when_closed` when it is closed for good.
    """

    def __init__(
        self,
        variant: Variant,
        checkpoint: Checkpoint,
        engine: CaptionEngine,
        gpu_hour_price: float | None = None,
        restarts: Callable[[], int] = int,
    ) -> None:
        """`restarts` says how often `engine` has started again by now what it consists of, where it does so itself."""
        self.variant, self.checkpoint, self.gpu_hour_price = variant, checkpoint, gpu_hour_price
        self.when_ready: list[Callable[[], object]] = []
        self.when_closed: list[Callable[[], object]] = []
        self._meter, self._restarts = Meter(), restarts
        self.answered_s = 0.0
        self._engine = engine
        self._info: EngineInfo | None = None
        self.start_seconds = 0.0
        self.ready_at: float | None = None
        self._shares: Shares | None = None
        self._has_answered = False

    def start(self) -> EngineInfo:
        """Begins to start the engine where that has not been done yet. Returns what runs; raises ModelError."""
        if self._info is None:
            with waiting(_START):
                self._info = self._engine.start()
            if not self._info.is_server:
                self._meter.take(self._info.gpus, self._info.held_since)
        return self._info

    @property
    def info(self) -> EngineInfo:
        """What runs. Raises ModelError where the engine has not been started."""
        if self._info is None:
            asked = f"what runs variant {self.variant.name!r}"
            raise ModelError(asked, "its engine has not been started", "call start, or generate, first")
        return self._info

    @property
    def started(self) -> bool:
        return self._info is not None

    @property
    def usage(self) -> Usage:
        """What it has used of GPUs by now."""
        usage = self._meter.usage
        return replace(usage, starts=usage.starts + self._restarts())

    def author(self) -> Author:
        """Who writes the texts. Loads nothing; a server is asked which model it has. Raises ModelError."""
        return self._engine.author()

    def check_schema(self, schema: str, asked: str) -> None:
        """Raises ConfigError, of what was `asked`, for a schema that no answer could keep to. Loads no model."""
        self._engine.check_schema(schema, asked)

    def generate(self, requests: Iterable[Request]) -> Iterator[Result]:
        """One result for every request, in any order.

        An engine that dies or gets stuck is started again, and what is unfinished is sent again: first the requests
        that it had then, one at a time and the last one first, then the others. A request that it dies on twice is set
        aside with a failed result, and one of which nothing but unfinished thinking came is a failed one, too. Raises
        ModelError where the engine does not start again, dies at once again with no request to blame or with another
        one each time, dies twice before its first answer, dies of more than a few, dies again and again after a few
        answers, or gets stuck once more with no answer in between.
        """
        with ReadAhead(requests, self.start().ahead_bytes) as ahead:
            self._await_engine()
        shares = self._shares = self._shares or (InBatches() if self.info.in_batches else SideBySide())
        unfinished: dict[str, Request] = {}
        deaths: Counter[str] = Counter()
        answered, set_aside, stuck, at_once = True, 0, 0, 0
        died, answers = 0, 0
        fresh = _Recorded(ahead, unfinished, shares, self._meter)
        parts: list[Iterable[Request]] = [fresh]
        while parts:
            try:
                for result in self._engine.generate(parts[0]):
                    self._meter.leave(unfinished.pop(result.request_id).size)
                    answered, stuck, at_once, self._has_answered = True, 0, 0, True
                    answers += 1
                    seconds = shares.leave(result.request_id, _seconds(result))
                    self.answered_s += seconds
                    yield _shared(_answer(result, self.variant.begins_with), seconds)
                del parts[0]
            except EngineDeathError as death:
                deaths.update(death.in_flight)
                killers = [name for name in death.in_flight if deaths[name] > 1]
                set_aside += len(killers)
                died += 1
                if isinstance(death, EngineStuckError):
                    stuck += 1
                else:
                    at_once += 1
                broken = at_once > (_MOST_AT_ONCE if self._has_answered or len(deaths) == 1 else 1)
                # Of each request that is set aside it has died twice.
                worn = died - 2 * set_aside > _MOST_FOR_NOTHING and answers < _FEW_ANSWERS * died
                if broken or worn or set_aside > _MOST_SET_ASIDE or stuck > _MOST_STUCK or not (killers or answered):
                    raise ModelError(death.asked, f"it keeps {death.doing} ({death.wrong})", death.fix) from death
                log.warning("%s It is started again for what is unfinished.", death)
                self._close_engine()
                self._await_engine()
                for name in killers:
                    self._meter.leave(unfinished.pop(name).size)
                    message = f"the engine {death.did} on it twice, so it was set aside ({death.wrong})"
                    seconds = shares.leave(name, 0.0)
                    self.answered_s += seconds
                    yield Result(name, seconds=seconds, outcome=Outcome("failed", death.kind, message))
                answered = False
                # What it took first was most likely what it died of: if it dies of the last one too, it is the engine.
                suspects = [[request] for name, request in reversed(unfinished.items()) if deaths[name]]
                parts = [*suspects, [request for name, request in unfinished.items() if not deaths[name]], fresh]

    def close(self) -> None:
        self._close_engine()
        called, self.when_closed = self.when_closed, []
        for each in called:
            each()

    def _close_engine(self) -> None:
        self._engine.close()
        self._meter.give_back()
        self._info = None

    def _await_engine(self) -> None:
        self.start()
        with waiting(_START):
            seconds = self._engine.ready()
        self._meter.ready()
        if self.ready_at is None:
            self.start_seconds, self.ready_at = seconds, time.perf_counter()
            log.info("The model is ready after %.1f s, on %s.", seconds, self.info.device)
            for each in self.when_ready:
                each()


def _seconds(result: Result) -> float:
    """By the engine's account, of a result and those of its further questions."""
    return result.seconds + sum(further.seconds for further in result.then)


def _shared(result: Result, seconds: float) -> Result:
    """The result with its part of the `seconds` that it and its further questions took together."""
    share = seconds / total if (total := _seconds(result)) else 0.0
    if not share:
        return replace(result, seconds=seconds)
    then = tuple(replace(further, seconds=share * further.seconds) for further in result.then)
    return replace(result, seconds=share * result.seconds, then=then)


def _answer(result: Result, begins_with: str) -> Result:
    """The result with the model's answer alone and its confidence, failed where it never came to one."""
    if result.then:
        result = replace(result, then=tuple(_answer(further, begins_with) for further in result.then))
    if result.text is None:
        return result
    answer = answer_of(result.text.lstrip().removeprefix(begins_with))
    if not answer.unfinished:
        return replace(result, text=answer.text, tokens=(), confidence=confidence_of(answer.text, result.tokens))
    wrong = f"the model was still thinking after {result.output_tokens} tokens"
    fix = "raise max_output_tokens, or choose a model that does not think"
    return replace(result, text=None, tokens=(), outcome=Outcome("failed", "unfinished_thinking", f"{wrong}; {fix}"))


class _Recorded:
    """Requests as they are read, each noted in `unfinished` before anything can happen to it."""

    def __init__(
        self, requests: Iterable[Request], unfinished: dict[str, Request], shares: Shares, meter: Meter
    ) -> None:
        self._requests, self._unfinished = iter(requests), unfinished
        self._shares, self._meter = shares, meter

    def __iter__(self) -> Iterator[Request]:
        return self

    def __next__(self) -> Request:
        self._shares.wait()
        request = next(self._requests)
        self._shares.enter(request.request_id)
        self._meter.enter(request.size)
        self._unfinished[request.request_id] = request
        return request

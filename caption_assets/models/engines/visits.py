"""A visit to a window: what is asked about its video one after the other, whichever engine asks it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from caption_assets.errors import CaptionAssetsError, first_line
from caption_assets.models.requests import Question, Request, Result, further_request
from caption_assets.models.schemas import InvalidAnswerError, checked, tightened
from caption_assets.models.thinking import answer_of
from caption_assets.records import Outcome

_TRIES = 2


@dataclass(frozen=True, slots=True)
class Asked:
    """One question of a visit, as a request of its own: the one named `name`, for the `attempt`-th time.

    Another attempt has a schema with tighter bounds, so that the answer may come to its end; what it is to fit is
    `wanted`, that of the first one.
    """

    name: str
    request: Request
    attempt: int = 0
    wanted: str | None = None

    @property
    def id(self) -> str:
        """Told apart from all others; that of the visit for what it begins with."""
        which = [f"{self.name}{self.attempt}"] if self.name or self.attempt else []
        return "?".join([self.request.request_id, *which])


class Visit:
    """What is to be asked for a request, and when. Whoever asks it tells each answer, which may lead to more."""

    def __init__(self, request: Request) -> None:
        self.first = Asked("", replace(request, then=()))
        self._then = request.then
        self._earlier: dict[str, Result] = {}
        self._results: dict[str, Result] = {}

    @property
    def beside(self) -> list[Asked]:
        """What needs no answer: to be asked once the first has been begun, so that its video's tokens are there."""
        return [self._further(question) for question in self._then if question.of is None]

    def answered(self, asked: Asked, result: Result) -> list[Asked]:
        """What the answer to a question leads to: another try with tighter bounds, or the questions that follow it."""
        name, request = asked.name, asked.request
        if name in self._earlier:
            result = _with_times_of(self._earlier[name], result)
        if request.schema is not None and result.outcome.ok:
            answer, wanted = answer_of(result.text or "").text, asked.wanted or request.schema
            try:
                result = replace(result, text=checked(answer, result.finish_reason, wanted))
            except InvalidAnswerError as error:
                if asked.attempt + 1 < _TRIES:
                    self._earlier[name] = result
                    return [Asked(name, replace(request, schema=tightened(wanted)), asked.attempt + 1, wanted)]
                outcome = Outcome("failed", "invalid_json", f"{error}, also with half the bounds")
                result = replace(result, text=None, tokens=(), outcome=outcome)
            except Exception as error:  # of whatever a model has written, by whatever a user has asked for
                result = replace(result, text=None, tokens=(), outcome=_failure(error))
        self._results[name] = result
        return list(self._after(name, result))

    @property
    def result(self) -> Result | None:
        """The request's result with those of its questions; None while any is not there."""
        if len(self._results) <= len(self._then):
            return None
        return replace(self._results[""], then=tuple(self._results[question.name] for question in self._then))

    def _after(self, name: str, result: Result) -> Iterator[Asked]:
        answer = answer_of(result.text or "").text if result.outcome.ok else ""
        for question in self._then:
            if question.of != name:
                continue
            if answer:
                yield self._further(question, answer)
                continue
            outcome = Outcome("skipped", "no_answer", "what it is about has no answer")
            self._results[question.name] = nothing = Result(result.request_id, outcome=outcome)
            yield from self._after(question.name, nothing)

    def _further(self, question: Question, answer: str | None = None) -> Asked:
        return Asked(question.name, further_request(self.first.request, question, answer))


def failed(request: Request, error: Exception) -> Result:
    """What comes of a question that cannot be asked, or that an engine does not answer: this one alone."""
    return Result(request.request_id, outcome=_failure(error))


def _failure(error: Exception) -> Outcome:
    if isinstance(error, CaptionAssetsError):
        return Outcome("failed", error.kind, str(error))
    return Outcome("failed", "engine", f"{type(error).__name__}: {first_line(error)}")


def _with_times_of(earlier: Result, result: Result) -> Result:
    """With the time and the tokens of the try before."""

    def total(name: str) -> Any:
        values = [getattr(each, name) for each in (earlier, result)]
        return None if None in values else sum(values)

    names = ("output_tokens", "seconds", "wait_s", "prefill_s", "generate_s")
    return replace(result, **{name: total(name) for name in names})

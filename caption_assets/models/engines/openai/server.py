"""A server that speaks the OpenAI API, and how it is asked until it answers."""

import asyncio
import math
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from caption_assets.models.engines.base import ServerOptions
from caption_assets.models.engines.openai.address import Address
from caption_assets.models.engines.openai.connections import by_way_of, new_client, no_connection
from caption_assets.models.engines.openai.replies import (
    Answer,
    NoAnswerError,
    error_code,
    error_text,
    read_answer,
    refused_field,
)
from caption_assets.models.requests import Author, Request, Result
from caption_assets.records import OK, Outcome

CONNECT_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
BUSY = frozenset({408, 409, 425, 429})
_CHECK_S, _MORE_CHECKS = 60.0, 2
_MOST_BYTES = 16 << 20
# Of a status that else passes: there is no money, and waiting brings none.
_LASTING_CODES = ("insufficient_quota", "billing", "credit")


class ServerGoneError(Exception):
    """The server does not answer any more, or not as it did: whoever wants to go on has to begin with it anew.

    `status` is what it answers, 0 where it does not.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class TroubleError(Exception):
    """What may pass. `wait_s` is how long the server asks to be left alone, infinite for what waiting does not mend.

    `status` is 0 where there was no response; `broken` says that the server had the request then.
    """

    def __init__(self, message: str, *, status: int = 0, broken: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.broken, self.wait_s = status, broken, wait_s


class LateError(TroubleError):
    """No answer within the time that one may take."""


class BusyError(TroubleError):
    """The server is busy, and others may be asked in its place."""


class ElsewhereError(Exception):
    """The server has failed with this request, though not with others: another is to be asked in its place, once."""


class RefusedError(Exception):
    """The server will not answer this request, or what it sends is no answer. `kind` is a row's `error_kind`.

    `field` is one of the request's fields that it does not take, where it can be done without.
    """

    def __init__(self, message: str, *, kind: str = "server", status: int = 0, field: str | None = None) -> None:
        super().__init__(message)
        self.kind, self.status, self.field = kind, status, field


@dataclass(slots=True)
class Patience:
    """With one question: how often it has been asked since `begun`, and how much longer it is to be, of any server;
    whether one of them has `passed` it on."""

    begun: float = field(default_factory=time.monotonic)
    attempts: int = 0
    passed: bool = False
    _until: float = 0.0
    _pause: float = 0.0

    def pause(self, least_s: float, limit_s: float) -> float | None:
        """Seconds to the next attempt, which grow; None where `limit_s` after the first trouble are over by then."""
        now = time.monotonic()
        self._until = self._until or now + limit_s
        self._pause = min(2 * self._pause or FIRST_PAUSE_S, LONGEST_PAUSE_S)
        wait_s = max(least_s, self._pause * random.uniform(0.5, 1.5))
        return wait_s if now + wait_s <= self._until else None


class Server:
    """One server, as it is asked in one event loop, by many requests at once.

    Before `ask`, `trial` has to be the body of a request that it has answered, `trial_model` the model that the answer
    named, and `author` whom the texts are from. `has_others` says that other servers may be asked in its place, so that
    one that fails is not given time.
    """

    def __init__(self, address: Address, options: ServerOptions) -> None:
        """Raises ModelError as `new_client` does."""
        import httpx2

        self.address, self.options, self._http = address, options, httpx2
        self._client = new_client(address, CONNECT_S)
        self.trial, self.trial_model, self.author = b"", "", Author("")
        self.has_others = False
        self._check: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._check is not None:
            self._check.cancel()
            await asyncio.gather(self._check, return_exceptions=True)
        await self._client.aclose()

    async def ask(self, request: Request, patience: Patience, broken: set[str]) -> Result:
        """The server's answer to a prepared request, or why there is none.

        Sent again with growing pauses where the server is busy, fails or breaks off, and in no other case: what it
        refuses it would refuse again. Where it gives no answer in the end, it is asked for one that it has given
        before, so that one request's trouble is told from the server's. Raises ServerGoneError for the latter. Where
        the server has the request when the connection breaks, its id is put into `broken`.

        Where it has others beside it, which may be asked in its place, raises BusyError while it is busy, as long as
        `patience` lasts, and ElsewhereError where it is the first to fail with the request.
        """
        while True:
            patience.attempts += 1
            sent = time.monotonic()
            try:
                return self._result(request, await self.send(bytes(request.prepared), self.options.timeout_s), sent)
            except RefusedError as error:
                await self._check_on(str(error))
                self._pass_on(patience, error)
                return _failed(request, error.kind, str(error), patience)
            except LateError as error:
                broken.add(request.request_id)
                await self._check_on(str(error))
                broken.discard(request.request_id)
                self._pass_on(patience, error)
                return _failed(request, "timeout", str(error), patience)
            except TroubleError as trouble:
                if trouble.broken:
                    broken.add(request.request_id)
                is_busy = trouble.status in BUSY
                if self.has_others and not is_busy:
                    await self._check_on(str(trouble))
                    broken.discard(request.request_id)
                    self._pass_on(patience, trouble)
                wait_s = patience.pause(trouble.wait_s, self.options.retry_s)
                if wait_s is None:
                    await self._check_on(str(trouble))
                    return _failed(request, "server", f"{trouble}, after {patience.attempts} attempts", patience)
                if self.has_others and is_busy:
                    raise BusyError(str(trouble), status=trouble.status, wait_s=trouble.wait_s) from None
            await asyncio.sleep(wait_s)

    def _pass_on(self, patience: Patience, error: Exception) -> None:
        """Raises ElsewhereError where another server is to be asked."""
        if self.has_others and not patience.passed:
            patience.passed = True
            raise ElsewhereError(str(error)) from None

    async def send(self, body: bytes, limit_s: float, fields: Mapping[str, Any] | None = None) -> Answer:
        """The answer to a body. Raises TroubleError where another attempt may go better, else RefusedError.

        `fields` are the body's, of which the server may not take one.
        """
        try:
            async with asyncio.timeout(limit_s):
                status, headers, data = await self.exchange("POST", "chat/completions", body)
        except TimeoutError:
            raise LateError(f"the server has not answered within {limit_s:g} s") from None
        if status == 200:
            try:
                return read_answer(data)
            except NoAnswerError as error:
                if not error.status:
                    raise RefusedError(self.address.redact(str(error)), kind="reply", status=200) from None
                status = error.status  # which gateways send as if all were well
        said = self.said(status, headers, data)
        if status in BUSY or status >= 500:
            lasts = any(code in error_code(data).lower() for code in _LASTING_CODES)
            raise TroubleError(said, status=status, wait_s=math.inf if lasts else _asked_to_wait(headers))
        raise RefusedError(f"the server refuses it: {said}", status=status, field=refused_field(data, fields or {}))

    async def exchange(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any, bytes]:
        """Status, headers and body of a response, without a bound of time.

        Raises TroubleError where none comes, and RefusedError for one without an end.
        """
        status = 0
        try:
            async with self._client.stream(method, self.address.url(path), content=body) as response:
                status, data = response.status_code, bytearray()
                async for part in response.aiter_bytes():
                    data += part
                    if len(data) > _MOST_BYTES:
                        raise RefusedError(f"the server's answer is longer than {_MOST_BYTES >> 20} MiB", kind="reply")
                return status, response.headers, bytes(data)
        except (self._http.ConnectError, self._http.ConnectTimeout, self._http.ProxyError) as error:
            said, lasts = no_connection(error, self.address)
            raise TroubleError(said, wait_s=math.inf if lasts else 0.0) from None
        except self._http.RequestError as error:
            what = "its answer breaks off" if status else "the connection breaks"
            raise TroubleError(f"{what} ({type(error).__name__})", broken=not status) from None

    async def beside(self, path: str) -> bytes:
        """What the server has at its root, beside its API; nothing where it has nothing there."""
        url = self.address.beside(path)
        try:
            async with asyncio.timeout(CONNECT_S):
                response = await self._client.get(url) if url else None
        except (TimeoutError, self._http.RequestError):
            return b""
        return response.content if response is not None and response.status_code == 200 else b""

    def said(self, status: int, headers: Any, data: bytes) -> str:
        """A server's error, with its own words where they are found."""
        said, place = error_text(data), headers.get("location") if 300 <= status < 400 else None
        if place:
            there = urlsplit(place)
            said = f"it sends us on to {there.scheme}://{there.netloc}" if there.netloc else "it sends us elsewhere"
        # A proxy cannot speak for a server by https; by http its pages look like the server's.
        way = by_way_of(self.address) if self.address.shown.startswith("http:") else ""
        return self.address.redact(f"HTTP {status}{way}" + (f", {said}" if said else ""))

    async def _check_on(self, trouble: str) -> None:
        """Raises ServerGoneError where the server does not even answer what it has answered before."""
        if self._check is None or self._check.done():
            self._check = asyncio.create_task(self._answer_to_trial())
        try:
            await asyncio.shield(self._check)
        except (TroubleError, RefusedError) as error:
            other = "" if str(error) == trouble else f" ({error})"
            wrong = f"{trouble}; nor does it answer what it has answered before{other}"
            raise ServerGoneError(wrong, error.status) from None

    async def _answer_to_trial(self) -> None:
        pause = FIRST_PAUSE_S
        for _ in range(_MORE_CHECKS):
            with suppress(TroubleError, RefusedError):
                await self.send(self.trial, min(_CHECK_S, self.options.timeout_s))
                return
            await asyncio.sleep(pause)
            pause *= 2
        await self.send(self.trial, min(_CHECK_S, self.options.timeout_s))

    def _result(self, request: Request, answer: Answer, sent: float) -> Result:
        ended = time.monotonic()
        wait_s = None
        if answer.prefill_s is not None and answer.generate_s is not None and request.prepared_at is not None:
            # vLLM's times; the first of the two begins when the model does.
            wait_s = max(0.0, ended - answer.generate_s - answer.prefill_s - request.prepared_at)
        named = self.address.redact(answer.model)
        return Result(
            request.request_id,
            text=answer.text,
            finish_reason=answer.finish_reason,
            prompt_tokens=answer.prompt_tokens,
            cached_tokens=answer.cached_tokens,
            output_tokens=answer.output_tokens,
            tokens=answer.tokens,
            seconds=ended - sent,
            wait_s=wait_s,
            prefill_s=answer.prefill_s,
            generate_s=answer.generate_s,
            author=self.author if named in ("", self.trial_model) else replace(self.author, model_id=named),
            outcome=Outcome("failed", answer.kind, self.address.redact(answer.problem)) if answer.kind else OK,
        )


def _asked_to_wait(headers: Any) -> float:
    """Seconds by a Retry-After header, which holds seconds or a date, or by OpenAI's own; 0 without one."""
    in_ms, value = headers.get("retry-after-ms"), headers.get("retry-after") or ""
    try:
        return max(0.0, float(in_ms) / 1000 if in_ms else float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _failed(request: Request, kind: str, message: str, patience: Patience) -> Result:
    seconds = time.monotonic() - patience.begun
    return Result(request.request_id, seconds=seconds, outcome=Outcome("failed", kind, message))

"""A server that speaks the OpenAI API: what it serves, and how it is asked until it answers."""

import asyncio
import json
import logging
import math
import random
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import ServerOptions
from caption_assets.models.engines.openai.address import HOW_TO_START, Address
from caption_assets.models.requests import Request, Result
from caption_assets.records import Outcome

if TYPE_CHECKING:
    import httpx2

_CONNECT_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 20.0
# Less than the five seconds after which uvicorn closes an idle connection, perhaps while a request is on its way.
_KEEP_ALIVE_S = 3.0
_BUSY = frozenset({408, 429})
_AWAY = frozenset({502, 503, 504})  # what proxies say for a server that is not there


class ServerGoneError(Exception):
    """The server does not answer at all."""


class _TroubleError(Exception):
    """What may pass: `away` says that there may be no server any more, `wait_s` how long it asks to be left alone."""

    def __init__(self, message: str, *, away: bool = False, broken: bool = False, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.away, self.broken, self.wait_s = away, broken, wait_s


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself and of the model: `software` such as "vllm", "" where it does not say."""

    model: str
    root: str
    software: str
    version: str

    @property
    def extended(self) -> bool:
        """Whether it takes the fields that vLLM has added to the API. Others may refuse a request for them."""
        return self.software in ("vllm", "sglang", "llamacpp")


class Server:
    """One server. `look`, the first thing to do, is synchronous; `ask` runs in an event loop, often at once."""

    def __init__(self, address: Address, options: ServerOptions) -> None:
        import httpx2

        self._address, self._options, self._http = address, options, httpx2
        log = logging.getLogger("httpx2")
        if log.level == logging.NOTSET:
            log.setLevel(logging.WARNING)  # it would write the address into every run's log

    def look(self, names: tuple[str, ...], wait_s: float) -> Served:
        """Finds the model that is served under the options' name, or else under one of `names`, or alone.

        Waits up to `wait_s` seconds for a server that is not there. Raises ModelError.
        """
        cards = self._cards(wait_s)
        card = self._choose(cards, names)
        with self._http.Client(**self._settings()) as client:
            # vLLM states its version at the server's root, beside /v1.
            try:
                said = client.get(self._address.url.removesuffix("v1/") + "version").json()
                version = said.get("version", "") if isinstance(said, dict) else ""
            except (self._http.RequestError, ValueError):
                version = ""
        software = str(card.get("owned_by") or "").lower()
        software = software if software.replace(".", "").replace("-", "").isalnum() else ""
        return Served(str(card["id"]), str(card.get("root") or ""), software, self._address.redact(str(version)))

    def try_out(self, body: bytes) -> str | None:
        """What the server objects to in a request of this kind; None where it answers, or cannot say now."""
        try:
            with self._http.Client(**self._settings(timeout=60.0)) as client:
                response = client.post("chat/completions", content=body)
        except self._http.RequestError:
            return None
        refused = 400 <= response.status_code < 500 and response.status_code not in _BUSY
        return self._said(response.status_code, response.content) if refused else None

    def client(self, connections: int) -> "httpx2.AsyncClient":
        """A client for `ask` that keeps up to so many connections."""
        limits = self._http.Limits(
            max_connections=None, max_keepalive_connections=connections, keepalive_expiry=_KEEP_ALIVE_S
        )
        return self._http.AsyncClient(**self._settings(timeout=None), limits=limits)

    async def ask(self, client: "httpx2.AsyncClient", request: Request, broken: set[str]) -> Result:
        """The server's answer to a prepared request, or why there is none.

        Sent again with growing pauses where the server is busy, fails or breaks off, and in no other case: what it
        refuses it would refuse again. Raises ServerGoneError where it cannot be reached any more. Where the server
        has the request when the connection breaks, its id is put into `broken`.
        """
        begun, until, pause, attempts = time.monotonic(), 0.0, _FIRST_PAUSE_S, 0
        while True:
            attempts += 1
            try:
                return await self._ask_once(client, request)
            except _TroubleError as trouble:
                if trouble.broken:
                    broken.add(request.request_id)
                now = time.monotonic()
                until = until or now + self._options.retry_s
                wait_s = max(trouble.wait_s, pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                if now + wait_s > until:
                    if trouble.away and not await self._is_there(client):
                        raise ServerGoneError(str(trouble)) from None
                    return _failed(request, "server", f"{trouble}, after {attempts} attempts", begun)
            await asyncio.sleep(wait_s)

    async def _ask_once(self, client: "httpx2.AsyncClient", request: Request) -> Result:
        """Raises _TroubleError where another attempt may go better."""
        begun, limit_s, status = time.monotonic(), self._options.timeout_s, 0
        try:
            async with (
                asyncio.timeout(limit_s),
                client.stream("POST", "chat/completions", content=bytes(request.prepared)) as response,
            ):
                status = response.status_code
                data = await response.aread()
        except TimeoutError:
            if not await self._is_there(client):
                wrong = f"it has stopped answering, for {limit_s:g} s now"
                raise _TroubleError(wrong, away=True, broken=True, wait_s=math.inf) from None
            return _failed(request, "timeout", f"the server has not answered within {limit_s:g} s", begun)
        except (self._http.ConnectError, self._http.ConnectTimeout) as error:
            raise _TroubleError(f"there is no connection ({type(error).__name__})", away=True) from None
        except self._http.RequestError as error:
            what = "its answer breaks off" if status else "the connection breaks"
            raise _TroubleError(f"{what} ({type(error).__name__})", away=not status, broken=not status) from None
        if status == 200:
            return self._result(request, data, begun)
        said = self._said(status, data)
        if status in _BUSY or status >= 500:
            wait_s = _retry_after(response.headers.get("retry-after"))
            raise _TroubleError(said, away=status in _AWAY, wait_s=wait_s)
        return _failed(request, "server", f"the server refuses it: {said}", begun)

    async def _is_there(self, client: "httpx2.AsyncClient") -> bool:
        try:
            async with asyncio.timeout(_CONNECT_S):
                return (await client.get("models")).status_code < 500
        except (TimeoutError, self._http.RequestError):
            return False

    def _cards(self, wait_s: float) -> list[dict[str, Any]]:
        """What /v1/models lists. Raises ModelError where the server is not there or does not let us in."""
        address = self._address
        asked = f"server of engine 'openai' at {address.shown}, from {address.variable}"
        deadline, pause = time.monotonic() + wait_s, _FIRST_PAUSE_S
        with self._http.Client(**self._settings()) as client:
            while True:
                try:
                    response = client.get("models")
                    wrong = self._said(response.status_code, response.content)
                    if response.status_code < 500 and response.status_code not in _BUSY:
                        break
                except self._http.RequestError as error:
                    wrong = f"it does not answer ({type(error).__name__})"
                if time.monotonic() + pause > deadline:
                    raise ModelError(asked, wrong, f"check {address.variable}; {HOW_TO_START}")
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
        if response.status_code in (401, 403):
            fix = f"set {address.variable.replace('BASE_URL', 'API_KEY')} to a key that the server accepts"
            raise ModelError(asked, f"it does not let us in ({wrong})", fix)
        cards = _json(response.content).get("data") if response.status_code == 200 else None
        if not isinstance(cards, list):
            fix = f"give {address.variable} the API's address, which mostly ends in /v1"
            raise ModelError(asked, f"it lists no models ({wrong})", fix)
        return [card for card in cards if isinstance(card, dict) and card.get("id")]

    def _choose(self, cards: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
        wanted = self._options.model
        for name in [wanted] if wanted else names:
            for card in cards:
                if name in (card["id"], card.get("root")):
                    return card
        # The only model may have any name, but not another origin: "root" is a folder or a Hugging Face id.
        origin = PurePath(str(cards[0].get("root") or "")).name if len(cards) == 1 and not wanted else None
        if origin == "" or origin in [PurePath(name).name for name in names]:
            return cards[0]
        listed = self._address.redact(", ".join(str(card["id"]) for card in cards)) or "none"
        raise ModelError(
            f"model {wanted or names[0]!r} at the server in {self._address.variable}",
            f"it does not serve this model, but {listed}",
            "choose one of these as server_model, if it is the one that you mean",
        )

    def _result(self, request: Request, data: bytes, begun: float) -> Result:
        ended = time.monotonic()
        reply = _json(data)
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices:
            what = "has no choices" if reply else "is no JSON object"
            start = self._address.redact(data[:200].decode(errors="replace"))
            return _failed(request, "reply", f"the server's answer {what}: {start}", begun)
        choice = _dict(choices[0])
        text, reason = _dict(choice.get("message")).get("content"), choice.get("finish_reason")
        usage, times = _dict(reply.get("usage")), _dict(reply.get("metrics"))
        # vLLM's --enable-per-request-metrics; the first of the two begins when the model does.
        prefill_s, generate_s = _seconds(times, "time_to_first_token_ms"), _seconds(times, "generation_time_ms")
        wait_s = None
        if prefill_s is not None and generate_s is not None and request.prepared_at is not None:
            wait_s = max(0.0, ended - generate_s - prefill_s - request.prepared_at)
        result = Result(
            request.request_id,
            prompt_tokens=_count(usage, "prompt_tokens"),
            output_tokens=_count(usage, "completion_tokens"),
            seconds=ended - begun,
            wait_s=wait_s,
            prefill_s=prefill_s,
            generate_s=generate_s,
        )
        if reason not in ("stop", "length"):
            wrong = f"the server ended the text for the reason {self._address.redact(str(reason))!r}"
        elif not isinstance(text, str) or not text.strip():
            wrong = f"the server's answer has no text; it ended for the reason {reason!r}"
        else:
            return replace(result, text=text.strip(), finish_reason=reason)
        return replace(result, outcome=Outcome("failed", "reply", wrong))

    def _said(self, status: int, data: bytes) -> str:
        """A server's error, with its own words where they are found."""
        reply = _json(data)
        error = reply.get("error") or reply
        if isinstance(error, dict):
            error = error.get("message") or error.get("detail")
        return self._address.redact(f"HTTP {status}" + (f", {error}" if error else ""))

    def _settings(self, timeout: float | None = _CONNECT_S) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **self._address.headers}
        return {
            "base_url": self._address.url,
            "headers": headers,
            "timeout": self._http.Timeout(timeout, connect=_CONNECT_S),
            "follow_redirects": False,
        }


def _retry_after(value: str | None) -> float:
    """Seconds by a Retry-After header, which holds seconds or a date; 0 without one."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _failed(request: Request, kind: str, message: str, begun: float) -> Result:
    seconds = time.monotonic() - begun
    return Result(request.request_id, seconds=seconds, outcome=Outcome("failed", kind, message))


def _json(data: bytes) -> dict[str, Any]:
    try:
        return _dict(json.loads(data))
    except ValueError:
        return {}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(times: dict[str, Any], name: str) -> float | None:
    value = times.get(name)
    return value / 1000 if isinstance(value, int | float) else None


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    return value if isinstance(value, int) else None

"""A server that speaks OpenAI's API, knows right answers, and misbehaves at random, from a seed.

What it says of a window is a hash of the frames that it was sent, so that an answer to another window shows.
"""

import hashlib
import json
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

MODEL = "hostile"
OTHER_MODEL = "another"
_ODD = (None, True, 7, -1, 1e308, "", [], {}, [[]], 10**30, [None], {"a": 1})
_STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503, 504, 529, 301, 307, 204)
_ENDINGS = ("abort", "content_filter", "length", "eos", "error", None, 7, "end_turn", "SAFETY", "MAX_TOKENS")
Bytes = Iterator[bytes]


@dataclass(frozen=True, slots=True)
class Mood:
    """How a server behaves: it does wrong with probability `wrong`, and always from request `start` until `end`.

    `way` is what it does then, whatever occurs to it where empty.
    """

    wrong: float
    start: int = 0
    end: int = 0
    way: str = ""


class HostileServer:
    """A context manager. Since `reset`, `posts` counts requests for texts, and `asked` those about windows."""

    def __init__(self) -> None:
        self.mood = Mood(0.0)
        self.did: Counter[str] = Counter()
        self.posts = self.asked = 0
        self._random = random.Random(0)
        self._lock = threading.Lock()
        self._over = threading.Event()

    def __enter__(self) -> "HostileServer":
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def reset(self, mood: Mood, seed: int) -> None:
        """Begins anew, in that mood."""
        with self._lock:
            self.mood, self.posts, self.asked, self._random = mood, 0, 0, random.Random(seed)

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ValueError):
            stream = connection.makefile("rb")
            while line := stream.readline():
                length = 0
                while (header := stream.readline().strip()) not in (b"", None):
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                self._answer(connection, line.decode(), stream.read(length))

    def _answer(self, connection: socket.socket, line: str, body: bytes) -> None:
        right = _listing() if line.startswith("GET") else _answer_to(body)
        with self._lock:
            mood = self.mood
            if line.startswith("POST"):
                self.posts += 1
                self.asked += b"Describe the video." not in body  # which is the trial
            spell = mood.start <= self.posts < mood.end
            dice = random.Random(self._random.random())
            way = "right"
            if spell or dice.random() < mood.wrong:
                way = (mood.way if spell else "") or dice.choice(list(WAYS))
            self.did[way] += 1
        if line.startswith("GET") and "/models" not in line:
            connection.sendall(_response(b"{}", 404))
            return
        if way == "right":
            connection.sendall(_response(json.dumps(right).encode()))
            return
        WAYS[way](connection, right, dice, self._over)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def caption_of(pictures: list[str]) -> str:
    """What the server says of frames, in the form that they came in."""
    return "frames " + hashlib.sha256("".join(pictures).encode()).hexdigest()[:24]


def _listing() -> dict[str, Any]:
    return {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "tests"}]}


def _answer_to(body: bytes) -> dict[str, Any]:
    text = caption_of(re.findall(r'"data:[^"]*"', body.decode()))
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 9, "completion_tokens": 3}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return {"id": "x", "object": "chat.completion", "model": MODEL, "choices": choices, "usage": usage}


def _response(data: bytes, status: int = 200, headers: str = "", length: int | None = None) -> bytes:
    length = len(data) if length is None else length
    return f"HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n".encode() + data


# Ways to do wrong: what is said on the connection, which is then closed.


def _reset(connection: socket.socket, *_: Any) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _stall(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    data = _response(json.dumps(right).encode())
    connection.sendall(data[: dice.randrange(len(data)) if dice.random() < 0.6 else 0])
    _until_left(connection, over)


def _drip(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    for byte in _response(json.dumps(right).encode()):
        connection.sendall(bytes([byte]))
        if over.wait(0.05):
            return


def _late(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    over.wait(dice.random() * 0.4)
    connection.sendall(_response(json.dumps(right).encode()))


def _cut(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    data = _response(json.dumps(right).encode())
    connection.sendall(data[: dice.randrange(len(data))])


def _truncated(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    data = json.dumps(right).encode()
    connection.sendall(_response(data[: dice.randrange(len(data))]))


def _wrong_length(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    data = json.dumps(right).encode()
    connection.sendall(_response(data, length=max(0, len(data) + dice.randint(-40, 40))))


def _status(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=dice.randint(-2, 2)), usegmt=True)
    wait = dice.choice(("", "Retry-After: 0.1\r\n", f"Retry-After: {soon}\r\n", "Retry-After: soon\r\n"))
    wait = dice.choice((wait, "Retry-After: nan\r\n", "Location: http://elsewhere.invalid/\r\n", wait))
    said = dice.choice(
        ('{"error": {"message": "no", "code": "x"}}', "<html><title>No</title>", "", "[]", '{"detail": 7}')
    )
    connection.sendall(_response(said.encode(), dice.choice(_STATUSES), wait))


def _error_as_answer(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    code = dice.choice((*_STATUSES, "429", "x", None))
    connection.sendall(_response(json.dumps({"error": {"message": "no", "code": code}}).encode()))


def _odd_types(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    for _ in range(dice.randint(1, 3)):
        right = _with_something_odd(right, dice)
    connection.sendall(_response(json.dumps(right).encode()))


def _with_something_odd(value: Any, dice: random.Random) -> Any:
    if isinstance(value, dict) and value and dice.random() < 0.8:
        name = dice.choice(list(value))
        if dice.random() < 0.2:
            return {key: one for key, one in value.items() if key != name}
        return {**value, name: _with_something_odd(value[name], dice)}
    if isinstance(value, list) and value and dice.random() < 0.8:
        return [_with_something_odd(value[0], dice), *value[1:]]
    return dice.choice(_ODD)


def _ending(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    (choice,) = right.get("choices", [{}])
    said = {**right, "choices": [{**choice, "finish_reason": dice.choice(_ENDINGS)}]}
    connection.sendall(_response(json.dumps(said).encode()))


def _other_model(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    name = dice.choice((OTHER_MODEL, "\ud800", "m" * 5000, "\x1b[31m"))
    connection.sendall(_response(json.dumps({**right, "model": name}).encode()))


def _refusal(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    message = dice.choice(({"content": None, "refusal": "no"}, {"content": []}, {"tool_calls": [{}]}, {}))
    connection.sendall(_response(json.dumps({**right, "choices": [{"message": message}]}).encode()))


def _garbage(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    noise = dice.randbytes(dice.randrange(1, 4000))
    chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    zipped = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
    deep = b"[" * dice.choice((10, 500, 5000, 200_000))
    connection.sendall(dice.choice((noise, chunks + noise, zipped + noise, _response(noise), _response(deep))))


def _twice(connection: socket.socket, right: Any, dice: random.Random, over: threading.Event) -> None:
    connection.sendall(2 * _response(json.dumps(right).encode()))
    _until_left(connection, over)


def _until_left(connection: socket.socket, over: threading.Event) -> None:
    connection.settimeout(0.2)
    while not over.is_set():
        try:
            if not connection.recv(1):
                return
        except TimeoutError:
            continue


Way = Callable[[socket.socket, Any, random.Random, threading.Event], None]
WAYS: dict[str, Way] = {
    "reset": _reset,
    "stall": _stall,
    "drip": _drip,
    "late": _late,
    "cut": _cut,
    "truncated": _truncated,
    "wrong length": _wrong_length,
    "status": _status,
    "error as answer": _error_as_answer,
    "odd types": _odd_types,
    "ending": _ending,
    "other model": _other_model,
    "refusal": _refusal,
    "garbage": _garbage,
    "twice": _twice,
}

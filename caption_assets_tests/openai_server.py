"""Real OpenAI-compatible servers in processes of their own, which run checkpoints through transformers on the CPU.

They read frames as `vllm serve` does, with the same defaults, and refuse what that refuses. On demand one is another
server (`OpenAIServer.be`, with the data of `openai_kinds`) or misbehaves: `fail` plants faults, and `stop` and `start`
let it go away and come back.

Loading models takes long. So one process loads them (`LoadedModels`), and forks of it serve: they are killed, and
forked again. By hand, give it orders as lines, such as `start demo 8000` and `stop 8000`:

    python -m caption_assets_tests.openai_server
"""

import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.requests import Request, Result
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets_tests.openai_bodies import BadRequestError, read_request, texts, without_media

BEHAVIOUR = {
    "served_model_name": "",  # the checkpoint's folder, as vLLM has it
    "owned_by": "vllm",
    "version": "0.32.0",
    "api_key": "",
    "trust_request_mm_kwargs": True,
    "listing": None,  # [status, body] of /v1/models, where that is not our own
    "pages": {},  # further paths, with the JSON that is there
    "needs": {},  # headers without which it lets nobody in
    "query": "",  # what it wants in the address
    "samples": True,  # whether it refuses any sampling but its model's
    "answer": None,  # an answer as it spells it: "$text", "$model" and their like are filled in
    "refuses": [],  # [word in the body's JSON, status, body]: requests that it does not take
}
_MOST_TOGETHER = 8
_LONG_S = 120.0  # for what takes milliseconds: only a hang takes longer


class LoadedModels:
    """The process that loads each model when a server first needs it: a context manager."""

    def __enter__(self) -> "LoadedModels":
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def order(self, *words: object) -> int:
        """Gives an order and returns what it answers: the serving process's id, or 0."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*words, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer.strip().isdigit(), f"the server did not {words[0]}; its own message is on standard error"
        return int(answer)


class OpenAIServer:
    """A server as tests hold it: a context manager."""

    def __init__(self, models: LoadedModels, variant: str = "demo") -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._models, self._variant = models, variant
        self.pid = 0  # of the process that serves; 0 while there is none

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "OpenAIServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts to serve, and waits until it does."""
        self.pid = self._models.order("start", self._variant, self.port)

    def stop(self) -> None:
        """Kills the process that serves, with whatever it is at."""
        self.pid = self._models.order("stop", self.port)

    def be(self, **behaviour: Any) -> None:
        """Changes the server's `BEHAVIOUR` where given, and goes back to it elsewhere."""
        self._call("/behaviour", BEHAVIOUR | behaviour)

    def fail(self, *faults: dict[str, Any]) -> None:
        """Plants faults in place of those that are left, and forgets what was seen.

        Each is `{"match": text in the prompt, "times": how often}` and one of `"status"` (with `"headers"`, `"body"`
        and what is sent `"after"` it), `"body"` alone, `"drop"`, `"truncate"`, `"drip"`: seconds from byte to byte,
        `"hang"`: seconds before the answer, `"until_open"`: how many requests have to be open before it, or `"away_s"`:
        status 429 with the date so many seconds after the request.
        """
        self._call("/faults", list(faults))

    def seen(self) -> dict[str, Any]:
        """Since `fail` was last called: the `bodies` of all requests without their media, the time of each in `at`,
        how many were open at once at most (`peak`) and are now (`open`), and from how many the client went (`left`).
        """
        return self._call("/seen")

    def _call(self, path: str, data: Any = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", body, timeout=_LONG_S) as response:
            return json.load(response)


class Model:
    """A checkpoint that answers in batches of whatever waits."""

    def __init__(self, variant: str) -> None:
        import torch

        from caption_assets.models.engines.transformers import TransformersEngine

        torch.set_num_threads(1)
        self.variant = {**TEXT_VARIANTS, **CAPTION_VARIANTS}[variant]
        self.checkpoint = checkpoint_of(self.variant)
        options = EngineOptions("cpu", batch_size=_MOST_TOGETHER, sampling=self.variant.sampling)
        self._engine = TransformersEngine(self.variant, self.checkpoint, options)
        self._engine.start()
        self._waiting: queue.SimpleQueue[tuple[Request, Future[Result]]] = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()

    def ask(self, request: Request) -> "Future[Result]":
        future: Future[Result] = Future()
        self._waiting.put((request, future))
        return future

    def _work(self) -> None:
        while True:
            batch = [self._waiting.get()]
            with suppress(queue.Empty):
                while len(batch) < _MOST_TOGETHER:
                    batch.append(self._waiting.get_nowait())
            futures = {request.request_id: future for request, future in batch}
            for result in self._engine.generate(request for request, _ in batch):
                futures[result.request_id].set_result(result)


@dataclass
class State:
    """What the handlers share."""

    model: Model
    be: dict[str, Any] = field(default_factory=lambda: dict(BEHAVIOUR))
    lock: threading.Lock = field(default_factory=threading.Lock)
    faults: list[dict[str, Any]] = field(default_factory=list)
    bodies: deque[dict[str, Any]] = field(default_factory=deque)
    at: list[float] = field(default_factory=list)
    open: int = 0
    peak: int = 0
    left: int = 0
    count: int = 0

    def fault(self, prompt: str) -> dict[str, Any]:
        with self.lock:
            for fault in self.faults:
                if fault.get("match", "") in prompt and fault.get("times", 1) > 0:
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: State

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        state = self.state
        path, _, query = self.path.partition("?")
        self.path = path
        if self.path == "/seen":
            with state.lock:
                seen = {"bodies": list(state.bodies), "at": state.at, "peak": state.peak}
                self._json(200, seen | {"open": state.open, "left": state.left})
        elif self.path == "/version":
            version = state.be["version"]
            self._json(200, {"version": version}) if version else self._json(404, {})
        elif self.path in state.be["pages"]:
            self._json(200, state.be["pages"][self.path])
        elif self.path != "/v1/models" or query != state.be["query"]:
            self._json(404, {"detail": "Not Found"})
        elif state.be["listing"]:
            status, body = state.be["listing"]
            self._json(status, body)
        elif self._allowed():
            root = str(state.model.checkpoint.folder)
            name = state.be["served_model_name"] or root
            card = {"id": name, "object": "model", "owned_by": state.be["owned_by"]}
            self._json(200, {"object": "list", "data": [card | {"root": root}]})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.path, _, query = self.path.partition("?")
        if self.path == "/faults":
            with self.state.lock:
                self.state.faults = json.loads(data)
                self.state.bodies.clear()
                self.state.at.clear()
                self.state.peak = self.state.left = 0
            self._json(200, {})
        elif self.path == "/behaviour":
            self.state.be = json.loads(data)
            self._json(200, {})
        elif self.path != "/v1/chat/completions" or query != self.state.be["query"]:
            self._json(404, {"detail": "Not Found"})
        elif self._allowed():
            with self.state.lock:
                self.state.open += 1
                self.state.peak = max(self.state.peak, self.state.open)
                self.state.at.append(time.monotonic())
            try:
                self._complete(json.loads(data))
            finally:
                with self.state.lock:
                    self.state.open -= 1

    def _complete(self, body: dict[str, Any]) -> None:
        state = self.state
        prompt = " ".join(texts(body))
        with state.lock:
            state.bodies.append(without_media(body))
            state.count += 1
            number = state.count
        fault = state.fault(prompt)
        words = json.dumps(body)
        refusal = next((refused for refused in state.be["refuses"] if refused[0] in words), None)
        if "hang" in fault and not self._sleep(fault["hang"]):
            return
        if "until_open" in fault and not self._sleep(_LONG_S, until=lambda: state.peak >= fault["until_open"]):
            return
        if "away_s" in fault:
            date = format_datetime(datetime.now(UTC) + timedelta(seconds=fault["away_s"]), usegmt=True)
            self._send(429, b"", {"Retry-After": date})
        elif fault.get("drop"):
            self._hang_up()
        elif "drip" in fault:
            self._drip(fault["drip"])
        elif refusal is not None and not fault:
            _, status, content = refusal
            self._json(status, content)
        elif "status" in fault or "body" in fault:
            data = fault.get("body", "").encode()
            self._send(fault.get("status", 200), data, fault.get("headers", {}), after=fault.get("after", "").encode())
        else:
            try:
                future = state.model.ask(
                    read_request(body, str(number), state.model.checkpoint, state.model.variant, state.be)
                )
            except BadRequestError as error:
                self._json(400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}})
                return
            while not future.done():
                if self._client_left(0.01):
                    return
            self._answer(body, future.result(), truncate=bool(fault.get("truncate")))

    def _answer(self, body: dict[str, Any], result: Result, *, truncate: bool) -> None:
        if not result.outcome.ok:
            self._json(500, {"error": {"message": result.outcome.message, "type": "InternalServerError"}})
            return
        message = {"role": "assistant", "content": result.text}
        usage = {"prompt_tokens": result.prompt_tokens, "completion_tokens": result.output_tokens}
        choice = {"index": 0, "message": message, "finish_reason": result.finish_reason}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": read, "logprob": value} for read, value in result.tokens]}
        answer = {"object": "chat.completion", "model": body["model"], "choices": [choice], "usage": usage}
        if self.state.be["answer"] is not None:
            said = {"$text": result.text, "$model": body["model"], "$tokens": result.output_tokens}
            answer = filled_in(self.state.be["answer"], said)
        if not truncate:
            self._json(200, answer)
            return
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2])
        self._hang_up()

    def _drip(self, every_s: float) -> None:
        """An answer that comes byte by byte, and never ends."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with suppress(OSError):
            while not self._client_left(every_s):
                self.wfile.write(b" ")

    def _allowed(self) -> bool:
        key, needs = self.state.be["api_key"], self.state.be["needs"]
        wrong = any(self.headers.get(name) != value for name, value in needs.items())
        if not wrong and (not key or self.headers.get("Authorization") == f"Bearer {key}"):
            return True
        # Some servers quote the key that they were given.
        self._json(401, {"error": {"message": f"Unauthorized: {self.headers.get('Authorization')}"}})
        return False

    def _sleep(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Waits so long, or `until` something is so. Whether the client is still there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            if self._client_left(0.01):
                return False
        return True

    def _client_left(self, wait_s: float) -> bool:
        """Whether the client has closed the connection, which is how it gives up a request."""
        readable, _, _ = select.select([self.connection], [], [], wait_s)
        try:
            left = bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except ConnectionError:
            left = True
        if left:
            with self.state.lock:
                self.state.left += 1
            self.close_connection = True
        return left

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def _json(self, status: int, content: Any) -> None:
        self._send(status, json.dumps(content).encode(), {})

    def _send(self, status: int, data: bytes, headers: dict[str, str], after: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data + after)


def filled_in(answer: Any, said: dict[str, Any]) -> Any:
    """An answer in which what is `said` stands in place of its names."""
    if isinstance(answer, dict):
        return {key: filled_in(value, said) for key, value in answer.items()}
    if isinstance(answer, list):
        return [filled_in(value, said) for value in answer]
    return said.get(answer, answer) if isinstance(answer, str) else answer


def serve(model: Model, port: int) -> None:
    """Serves until the process is killed."""
    model.start()
    Handler.state = State(model)
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(os.getpid(), flush=True)
    server.serve_forever()


def main() -> None:
    models: dict[str, Model] = {}
    serving: dict[int, int] = {}
    for line in sys.stdin:
        order, *words = line.split()
        port = int(words[-1])
        _kill(serving.pop(port, 0))
        if order == "stop":
            print(0, flush=True)
            continue
        if words[0] not in models:
            models[words[0]] = Model(words[0])
        serving[port] = os.fork()
        if not serving[port]:
            try:
                serve(models[words[0]], port)
            finally:
                print("failed", flush=True)
                os._exit(1)
    for process in serving.values():
        _kill(process)


def _kill(process: int) -> None:
    if process:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


if __name__ == "__main__":
    main()

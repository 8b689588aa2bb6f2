"""An S3 server on the loopback device that counts what is asked of it, and can be slow or fail."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal
from urllib.parse import unquote
from uuid import uuid4

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

Fault = Literal["reset", "403", "500", "503", "truncated", "slow"]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_REFUSAL = """<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>On purpose</Message></Error>"""
_STATUS = {
    "403": ("403 Forbidden", "AccessDenied"),
    "500": ("500 Internal Server Error", "InternalError"),
    "503": ("503 Slow Down", "SlowDown"),
}


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log(self, *_: Any) -> None:
        pass


class S3Server:
    """Answers at `url` until `close`; a context manager.

    `environment` leads processes to it, `options` paths. `bucket` is an empty one of its own. `asked` counts requests
    by method and path, and `most_at_once` is how many were in work together. Each waits `delay_s` first. `fault` is
    asked before each, by method and path, and may name what goes wrong with it. With `ignores_conditions`, it writes
    whatever the request says of what must be there.
    """

    def __init__(self, fault: Callable[[str, str], Fault | None] = lambda method, path: None) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.delay_s = 0.0
        self.ignores_conditions = False
        self.most_at_once = 0
        self._at_once, self._lock = 0, threading.Lock()
        self.fault = fault
        self._s3 = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}
        self.options = {"key": "test", "secret": "test", "endpoint_url": self.url}
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.bucket = f"bucket-{uuid4().hex}"  # all servers of a process share what they hold
        self.client.create_bucket(Bucket=self.bucket)
        self.asked.clear()

    def __enter__(self) -> "S3Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @cached_property
    def client(self) -> Any:
        """Another client than the one under test."""
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, **keys)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def count(self, start: str = "/", methods: Iterable[str] = ("GET", "HEAD", "PUT", "POST", "DELETE")) -> int:
        """Requests so far whose path begins with `start`."""
        return sum(
            count for (method, path), count in self.asked.items() if method in methods and path.startswith(start)
        )

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], unquote(environ["PATH_INFO"])
        with self._working(method, path):
            time.sleep(self.delay_s)
            fault = self.fault(method, path)
            if fault == "reset":
                connection: socket.socket = environ["werkzeug.socket"]
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
                raise ConnectionResetError
            if fault in _STATUS:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                status, code = _STATUS[fault]
                body = _REFUSAL.format(code=code).encode()
                start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
                return [body]
            if fault == "slow":
                time.sleep(0.5)
            if self.ignores_conditions and method == "PUT":
                environ = {k: v for k, v in environ.items() if k not in ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")}
            body = b"".join(self._s3(environ, start_response))
            if fault == "truncated" and method == "GET" and len(body) > 1:
                environ["werkzeug.socket"].settimeout(None)
                return self._half(body, environ["werkzeug.socket"])
            return [body]

    def _half(self, body: bytes, connection: socket.socket) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _working(self, method: str, path: str) -> Iterator[None]:
        with self._lock:
            self.asked[method, path] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

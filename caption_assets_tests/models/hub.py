"""A Hugging Face hub on this machine: as much of its HTTP interface as downloading a model takes."""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "1234567890abcdef1234567890abcdef12345678"
# For the environment of its clients: it is there, if slow on a busy machine.
PATIENT = {"HF_HUB_ETAG_TIMEOUT": "200", "HF_HUB_DOWNLOAD_TIMEOUT": "200"}


class Hub:
    """Serves the folder `files` as the model `name` at one commit and its branches. A context manager.

    `refuse` maps a path's end to (status, error code) of the hub's; `cut` holds names of files whose next download
    breaks off in the middle; `hold` are names of files that are sent halfway and then never end; files
    are sent once `open` is set, as it is at first. `requests` are those that came, `fetched` counts the downloads of
    each file.
    """

    def __init__(self, files: Path, name: str = "tiny/model", branches: tuple[str, ...] = ("main",)) -> None:
        self.files, self.name, self.branches = files, name, branches
        self.refuse: tuple[int, str] | None = None
        self.cut: set[str] = set()
        self.hold: set[str] = set()
        self.open = threading.Event()
        self.open.set()
        self.requests: list[str] = []
        self.fetched: Counter[str] = Counter()
        self.ranges: dict[str, str] = {}
        self.held = threading.Event()

    def __enter__(self) -> "Hub":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = handler.path.split("?")[0]
        self.requests.append(f"{handler.command} {handler.path}")
        about = re.fullmatch(rf"/api/models/{self.name}/(revision|tree)/([^/]+)", path)
        file = re.fullmatch(rf"/{self.name}/resolve/([^/]+)/(.+)", path)
        match = about or file
        if match is None:
            return _reply(handler, 404, {"X-Error-Code": "RepoNotFound"})
        # The hub tells everybody about a gated model, and gives its files to those who may have them.
        if self.refuse is not None and (file or self.refuse[1] != "GatedRepo"):
            return _reply(handler, self.refuse[0], {"X-Error-Code": self.refuse[1]})
        revision = about[2] if about else file[1]
        if revision not in (COMMIT, *self.branches):
            return _reply(handler, 404, {"X-Error-Code": "RevisionNotFound"})
        if about:
            return _reply(handler, 200, {}, json.dumps(self._about(about[1])).encode())
        return self._send(handler, file[2], body)

    def _about(self, what: str) -> object:
        files = sorted(p for p in self.files.rglob("*") if p.is_file())
        if what == "tree":
            return [
                {
                    "type": "file",
                    "path": p.relative_to(self.files).as_posix(),
                    "size": p.stat().st_size,
                    "oid": _etag(p),
                }
                for p in files
            ]
        siblings = [{"rfilename": p.relative_to(self.files).as_posix(), "size": p.stat().st_size} for p in files]
        return {"id": self.name, "modelId": self.name, "sha": COMMIT, "siblings": siblings, "tags": []}

    def _send(self, handler: BaseHTTPRequestHandler, name: str, body: bool) -> None:
        path = self.files / name
        if not path.is_file():
            return _reply(handler, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        data, headers, status = path.read_bytes(), {"X-Repo-Commit": COMMIT, "ETag": f'"{_etag(path)}"'}, 200
        if asked := handler.headers.get("Range"):
            self.ranges[name] = asked
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            data, status = data[start:], 206
        if body:
            self.fetched[name] += 1
            self.open.wait()
            if name in self.cut or name in self.hold:
                _reply(handler, status, headers | {"Content-Length": str(len(data))})
                handler.wfile.write(data[: len(data) // 2])
                handler.wfile.flush()
                if name in self.hold:
                    self.held.set()
                    time.sleep(3600)
                self.cut.discard(name)
                handler.close_connection = True
                return None
        return _reply(handler, status, headers | {"Content-Length": str(len(data))}, data if body else b"")


def _reply(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], data: bytes = b"") -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(data))} | headers).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def _etag(path: Path) -> str:
    return hashlib.sha1(path.read_bytes()).hexdigest()

"""A model's server that stops answering after as many requests as it was told: runs stand still there, at work."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FewAnswers:
    """Answers nothing until `answer` allows it: a context manager. `asked` counts the requests, held ones too."""

    def __init__(self) -> None:
        self.asked = self._last = 0
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> "FewAnswers":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answer(0)
        self._server.shutdown()
        self._server.server_close()

    @property
    def holds(self) -> bool:
        """Whether it holds a request, having answered as many as it may."""
        return self.asked > self._last

    def answer(self, count: int) -> None:
        """So many requests from now on, and those that it holds, whose clients may be gone."""
        with self._changed:
            self._last = self.asked + count
            self._changed.notify_all()

    def wait(self) -> None:
        """Of one request: until it may be answered."""
        with self._changed:
            self.asked += 1
            number = self.asked
            self._changed.wait_for(lambda: number <= self._last)


def _handler(answers: FewAnswers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._say({"data": [{"id": "demo", "object": "model", "owned_by": "tests"}]})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answers.wait()
            message = {"role": "assistant", "content": "A scene."}
            self._say({"model": "demo", "choices": [{"message": message, "finish_reason": "stop"}]})

        def _say(self, said: object) -> None:
            data = json.dumps(said).encode()
            with suppress(OSError):
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

    return Handler

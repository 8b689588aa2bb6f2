"""How much more several servers caption than one, each of which answers at a fixed rate.

    python -m benchmarks.servers --windows 200 --rate 20 --servers 1 2 4

The servers are threads of a process of their own on loopback: each works on eight windows at once, as a GPU does that
batches, and answers `--rate` of them a second. What is measured is this side: the engine that prepares the windows and
shares them out, in one process. The figures are of all windows, from the engine's readiness to the last answer.
"""

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np

from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.requests import Request, caption_request
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.records import FramePicks, SampledFrames

_AT_ONCE = 8
_MODEL = "fixed-rate"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=200, help="windows for each server")
    parser.add_argument("--rate", type=float, default=20.0, help="windows a second of one server")
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    alone = 0.0
    for count in args.servers:
        rates = [measured(count, args.windows, args.rate) for _ in range(args.rounds)]
        rate = statistics.median(rates)
        alone = alone or rate / count
        spread = f"{min(rates):.2f} to {max(rates):.2f}"
        print(f"{count} servers: {rate:.2f} windows/s ({spread}), {rate / alone:.2f} times one", flush=True)


def measured(count: int, windows: int, rate: float) -> float:
    """Windows a second that `count` servers answer together."""
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=serve, args=(count, _AT_ONCE / rate, there), daemon=True)
    process.start()
    os.environ["OPENAI_BASE_URL"] = ",".join(here.recv())
    variant = caption_variant("demo")
    engine = OpenAIEngine(variant, checkpoint_of(variant), EngineOptions(batch_size=_AT_ONCE))
    try:
        engine.start()
        begun = time.perf_counter()
        answered = sum(result.outcome.ok for result in engine.generate(_windows(windows * count)))
        assert answered == windows * count, f"{windows * count - answered} windows have failed"
        return answered / (time.perf_counter() - begun)
    finally:
        engine.close()
        process.kill()


def _windows(count: int) -> Iterator[Request]:
    frames = SampledFrames(np.zeros((4, 168, 224, 3), np.uint8), FramePicks((0, 1, 2, 3), (0.0, 0.5, 1.0, 1.5)))
    return (caption_request(str(k), "Describe.", frames, 64) for k in range(count))


def serve(count: int, seconds: float, told: Connection) -> None:
    """Serves at `count` addresses, which it tells, until it is killed; an answer takes so many seconds."""
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=256) for _ in range(count)]
    told.send([f"http://127.0.0.1:{listener.getsockname()[1]}/v1" for listener in listeners])
    for listener in listeners[1:]:
        threading.Thread(target=_accept, args=(listener, seconds), daemon=True).start()
    _accept(listeners[0], seconds)


def _accept(listener: socket.socket, seconds: float) -> None:
    slots = threading.Semaphore(_AT_ONCE)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection, slots, seconds), daemon=True).start()


def _answer(connection: socket.socket, slots: threading.Semaphore, seconds: float) -> None:
    with connection, suppress(OSError, ValueError):
        stream = connection.makefile("rb")
        line, length = stream.readline(), 0
        while header := stream.readline().strip():
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        stream.read(length)
        if line.startswith(b"GET"):
            said = {"data": [{"id": _MODEL, "object": "model", "owned_by": "tests"}]}
        else:
            with slots:
                time.sleep(seconds)
            choice = {"index": 0, "message": {"role": "assistant", "content": "A scene."}, "finish_reason": "stop"}
            said = {"model": _MODEL, "choices": [choice]}
        data = json.dumps(said).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(data), data))


if __name__ == "__main__":
    main()

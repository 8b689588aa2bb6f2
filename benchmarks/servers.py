"""How much more several servers caption than one.

    python -m benchmarks.servers --windows 200 --rate 20 --servers 1 2 4
    PYTHONPATH=$PWD/.vllm-cpu python -m benchmarks.servers --vllm --windows 60 --servers 1 2

The servers are threads of a process of their own on loopback: each works on eight windows at once, as a GPU does that
batches, and answers `--rate` of them a second. With --vllm they are `vllm serve` of the embedded demo model on the CPU,
each on a core of its own; this process has those that are left, or shares all of them where none is. What is measured
is this side: the engine that prepares the windows and shares them out, in one process. The figures are of all windows,
from the engine's readiness to the last answer.
"""

import argparse
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import numpy as np

from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.requests import Request, caption_request
from caption_assets.models.variants import caption_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.records import FramePicks, SampledFrames
from caption_assets_tests.processes import free_port

_AT_ONCE = 8
_MODEL = "fixed-rate"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=200, help="windows for each server")
    parser.add_argument("--rate", type=float, default=20.0, help="windows a second of one server")
    parser.add_argument("--servers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vllm", action="store_true", help="`vllm serve` of the demo model in place of a fixed rate")
    args = parser.parse_args()
    most, alone = max(args.servers), 0.0
    with _vllm(most) if args.vllm else _fixed(most, _AT_ONCE / args.rate) as addresses:
        for count in args.servers:
            rates = [measured(addresses[:count], args.windows) for _ in range(args.rounds)]
            rate = statistics.median(rates)
            alone = alone or rate / count
            spread = f"{min(rates):.2f} to {max(rates):.2f}"
            print(f"{count} servers: {rate:.2f} windows/s ({spread}), {rate / alone:.2f} times one", flush=True)


@contextmanager
def _fixed(count: int, seconds: float) -> Iterator[list[str]]:
    """The addresses of servers whose answers take so many seconds."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(count, seconds, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()


@contextmanager
def _vllm(count: int) -> Iterator[list[str]]:
    """Those of so many `vllm serve`, each on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        raise SystemExit(f"{count} servers want {count} cores, and there are {len(cores)}")
    checkpoint = checkpoint_of(caption_variant("demo"))
    ports = [free_port() for _ in range(count)]
    call = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(checkpoint.folder), "--host", "127.0.0.1"]
    call += ["--max-model-len", "8192", "--max-num-batched-tokens", "8192", "--trust-request-mm-kwargs"]
    call += ["--limit-mm-per-prompt", '{"image": 0, "video": 1}', "--enforce-eager", "--dtype", "float32"]
    call += ["--kv-cache-memory-bytes", str(1 << 29)]
    processes = [
        subprocess.Popen(
            ["taskset", "--cpu-list", str(core), *call, "--port", str(port)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        for core, port in zip(cores, ports, strict=False)
    ]
    os.sched_setaffinity(0, set(cores[count:]) or set(cores))
    try:
        for process, port in zip(processes, ports, strict=True):
            while not _is_there(port):
                if process.poll() is not None:
                    raise SystemExit("vllm serve ended while it started")
                time.sleep(1)
        yield [f"http://127.0.0.1:{port}/v1" for port in ports]
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _is_there(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
        return True
    return False


def measured(addresses: list[str], windows: int) -> float:
    """Windows a second that servers answer together, of so many for each."""
    os.environ["OPENAI_BASE_URL"] = ",".join(addresses)
    variant = caption_variant("demo")
    engine, count = OpenAIEngine(variant, checkpoint_of(variant), EngineOptions(batch_size=_AT_ONCE)), len(addresses)
    try:
        engine.start()
        begun = time.perf_counter()
        answered = sum(result.outcome.ok for result in engine.generate(_windows(windows * count)))
        assert answered == windows * count, f"{windows * count - answered} windows have failed"
        return answered / (time.perf_counter() - begun)
    finally:
        engine.close()


def _windows(count: int) -> Iterator[Request]:
    """Each with pictures of its own, and so that no server knows them from an earlier round."""
    for number in range(count):
        pixels = np.empty((4, 168, 224, 3), np.uint8)
        pixels[:] = np.frombuffer(os.urandom(3), np.uint8)
        frames = SampledFrames(pixels, FramePicks((0, 1, 2, 3), (0.0, 0.5, 1.0, 1.5)))
        yield caption_request(str(number), "Describe.", frames, 64)


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

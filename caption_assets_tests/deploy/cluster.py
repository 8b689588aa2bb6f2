"""What several machines share, on this one: PostgreSQL, and a Ray cluster of two nodes."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from caption_assets_tests.dagster_dev import BIN, wait_for

_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def postgres() -> Iterator[str]:
    """A server with an empty database, by its URL. Where this is root, it runs as the user postgres."""
    assert _POSTGRES, "PostgreSQL is not installed: `make postgresql` does it"
    programs, port = _POSTGRES[-1], free_port()
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    options: dict[str, Any] = {"cwd": "/", "stdout": subprocess.DEVNULL}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = str(folder / "data")
    made = [programs / "initdb", "-D", data, "-U", "dagster", "-A", "trust", "--no-sync"]
    subprocess.run(made, check=True, **options)
    command = [programs / "postgres", "-D", data, "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-F"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([*map(str, command)], stderr=log, **options)
    try:
        asked = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
        wait_for(lambda: subprocess.run(asked).returncode == 0)
        yield f"postgresql+psycopg2://dagster@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGQUIT)  # at once, whatever is open
        server.wait()
        shutil.rmtree(folder)


class RayCluster:
    """Two nodes on loopback, of which only the second has a GPU, by its word."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {**environment, "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        # Sockets in it have names that may not be longer than this allows.
        self._temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._port, self._dashboard = free_port(), free_port()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._dashboard}"

    def __enter__(self) -> "RayCluster":
        head = ["--head", f"--port={self._port}", f"--dashboard-port={self._dashboard}", "--num-gpus=0"]
        self.start("head", *head, "--include-dashboard=true", f"--ray-client-server-port={free_port()}")
        self.add_worker()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._nodes):
            self.kill(name)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def add_worker(self) -> None:
        self.start("worker", f"--address=127.0.0.1:{self._port}", "--num-gpus=1")

    def start(self, name: str, *options: str) -> None:
        command = [BIN / "ray", "start", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
        command += [f"--object-store-memory={80 << 20}", "--disable-usage-stats", f"--temp-dir={self._temporary}"]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._nodes[name] = subprocess.Popen(
                [*command, *options], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """Ends a node with all that runs there, without a word."""
        node = self._nodes.pop(name)
        for pid in [node.pid, *_below(node.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()


def _below(pid: int) -> list[int]:
    """The processes that it has started, and these."""
    said = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    children = [int(word) for word in said.split()]
    return [*children, *(each for child in children for each in _below(child))]

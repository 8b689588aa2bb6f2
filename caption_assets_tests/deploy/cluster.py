"""What several machines share, on this one: PostgreSQL, and a Ray cluster of two nodes."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A server with an empty database, by its URL. It does not run as root: then it is the user postgres."""
    assert _POSTGRES, "PostgreSQL is not installed: `make postgresql` does it"
    programs, port = _POSTGRES[-1], free_port()
    folder.mkdir()
    options: dict[str, object] = {"cwd": "/", "stdout": subprocess.DEVNULL, "check": True}
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        for path in (folder, *folder.parents):
            if path.stat().st_uid == 0 and path != Path("/"):
                path.chmod(path.stat().st_mode | 0o011)
        shutil.chown(folder, user.pw_uid, user.pw_gid)
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = str(folder / "data")
    subprocess.run([programs / "initdb", "-D", data, "-U", "dagster", "-A", "trust", "--no-sync"], **options)  # type: ignore
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [programs / "pg_ctl", "-D", data, "-w", "-l", str(folder / "log")]
    subprocess.run([*control, "-o", settings, "start"], **options)  # type: ignore
    try:
        yield f"postgresql+psycopg2://dagster@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **{**options, "check": False})  # type: ignore


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
        self.start("worker", f"--address=127.0.0.1:{self._port}", "--num-gpus=1")
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._nodes):
            self.kill(name)
        shutil.rmtree(self._temporary, ignore_errors=True)

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

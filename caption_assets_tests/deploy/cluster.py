"""A deployment of several machines, on this one: PostgreSQL, S3, a Ray cluster, Dagster's daemon and a code server."""

import contextlib
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
from dagster._core.execution.backfill import BULK_ACTION_TERMINAL_STATUSES
from upath import UPath

from caption_assets.defs.backfills import ask_for_backfill
from caption_assets.defs.build import build_defs
from caption_assets.defs.partitions import add_new_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.settings.environment import deployed_settings
from caption_assets.steps.sharding import dataset_for
from caption_assets_tests.dagster_dev import BIN, CHECKOUT, wait_for
from caption_assets_tests.processes import descendants, free_port
from caption_assets_tests.s3 import S3Server

NOTICE_S = 30.0
_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Postgres:
    """A server with an empty database, by its `url`. Where this is root, it runs as the user postgres."""

    def __init__(self) -> None:
        assert _POSTGRES, "PostgreSQL is not installed: `make postgresql` does it"
        self._programs, self._port = _POSTGRES[-1], free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        self._options: dict[str, Any] = {"cwd": "/", "stdout": subprocess.DEVNULL}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            shutil.chown(self._folder, user.pw_uid, user.pw_gid)
            self._options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._data = str(self._folder / "data")
        self.url = f"postgresql+psycopg2://dagster@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> "Postgres":
        made = [self._programs / "initdb", "-D", self._data, "-U", "dagster", "-A", "trust", "--no-sync"]
        subprocess.run(made, check=True, **self._options)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        command = [self._programs / "postgres", "-D", self._data, "-p", self._port, "-k", self._folder]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen([*map(str, command), "-h", "127.0.0.1", "-F"], stderr=log, **self._options)
        asked = [self._programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self._port), "-q"]
        wait_for(lambda: subprocess.run(asked).returncode == 0)

    def kill(self) -> None:
        """Ends it at once, whatever is open; what was committed is there after the next start."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()


class RayCluster:
    """Nodes on loopback, a head and others, of which only the others have a GPU each, by their word."""

    def __init__(self, folder: Path, environment: Mapping[str, str], workers: int = 1) -> None:
        self._folder, self._workers = folder, workers
        self._environment = {**environment, "RAY_DISABLE_IMPORT_WARNING": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        # Sockets in it have names that may not be longer than this allows.
        self._temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._port, self._dashboard = free_port(), free_port()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._dashboard}"

    def __enter__(self) -> "RayCluster":
        try:
            self._start_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_all(self) -> None:
        head = ["--head", f"--port={self._port}", f"--dashboard-port={self._dashboard}", "--num-gpus=0"]
        self._start("head", *head, "--include-dashboard=true", f"--ray-client-server-port={free_port()}")
        wait_for(lambda: self._gpus() is not None)
        for number in range(self._workers):
            self.add(f"worker-{number}")
        wait_for(lambda: self._gpus() == self._workers)

    def __exit__(self, *_: object) -> None:
        for name in list(self.nodes):
            self.kill(name)
        shutil.rmtree(self._temporary, ignore_errors=True)

    def add(self, name: str) -> None:
        self._start(name, f"--address=127.0.0.1:{self._port}", "--num-gpus=1")

    def _gpus(self) -> int | None:
        """How many nodes with one there are, once the head can say."""
        with contextlib.suppress(OSError):
            return len(self.nodes_with_gpus())
        return None

    def _start(self, name: str, *options: str) -> None:
        command = [BIN / "ray", "start", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--no-monitor"]
        command += [f"--object-store-memory={80 << 20}", "--disable-usage-stats", f"--temp-dir={self._temporary}"]
        # By default, all clusters of a machine want the same port for their jobs.
        command += ["--include-log-monitor=false", f"--dashboard-agent-listen-port={free_port()}"]
        with (self._folder / f"{name}.log").open("ab") as log:
            # Ray gives up a node that is not there after 30 s.
            line = f"until {shlex.join([*map(str, command), *options])}; do sleep 1; done"
            self.nodes[name] = subprocess.Popen(
                ["sh", "-c", line], env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """Ends a node with all that runs there, without a word."""
        node = self.nodes.pop(name)
        kill(node.pid, *descendants(node.pid))
        node.wait()

    def take_away(self, name: str) -> None:
        """Ends a node as a spot machine ends: all processes get a SIGTERM, and are killed 30 seconds later."""
        node = self.nodes.pop(name)
        below = descendants(node.pid)
        kill(node.pid)
        node.wait()
        kill(*below, number=signal.SIGTERM)
        until = time.monotonic() + NOTICE_S
        while time.monotonic() < until and any(Path(f"/proc/{pid}").exists() for pid in below):
            time.sleep(0.3)
        kill(*below)

    def jobs(self) -> list[dict[str, Any]]:
        """What it has been asked for, each attempt, the first one first."""
        with urllib.request.urlopen(f"{self.address}/api/jobs/") as answer:
            return sorted(json.load(answer), key=lambda job: job["start_time"])

    def nodes_with_gpus(self) -> set[str]:
        """The ids of the nodes that say so, dead ones, too."""
        with urllib.request.urlopen(f"{self.address}/api/v0/nodes") as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
        return {node["node_id"] for node in nodes if node["resources_total"].get("GPU")}


def kill(*pids: int, number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Deployment:
    """All of it, as deploy/dagster.yaml and docs/deploy.md have it. `clips` are put into the bucket of `s3`, where the
    output goes, too. A process has one at a time: its own environment is the deployment's."""

    def __init__(self, folder: Path, s3: S3Server, clips: Path, workers: int = 1, **variables: str) -> None:
        self._folder, self.home, self.s3 = folder, folder / "home", s3
        self.home.mkdir()
        for path in clips.rglob("*.mp4"):
            s3.put(f"clips/{path.relative_to(clips)}", path.read_bytes())
        self.output = UPath(f"s3://{s3.bucket}/out")
        self.postgres = Postgres()
        plain = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS") if name in os.environ}
        self._nodes = {
            **plain,
            **s3.environment,
            "PATH": f"{BIN}:/usr/bin:/bin",
            "PYTHONPATH": str(CHECKOUT),
            "HF_HUB_OFFLINE": "1",
            "DAGSTER_HOME": str(self.home),
            "DAGSTER_POSTGRES_URL": self.postgres.url,
            "DAGSTER_LOGS_BUCKET": s3.bucket,
        }
        self.ray = RayCluster(folder, self._nodes, workers)
        self.environment = {
            **self._nodes,
            "CAPTION_ASSETS_DATASET": f"s3://{s3.bucket}/clips",
            "CAPTION_ASSETS_OUTPUT": str(self.output),
            "CAPTION_ASSETS_EXECUTOR": "ray",
            "CAPTION_ASSETS_WORKERS": "1",
            "RAY_ADDRESS": self.ray.address,
            **variables,
        }

    @contextmanager
    def running(self) -> Iterator["Deployment"]:
        # With what an own line of it says is for an object store.
        lines = (CHECKOUT / "deploy" / "dagster.yaml").read_text()
        (self.home / "dagster.yaml").write_text(re.sub(r"^# (?=compute_logs|  )", "", lines, flags=re.MULTILINE))
        port = free_port()
        server = {"host": "127.0.0.1", "port": port, "location_name": "caption_assets"}
        (self.home / "workspace.yaml").write_text(json.dumps({"load_from": [{"grpc_server": server}]}))
        with ExitStack() as stack:
            stack.enter_context(self.postgres)
            stack.enter_context(self.ray)
            stack.enter_context(patch.dict(os.environ, self.environment, clear=True))
            self.instance = stack.enter_context(dg.DagsterInstance.from_config(str(self.home)))
            module = ["--module-name", "caption_assets.definitions"]
            stack.enter_context(self._process("dagster", "code-server", "start", "--port", str(port), *module))
            stack.enter_context(self._process("dagster-daemon", "run", "--workspace", "workspace.yaml"))
            yield self

    @contextmanager
    def _process(self, *command: str) -> Iterator[None]:
        with (self.home / f"{command[0]}.log").open("wb") as log:
            process = subprocess.Popen(
                [BIN / command[0], *command[1:]], cwd=self.home, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield
        finally:
            kill(process.pid, *descendants(process.pid))
            process.wait()

    @cached_property
    def pipeline(self) -> Pipeline:
        return Pipeline(deployed_settings())

    def backfill(self, *assets: dg.AssetKey, shards: Sequence[str] = ()) -> str:
        """Asks for one of shards, by default of all; its id."""
        settings = self.pipeline.settings
        dataset = dataset_for(settings.dataset, settings.clips, settings.output)
        add_new_shards(self.instance, self.pipeline.shards, dataset)
        return ask_for_backfill(self.instance, build_defs(settings), assets, shards or dataset.shards())

    def ended(self, backfill: str) -> str | None:
        """How, if it has."""
        found = self.instance.get_backfill(backfill)
        assert found is not None
        return found.status.value if found.status in BULK_ACTION_TERMINAL_STATUSES else None

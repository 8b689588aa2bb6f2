"""A project of a user's own, and a `dagster dev`, started as users start it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from caption_assets_tests.processes import hear_signals

CHECKOUT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
COMPONENT = "caption_assets.defs.component.CaptionPipeline"
_PROJECT = """
[project]
name = "mine"
version = "0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "mine"
"""
_DEFINITIONS = """
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
# Only for what hangs.
HANG_SECONDS = 200.0
T = TypeVar("T")


@dataclass(frozen=True)
class DagsterDev:
    """A server at `url` whose instance and working directory are `home`."""

    url: str
    home: Path
    environment: Mapping[str, str]

    def ask(self, query: str, **variables: Any) -> Any:
        """The data that a GraphQL query gives."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)
        assert "errors" not in found, found
        return found["data"]

    def command(self, *arguments: str) -> "subprocess.Popen[str]":
        """Starts one of the environment's programs in the working directory."""
        command = [BIN / arguments[0], *arguments[1:]]
        output: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.home, env=self.environment, **output)

    def run(self, run_id: str) -> dict[str, Any]:
        """A run, as soon as it has ended."""
        query = """query($id: ID!) { runOrError(runId: $id) { ... on Run {
            runId status runConfigYaml assetSelection { path } tags { key value }
        } } }"""

        def ended() -> Any:
            found = self.ask(query, id=run_id)["runOrError"]
            return found if found["status"] in ("SUCCESS", "FAILURE", "CANCELED") else None

        return wait_for(ended)


def make_project(root: Path) -> None:
    """Writes the project `mine`, as `dg` makes them, into a folder."""
    (root / "mine" / "defs").mkdir(parents=True)
    for name, text in {"pyproject.toml": _PROJECT, "mine/definitions.py": _DEFINITIONS, "mine/__init__.py": ""}.items():
        (root / name).write_text(text)


def write_component(root: Path, folder: str, **attributes: Any) -> Path:
    """Writes a component of the project into a folder of its own; returns its file."""
    path = root / "mine" / "defs" / folder / "defs.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"type": COMPONENT, "attributes": attributes}, sort_keys=False))
    return path


def wait_for(found: Callable[[], T | None], seconds: float = HANG_SECONDS) -> T:
    """What it gives as soon as that is something."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "it hangs"
        time.sleep(0.3)
    return value


@contextmanager
def dagster_dev(
    home: Path, workspace: str, instance: Path = CHECKOUT / "dagster.yaml", **variables: str
) -> Iterator[DagsterDev]:
    """One in the folder `home`, which gets the file of an instance, with the code locations of `workspace` and further
    environment variables."""
    shutil.copy(instance, home)
    (home / "workspace.yaml").write_text(workspace)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("CAPTION_ASSETS_", "DAGSTER_"))}
    path = os.pathsep.join(filter(None, [str(CHECKOUT), plain.get("PYTHONPATH")]))
    environment = {**plain, "PYTHONPATH": path, "DAGSTER_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment |= variables
    with (home / "log").open("w") as log:
        command = [BIN / "dagster", "dev", "--port", str(port)]
        process = subprocess.Popen(
            command,
            cwd=home,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=hear_signals,
        )
    server = DagsterDev(f"http://127.0.0.1:{port}", home, environment)

    def serves() -> bool:
        assert process.poll() is None, (home / "log").read_text()
        try:
            return bool(server.ask("{ version }"))
        except OSError:
            return False

    try:
        wait_for(serves)
        yield server
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # it outlives a signal to the parent alone
        process.wait()

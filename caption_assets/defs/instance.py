"""Where Dagster keeps history: beside the dagster.yaml that says so, from wherever it is started."""

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.errors import (
    DagsterCodeLocationLoadError,
    DagsterCodeLocationNotFoundError,
    DagsterInvalidConfigError,
    DagsterUserCodeUnreachableError,
)
from dagster._core.instance.ref import ConfigurableClassData, InstanceRef
from dagster._core.storage.tags import PRIORITY_TAG

from caption_assets.defs.placing import makes
from caption_assets.errors import ConfigError
from caption_assets.settings.declare import ENVIRONMENT_PREFIX
from caption_assets.store.tables import ENHANCED_CAPTIONS, WINDOW_CAPTIONS

WORKSPACE = Path(__file__).with_name("workspace.yaml")
"""The code location of `caption_assets.definitions`, for `dagster dev` and its like."""
GPU_RUN_TAGS = ENVIRONMENT_PREFIX + "GPU_RUN_TAGS"
"""The variable with the tags, as JSON, of runs that ask a model: what Kubernetes is to give them, say."""
_INSTANCE_FILE = "dagster.yaml"
_STORAGE = ".dagster_home"
# Dagster's folder for an instance of no other place, made in the working directory.
_TEMPORARY = ".tmp_dagster_home_"
_NO_LOGS = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
# How often a connection to PostgreSQL is tried again, 0.4 s after the first time and twice as long after each: for
# 50 s, where Dagster itself gives up after 11.
_PATIENCE = 7
# And how often a code server is asked to launch a run again, as deploy/dagster.yaml has it for the runs of the queue.
_CODE_SERVER_TRIES, _CODE_SERVER_PAUSE_S = 20, 30.0
_MOST_LETTERS = 300
# Used where neither DAGSTER_HOME nor a dagster.yaml says where history is kept.
_OWN_HOME = Path("~/.local/share/caption_assets")


class StoredBesideInstance(dg.DagsterInstance):
    """An instance whose storage is the folder `.dagster_home` beside its dagster.yaml, unless that names another one.

    A path in a dagster.yaml is relative to the working directory of whoever reads it, so that the same file opened
    another, empty instance in each. Named there as `instance_class`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Raises ConfigError for what GPU_RUN_TAGS cannot be: the daemon, which needs them, says so as it starts."""
        gpu_run_tags()
        super().__init__(*args, **kwargs)

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """Nothing but what every instance has."""
        return {}

    def submit_run(self, run_id: str, workspace: Any) -> dg.DagsterRun:
        """Puts runs that caption before all others in the queue: previews of a large dataset would keep its GPUs
        waiting for hours. Runs that ask a model have the tags of GPU_RUN_TAGS. What tags of its own say counts first.
        """
        run = self.get_run_by_id(run_id)
        if run is not None:
            tags = {PRIORITY_TAG: "1"} if makes(run, WINDOW_CAPTIONS) else {}
            if makes(run, WINDOW_CAPTIONS, ENHANCED_CAPTIONS):
                tags |= gpu_run_tags()
            if new := {name: value for name, value in tags.items() if name not in run.tags}:
                self.add_run_tags(run_id, new)
        return super().submit_run(run_id, workspace)

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Of the instance in the folder `base_dir`, which is DAGSTER_HOME or else a temporary one."""
        folder, name = os.path.split(os.path.abspath(base_dir))
        home = os.path.join(folder if name.startswith(_TEMPORARY) else base_dir, _STORAGE)
        logs = {"base_dir": os.path.join(home, "compute_logs")}
        manager = ("dagster._core.storage.local_compute_log_manager", "LocalComputeLogManager")
        return {**InstanceRef.config_defaults(home), "compute_logs": ConfigurableClassData(*manager, yaml.dump(logs))}


def instance_home() -> str:
    """The folder of the instance: DAGSTER_HOME, else the working directory if it has a dagster.yaml, else one in the
    user's home, which is made. From now on it is DAGSTER_HOME.

    Raises ConfigError for a DAGSTER_HOME that is no folder.
    """
    if not os.environ.get("DAGSTER_HOME"):
        home = Path.cwd()
        if not (home / _INSTANCE_FILE).is_file():
            home = _OWN_HOME.expanduser()
            home.mkdir(parents=True, exist_ok=True)
            if not (home / _INSTANCE_FILE).exists():
                (home / _INSTANCE_FILE).write_text(Path(__file__).with_name(_INSTANCE_FILE).read_text())
        os.environ["DAGSTER_HOME"] = str(home)
    folder = os.path.expanduser(os.environ["DAGSTER_HOME"])
    if not os.path.isabs(folder) or not os.path.isdir(folder):
        raise ConfigError(f"DAGSTER_HOME={folder!r}", "it is no folder by its whole path", "give it like /data/dagster")
    return folder


def _be_patient() -> None:
    """Has Dagster wait for a database and for a code server that are away for a moment.

    A connection that cannot be made takes a run or a step with it, and of a code server the thread that says which runs
    have died. A backfill that the daemon looks at while the code server is away is failed for good, and a run that it
    is to launch again then is not, though both may have ended with the same machine.
    """
    os.environ.setdefault("DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR", "1")
    with suppress(ImportError):
        from dagster_postgres.utils import retry_pg_connection_fn

        _, wait_s = retry_pg_connection_fn.__defaults__ or ()
        retry_pg_connection_fn.__defaults__ = (_PATIENCE, wait_s)
    if daemon := sys.modules.get("dagster._daemon.auto_run_reexecution.auto_run_reexecution"):  # in its process alone
        setattr(daemon, "retry_run", _patiently(daemon.retry_run))  # noqa: B010


def _patiently(launch: Callable[..., None]) -> Callable[..., None]:
    """`launch`, that is tried again for as long as runs in the queue wait for a code server."""

    @wraps(launch)
    def patient(*args: Any) -> None:
        for _ in range(_CODE_SERVER_TRIES):
            try:
                return launch(*args)
            except (DagsterUserCodeUnreachableError, DagsterCodeLocationLoadError, DagsterCodeLocationNotFoundError):
                time.sleep(_CODE_SERVER_PAUSE_S)
        return launch(*args)

    return patient


# Whoever opens an instance of the class above has this module, and no connection yet.
_be_patient()


def gpu_run_tags() -> dict[str, str]:
    """The tags of GPU_RUN_TAGS, by name. Raises ConfigError for what is no JSON of these."""
    text = os.environ.get(GPU_RUN_TAGS, "").strip()
    try:
        given = json.loads(text or "{}")
    except ValueError:
        given = None
    if not isinstance(given, dict):
        fix = 'write it as {"dagster/max_retries": "5"}'
        raise ConfigError(f"tags of runs in {GPU_RUN_TAGS}", "they are no JSON of names with values", fix)
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}


@contextmanager
def local_instance() -> Iterator[dg.DagsterInstance]:
    """The instance of `instance_home`. Raises ConfigError where it cannot be opened.

    What its runs print is on the terminal, and not kept once more: Dagster would start four processes a step for that,
    which have words of their own for a Ctrl-C.
    """
    home = instance_home()
    try:
        opened = dg.DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides={"compute_logs": _NO_LOGS}))
    except ConfigError:
        raise
    except Exception as error:  # whatever its file names: YAML, classes, databases
        fix = f"mend {os.path.join(home, _INSTANCE_FILE)}, or what it names: the database, environment variables"
        raise ConfigError(f"Dagster instance of {home}", f"it cannot be opened ({_why(error)})", fix) from error
    with opened as instance:
        yield instance


def _why(error: Exception) -> str:
    """What Dagster, or what it asked, says of itself, in a line, without what may be part of a password."""
    if isinstance(error, DagsterInvalidConfigError) and error.errors:
        said = error.errors[0].message
        unset = re.search(r'environment variable "(\w+)" which is not set', said)
        return f"environment variable {unset[1]} is not set" if unset else _line(said.partition(" Expected: ")[0])
    cause: BaseException = error
    while further := cause.__cause__ or cause.__context__:
        cause = further
    if type(cause) is ValueError:  # of a database's URL, such as what should have been its port
        return "a value in it, such as a URL, cannot be read"
    return _line(str(cause)) or type(cause).__name__


def _line(text: str) -> str:
    text = " ".join(text.split()).removeprefix("Failure condition: ").rstrip(".")
    text = re.sub(r"[^\s\"']+@", "…@", text)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"

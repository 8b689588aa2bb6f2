"""Processes that have imported what commands import, which is most of the time of a short one.

They are forked from a process that has done so, which starts with the first of them. What the environment says to an
import (`HF_ENDPOINT`, `HF_HOME`) counts only for one that starts `afresh`, and for the processes that they start.
"""

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from caption_assets_tests.processes import hear_signals

# With the models of the tests' small checkpoints, and of the demo.
_IMPORTED = [
    "caption_assets.cli.app",
    "caption_assets.defs.run",
    "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl",
    "transformers.models.qwen2_5_vl.processing_qwen2_5_vl",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen3.modeling_qwen3",
]
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(_IMPORTED)
_AFRESH = multiprocessing.get_context("spawn")


def start_command(
    arguments: Sequence[str | Path], environment: Mapping[str, str], log: Path, *, afresh: bool = False
) -> BaseProcess:
    """Starts `caption-assets` with these arguments in this folder, in a process group of its own; what it prints goes
    into a file."""
    return start_main("caption_assets.cli", arguments, environment, log, afresh=afresh)


def start_main(
    module: str, arguments: Sequence[str | Path], environment: Mapping[str, str], log: Path, *, afresh: bool = False
) -> BaseProcess:
    """The same with the function `main` of a module."""
    log.touch()
    given = (module, list(map(str, arguments)), dict(environment), os.getcwd(), log)
    process = (_AFRESH if afresh else _FORKS).Process(target=_main, args=given)
    process.start()
    return process


def _main(module: str, arguments: list[str], environment: dict[str, str], folder: str, log: Path) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    with log.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    hear_signals()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()

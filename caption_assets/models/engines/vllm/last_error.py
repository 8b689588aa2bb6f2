"""The last error of vLLM's own processes: they note it in a file of the run's, which can tell what they died of.

vLLM itself tells the run only that they died. They find the file by the environment that they start with, and begin to
note when vLLM calls this package in each of them (`loader.register`).
"""

import logging
import os
import tempfile
import traceback

_FILE = "CAPTION_ASSETS_LAST_ERROR"


class LastError:
    """What the processes that start with `environment` noted last. The file has no name, so that none stays behind."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - it lasts as long as the engine

    @property
    def environment(self) -> dict[str, str]:
        return {_FILE: f"/proc/{os.getpid()}/fd/{self._file.fileno()}"}

    def __str__(self) -> str:
        """One line, "" where there was no error: a process that is killed notes nothing."""
        self._file.seek(0)
        return self._file.read().strip()


def note_errors() -> None:
    """Has this process note its errors, where it was started to do so."""
    path = os.environ.get(_FILE)
    if path is not None and not path.startswith(f"/proc/{os.getpid()}/"):
        logging.getLogger("vllm").addHandler(_Notes(path))


class _Notes(logging.Handler):
    def __init__(self, path: str) -> None:
        super().__init__(logging.ERROR)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return
        first, *_ = "".join(traceback.format_exception_only(error)).strip().splitlines()
        try:
            with open(self._path, "w", encoding="utf-8") as file:
                file.write(first)
        except OSError:
            self.handleError(record)

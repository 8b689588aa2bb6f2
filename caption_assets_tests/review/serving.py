"""The review server as people start it: the command, in a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from caption_assets_tests.processes import hear_signals


class Serving:
    """`caption-assets review` with further arguments, at `url`; a context manager. `kill` ends it as a crash would."""

    def __init__(self, output: str | Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "caption_assets", "review", "--output-path", str(output), "--port", "0"]
        self._process = subprocess.Popen(
            [*command, *(arguments or ("--serve",))],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=hear_signals,
        )
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline()
        found = re.search(r"http://\S+/", self.said)
        assert found, f"the server did not start: {self.said!r}"
        self.url = found[0]

    def __enter__(self) -> "Serving":
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def stop(self) -> int:
        """Ctrl-C; returns the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self._end()

    def kill(self) -> None:
        self._process.kill()
        self._end()

    def _end(self) -> int:
        status = self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status

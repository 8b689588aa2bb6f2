"""A call in a process of its own, which ends with the caller: for what a thread could not be called back from."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_START = """
import sys
sys.path[:] = {path!r}
from caption_assets.models.weights.apart import main
main()
"""


def call_apart(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)`, of a module, by a new interpreter; what it raises is raised here.

    Whatever breaks off the wait here, a Ctrl-C for one, ends that process. Its standard error is this one's.
    """
    start = _START.format(path=sys.path)
    with subprocess.Popen([sys.executable, "-c", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((function, arguments), process.stdin)
            process.stdin.flush()
            answer = process.stdout.read()
            if not answer:
                raise OSError(f"the process that did it ended with status {process.wait()}")
        finally:
            process.kill()
    value, error = pickle.loads(answer)
    if error is not None:
        raise error
    return value


def main() -> None:
    # The caller decides when the work is broken off; a Ctrl-C in the terminal reaches all processes of the group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    function, arguments = pickle.load(sys.stdin.buffer)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what is printed is no answer
    threading.Thread(target=_end_with_caller, daemon=True).start()
    value, error = None, None
    try:
        value = function(*arguments)
    except Exception as raised:
        error = raised
    pickle.dump((value, error), out)
    out.close()


def _end_with_caller() -> None:
    sys.stdin.buffer.read()
    os._exit(1)

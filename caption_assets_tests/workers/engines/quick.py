"""An engine that loads nothing, for what is about processes: it answers with the request's words, and ends as asked."""

import os
import signal
import time
from dataclasses import dataclass

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import EngineDeathError, EngineInfo
from caption_assets.models.requests import Author, Result


@dataclass
class QuickEngine:
    """Words of a request on which it ends: "die" kills the process, "crash" is an engine's own death, "stop" stops the
    process without ending it. With `once`, only while that file is not there. Where `broken` is a file that is
    not there, the process that makes it has no GPU; with "always", none has."""

    seconds: float = 0.0
    once: str | None = None
    broken: str | None = None
    in_batches: bool = False

    def author(self):
        return Author("quick")

    def start(self):
        if self.broken and (self.broken == "always" or _first(self.broken)):
            raise ModelError("a GPU", "other programs use it")
        return EngineInfo("quick", "1", f"process {os.getpid()}", "fp32", in_batches=self.in_batches)

    def ready(self):
        return 0.5

    def generate(self, requests):
        for request in requests:
            word = request.messages[0]["content"]
            if word in ("die", "crash", "stop") and (self.once is None or _first(self.once)):
                if word == "crash":
                    raise EngineDeathError("engine 'quick'", "it crashed")
                os.kill(os.getpid(), signal.SIGKILL if word == "die" else signal.SIGSTOP)
                time.sleep(3600)
            time.sleep(self.seconds)
            total = 0 if request.frames is None else int(request.frames.frames.sum())
            yield Result(request.request_id, text=f"{word} {total} by {os.getpid()}", finish_reason="stop")

    def close(self):
        pass


def _first(path):
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

"""Local copies of clips that are remote, or part of a larger file. Each is fetched with one request, and kept for as
long as its folder is."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from caption_assets.media.faults import MissingClipError
from caption_assets.media.parts import fetch_part
from caption_assets.names import actual, open_url, part_of

# What copies leave free on a disk that others write to as well.
_SPARE_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Copies:
    """Where copies of remote clips are kept, so that each is fetched once: a local folder that somebody else removes.

    Once the folder holds `most_bytes`, or its disk is nearly full, no more are kept; those that are there stay, as a
    run goes over its clips in order, several times. Processes may overstep the bound by a clip each.
    """

    folder: str
    most_bytes: int


@contextlib.contextmanager
def local_copy(location: str, copies: Copies | None = None, anew: bool = False) -> Iterator[str]:
    """A local path with the bytes of a remote file, or of part of a file, kept in `copies` or removed with the context.

    What is kept is not asked for again, but with `anew`, which replaces it: no request says whether the remote file has
    changed, and all passes of a run see the same bytes. Raises MissingClipError.
    """
    part = part_of(location)
    suffix = os.path.splitext(location)[1][:8] if part is None else ""
    name = hashlib.blake2b(location.encode(), digest_size=16).hexdigest() + suffix
    kept = os.path.join(copies.folder, name) if copies else ""
    if kept and not anew and os.path.exists(kept):
        yield kept
        return
    with contextlib.ExitStack() as stack:
        # In the same folder, which outlives a process that is killed.
        above = copies.folder if copies else None
        folder = tempfile.TemporaryDirectory(prefix="caption_assets-", dir=above, ignore_cleanup_errors=True)
        local = os.path.join(stack.enter_context(folder), "clip" + suffix)
        if part is None:
            _fetch(location, local)
        else:
            fetch_part(part, location, local)
        if copies and _has_room(copies, os.path.getsize(local)):
            os.replace(local, kept)  # of two that fetch the same clip, the last one stays
            stack.close()
            local = kept
        yield local


def _fetch(location: str, local: str) -> None:
    try:
        files, path = open_url(actual(location))
        _allow_time(files)
        files.get_file(path, local)
        if not os.path.isfile(local):
            raise IsADirectoryError("it is a folder")
    except Exception as error:  # every file system has errors of its own
        raise MissingClipError(location, f"it cannot be read ({error})", "check the URL and its credentials") from error


def _allow_time(files: Any) -> None:
    """Let a file take longer than the five minutes that aiohttp gives a request; silence ends it."""
    if "http" in files.protocol:
        from aiohttp import ClientTimeout

        timeout = ClientTimeout(total=None, sock_connect=60, sock_read=60)
        files.client_kwargs.setdefault("timeout", timeout)  # read when its first request is made


def _has_room(copies: Copies, num_bytes: int) -> bool:
    with os.scandir(copies.folder) as entries:
        held = sum(entry.stat().st_size for entry in entries if entry.is_file())
    return held + num_bytes <= copies.most_bytes and shutil.disk_usage(copies.folder).free >= _SPARE_BYTES

"""Writing to S3 on the condition of what is there: one request, and nobody can write between a look and the write.

S3 has this since 2024, and so have most stores with its interface; others refuse such requests, or write all the same.
"""

import hashlib
import secrets
from contextlib import suppress
from functools import cache
from typing import Any

# What is larger goes in several requests, of which only the last could be refused.
_MOST_BYTES = 32 << 20
_REFUSED = (404, 409, 412)


def md5(data: bytes) -> str:
    """What S3 has for the ETag of an object that one request wrote, unless a key of one's own encrypts it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@cache
def are_heeded(files: Any, root: str) -> bool:
    """Whether the store below `root`, a path of the s3fs file system `files`, does as it is told: tried once a process,
    with a file of our own."""
    path, data = f"{root}/.caption_assets-{secrets.token_hex(8)}", b"1"
    files.pipe_file(path, data)
    try:
        return not (put(files, path, data, None) or put(files, path, data, md5(b"2")))
    except OSError:  # it does not know such requests
        return False
    finally:
        with suppress(OSError):
            files.rm_file(path)


def put(files: Any, path: str, data: bytes, held: str | None) -> bool:
    """Writes where there is what `held` is the MD5 of (None: nothing); False, and nothing is written, elsewhere."""
    if len(data) > _MOST_BYTES:
        return False
    try:
        files.pipe_file(path, data, **({"IfNoneMatch": "*"} if held is None else {"IfMatch": held}))
        return True
    except OSError as err:
        answer = getattr(err.__cause__, "response", {})
        if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") in _REFUSED:
            return False
        raise

"""Opening a clip: a local file for every path, the container, the stream that counts, and the limits."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction

import av
import av.container
import av.error
import av.video

from caption_assets.media.faults import (
    EmptyFileError,
    LimitError,
    MissingClipError,
    NoVideoStreamError,
    TimeLimitError,
    open_fault,
)
from caption_assets.settings import DecodeLimits

# Playlists and image sequences make the demuxer open other files and URLs; a clip is one file.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,m4v,mpeg,mpegts,mpegvideo,flv,asf,ogg,ivf,h264,hevc,obu"
_OPEN_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_CHUNK = 1 << 20
_MOST_PADDING = 128


class Deadline:
    """Wall time that one pass over a clip may take."""

    def __init__(self, path: str, limits: DecodeLimits) -> None:
        self._path, self._seconds = path, limits.max_decode_seconds
        self._end = time.monotonic() + limits.max_decode_seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock while someone else works."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - before

    def check(self) -> None:
        """Raise TimeLimitError when the time is over."""
        if time.monotonic() > self._end:
            raise TimeLimitError(
                self._path,
                f"it took longer than {self._seconds:g} s to read",
                "raise max_decode_seconds",
            )


@contextlib.contextmanager
def local_file(path: str) -> Iterator[str]:
    """A local path with the bytes of `path` (local, or a URL that fsspec knows), for as long as the context lasts.

    A remote file is copied to a temporary one: the demuxer reads back and forth, and every pass reads it all.

    Raises MissingClipError or EmptyFileError.
    """
    if "://" not in path or path.startswith("file://"):
        local = path.removeprefix("file://")
        try:
            size = os.path.getsize(local)
            with open(local, "rb"):
                pass
        except OSError as error:
            raise MissingClipError(path, error.strerror or str(error), "check the path and its permissions") from error
        if size == 0:
            raise EmptyFileError(path, "the file is empty", "fetch it again or remove it")
        yield local
        return
    import fsspec  # takes long to import, and most clips are local

    with tempfile.TemporaryDirectory(prefix="caption_assets-") as folder:
        local = os.path.join(folder, "clip" + os.path.splitext(path)[1][:8])
        try:
            with fsspec.open(path, "rb") as remote, open(local, "wb") as file:
                shutil.copyfileobj(remote, file, _CHUNK)
        except Exception as error:  # every file system has errors of its own
            raise MissingClipError(path, f"it cannot be read ({error})", "check the URL and its credentials") from error
        if os.path.getsize(local) == 0:
            raise EmptyFileError(path, "the file is empty", "fetch it again or remove it")
        yield local


def hash_file(local: str) -> str:
    """Hash of a file's bytes, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(local, "rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def open_container(path: str, local: str) -> Iterator[av.container.InputContainer]:
    """Open `local` for demuxing; `path` is its name in errors. Raises the ClipError that fits."""
    try:
        container = av.open(local, container_options=_OPEN_OPTIONS, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise open_fault(path, local, error) from error
    with container:
        yield container


def video_stream(path: str, container: av.container.InputContainer, limits: DecodeLimits) -> av.video.VideoStream:
    """The first video stream that is no cover picture. Raises NoVideoStreamError, or LimitError for its size."""
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise NoVideoStreamError(path, f"it has no video stream ({kinds} only)", "remove it from the dataset")
    stream = streams[0]
    context = stream.codec_context
    if context is None:
        raise NoVideoStreamError(path, "no decoder for its video stream is built in", "convert it to H.264")
    if context.width * context.height > limits.max_frame_pixels:
        raise LimitError(
            path,
            f"its frames have {context.width}x{context.height} pixels, the limit is {limits.max_frame_pixels}",
            "raise max_frame_pixels",
        )
    # The decoder refuses larger frames itself, before it allocates them: sizes in the container can lie. It counts the
    # padding of its blocks.
    padded = (context.width + _MOST_PADDING) * (context.height + _MOST_PADDING)
    context.options = {"max_pixels": str(max(limits.max_frame_pixels, padded))}
    return stream


def stream_time_base(stream: av.video.VideoStream) -> Fraction:
    """Seconds a tick of the stream's times; 1/1000 where the container gives none."""
    return stream.time_base or Fraction(1, 1000)

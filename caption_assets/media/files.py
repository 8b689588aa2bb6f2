"""Opening a clip: a local file for every path, the container, the stream that counts, and the limits."""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import BinaryIO

import av
import av.container
import av.error
import av.stream
import av.video

from caption_assets.media.containers import missing_bytes
from caption_assets.media.copies import Copies, local_copy
from caption_assets.media.cropping import Track, container_crop
from caption_assets.media.faults import (
    ChangedError,
    EmptyFileError,
    LimitError,
    MissingClipError,
    NoVideoStreamError,
    TimeLimitError,
    open_fault,
    reason,
)
from caption_assets.names import actual, is_remote, part_of
from caption_assets.records import Crop, file_stamp
from caption_assets.settings import DecodeLimits

# Playlists and image sequences make the demuxer open other files and URLs; a clip is one file.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,m4v,mpeg,mpegts,mpegvideo,flv,asf,ogg,gif,ivf,h264,hevc,obu"
_OPEN_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_CHUNK = 1 << 20
_MOST_PADDING = 128
# Of a copy of our own: where its hash is noted for the tasks to come.
_NOTED = "user.caption_assets.content_hash"


class Deadline:
    """Wall time that one pass over a clip may take."""

    def __init__(self, clip: "ClipFile") -> None:
        self._location, self._seconds = clip.location, clip.limits.max_decode_seconds
        self._end = time.monotonic() + self._seconds

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
                self._location,
                f"it took longer than {self._seconds:g} s to read",
                "raise max_decode_seconds",
            )


@dataclass(frozen=True, slots=True)
class Reading:
    """How clips are read: what they may ask for, and where copies of remote ones are kept. Pickles."""

    limits: DecodeLimits = field(default_factory=DecodeLimits)
    copies: Copies | None = None


class ClipFile:
    """A clip whose bytes are in a local file: see `open_clip`."""

    def __init__(self, location: str, file: BinaryIO, limits: DecodeLimits, path: str = "") -> None:
        """`location` is the clip's name in errors. `path` is its file's where others may replace that, empty for a
        copy of our own."""
        self.location, self.limits = location, limits
        self._file, self._path = file, path
        found = os.fstat(file.fileno())
        self._state = _state(found)
        self.stamp = file_stamp(found) if path else None
        """None for a copy of our own."""

    @cached_property
    def num_bytes(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    @cached_property
    def content_hash(self) -> str:
        """Hash of the file's bytes, 32 hexadecimal digits."""
        return self._hash() if self._path else self._noted_hash()

    def trust(self, content_hash: str) -> None:
        """Take it for the hash of the file's bytes: that is what it was when the file had the stamp that it has."""
        self.content_hash = content_hash

    @cached_property
    def missing_bytes(self) -> int:
        """How many bytes the file lacks of what its container says; 0 where it lacks none or does not say."""
        return missing_bytes(self._file, self.num_bytes)

    def crop(self, width: int, height: int, track: Track) -> Crop:
        """What the container crops of stored frames of this size."""
        return container_crop(self._file, width, height, track)

    def check(self) -> None:
        """Raise ChangedError where the file has been replaced or written to since it was opened.

        Whoever hands out what was read calls this between reading and handing out: with that, all of it is of the
        bytes that `content_hash` is of.
        """
        try:
            now = _state(os.stat(self._path) if self._path else os.fstat(self._file.fileno()))
        except OSError:
            now = ()
        if now == self._state:
            return
        # A new name or other permissions move the time of the last change, too.
        if now[:3] == self._state[:3] and "content_hash" in self.__dict__ and self._hash() == self.content_hash:
            self._state = now
            return
        raise ChangedError(self.location, "its file was changed or removed while it was read", "plan it again")

    def _noted_hash(self) -> str:
        """The hash of a copy of our own, worked out by whoever is the first to ask. Not every disk takes notes."""
        handle = self._file.fileno()
        with contextlib.suppress(OSError, AttributeError):
            return os.getxattr(handle, _NOTED).decode()
        found = self._hash()
        with contextlib.suppress(OSError, AttributeError):
            os.setxattr(handle, _NOTED, found.encode())
            self._state = _state(os.fstat(handle))
        return found

    def _hash(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            digest.update(chunk)
        return digest.hexdigest()

    @property
    def local(self) -> str:
        """A path of the very file that is open: its name may be another file's by now."""
        local = f"/proc/self/fd/{self._file.fileno()}"
        return local if os.path.exists(local) else str(self._file.name)

    @contextlib.contextmanager
    def container(self) -> Iterator[av.container.InputContainer]:
        """Open the file for demuxing. Raises the ClipError that fits.

        Each pass opens it anew, in under a millisecond. A decoder that has run cannot be given other threads, and a
        container that is sought to its start need not give the same packets again: MPEG-4 in Matroska does not.
        """
        try:
            container = av.open(self.local, container_options=_OPEN_OPTIONS, metadata_errors="replace")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise open_fault(self.location, self.local, error) from error
        with container:
            yield container


@contextlib.contextmanager
def open_clip(location: str, reading: Reading | None = None, anew: bool = False) -> Iterator[ClipFile]:
    """The clip at `location` (local, a URL that fsspec knows, or a part of either) as a local file, for as long as the
    context lasts.

    `location` is as `names.written` has it. A remote file is copied: the demuxer reads back and forth, and every pass
    reads it all. Of a part, nothing else of its file is. With `anew`, a copy that is kept from before is replaced.

    Raises MissingClipError or EmptyFileError.
    """
    reading = reading or Reading()
    with contextlib.ExitStack() as stack:
        path = location.removeprefix("file://")
        is_local = not is_remote(path) and part_of(path) is None
        local = actual(path) if is_local else stack.enter_context(local_copy(path, reading.copies, anew))
        try:
            file = stack.enter_context(open(local, "rb", buffering=0, opener=_at_once))
        except OSError as error:
            raise MissingClipError(location, reason(error), "check the path and its permissions") from error
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise MissingClipError(location, "it is a pipe or a device, not a file", "remove it from the dataset")
        clip = ClipFile(location, file, reading.limits, local if is_local else "")
        if clip.num_bytes == 0:
            raise EmptyFileError(location, "the file is empty", "fetch it again or remove it")
        yield clip


def _state(found: os.stat_result) -> tuple[int, ...]:
    """Which file it is, and when it was last changed."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _at_once(path: str, flags: int) -> int:
    """Open without waiting: a named pipe has whoever opens it wait for somebody who writes to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def location_of(clip: ClipFile | str) -> str:
    return clip.location if isinstance(clip, ClipFile) else clip


@contextlib.contextmanager
def opened(clip: ClipFile | str, limits: DecodeLimits | None = None) -> Iterator[ClipFile]:
    """`clip` itself where it is open, else the clip at that location, opened with `limits`."""
    if isinstance(clip, ClipFile):
        yield clip
    else:
        with open_clip(clip, Reading(limits or DecodeLimits())) as file:
            yield file


def video_stream(clip: ClipFile, container: av.container.InputContainer) -> av.video.VideoStream:
    """The first video stream that is no cover picture; from now on, the container's only one.

    Raises NoVideoStreamError, or LimitError for its size.
    """
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        covers = ["cover picture"] if container.streams.video else []
        kinds = ", ".join([*sorted({s.type for s in container.streams if s.type != "video"}), *covers]) or "nothing"
        raise NoVideoStreamError(clip.location, f"it has no video stream ({kinds} only)", "remove it from the dataset")
    stream = streams[0]
    for other in container.streams:
        if other is not stream:  # what is wrong with the sound is no concern of ours
            other.discard = av.stream.Discard.all
    context = stream.codec_context
    if context is None:
        raise NoVideoStreamError(clip.location, "no decoder for its video stream is built in", "convert it to H.264")
    if context.width * context.height > clip.limits.max_frame_pixels:
        raise LimitError(
            clip.location,
            f"its frames have {context.width}x{context.height} pixels, the limit is {clip.limits.max_frame_pixels}",
            "raise max_frame_pixels",
        )
    # The decoder refuses larger frames itself, before it allocates them: sizes in the container can lie. It counts the
    # padding of its blocks.
    padded = (context.width + _MOST_PADDING) * (context.height + _MOST_PADDING)
    context.options = {"max_pixels": str(max(clip.limits.max_frame_pixels, padded))}
    return stream


def stream_crop(clip: ClipFile, stream: av.video.VideoStream) -> Crop:
    """What the container crops of the stream's frames."""
    place = [s.index for s in stream.container.streams.video].index(stream.index)
    context = stream.codec_context
    return clip.crop(context.width, context.height, Track(stream.id, place))


def stream_time_base(stream: av.video.VideoStream) -> Fraction:
    """Seconds a tick of the stream's times; 1/1000 where the container gives none."""
    return stream.time_base or Fraction(1, 1000)

"""The ways in which a clip cannot be used, one class each, so that failures can be counted by `kind`."""

import errno
import os

from caption_assets.errors import ClipError
from caption_assets.media.containers import looks_like_video, other_format


class MissingClipError(ClipError):
    """The file is not there or cannot be read."""

    kind = "missing"


class EmptyFileError(ClipError):
    """The file has no bytes."""

    kind = "empty_file"


class NotVideoError(ClipError):
    """The file is not in a video container that is read here."""

    kind = "not_video"


class NoVideoStreamError(ClipError):
    """The container holds no video; a cover picture is none."""

    kind = "no_video_stream"


class TruncatedError(ClipError):
    """The file is cut off before what is needed to read it."""

    kind = "truncated"


class EncryptedError(ClipError):
    """The pictures are encrypted."""

    kind = "encrypted"


class ChangedError(ClipError):
    """The file is another one than was planned, or than was opened."""

    kind = "changed"


class DecodeError(ClipError):
    """The stream is damaged; says at which frame."""

    kind = "decode"


class LimitError(ClipError):
    """The clip is larger than the limits allow."""

    kind = "limit"


class TimeLimitError(ClipError):
    """Work on the clip took longer than allowed."""

    kind = "timeout"


class WorkerDiedError(ClipError):
    """The worker process that had the clip ended without an answer."""

    kind = "worker_died"


class UnexpectedError(ClipError):
    """An exception that nobody foresaw, on one clip."""

    kind = "unexpected"


def reason(error: BaseException) -> str:
    """What the system or the decoder says about an error, without its number and the path."""
    return getattr(error, "strerror", None) or str(error)


def open_fault(location: str, local: str, error: Exception) -> ClipError:
    """The clip error for a container that could not be opened: the clip at `location`, with its bytes in `local`."""
    why = reason(error)
    if isinstance(error, PermissionError | FileNotFoundError | IsADirectoryError):
        return MissingClipError(location, why, "check the path and its permissions")
    if looks_like_video(local):
        return TruncatedError(
            location,
            f"it starts like a video of {os.path.getsize(local)} bytes but cannot be opened ({why})",
            "it is probably cut off or damaged; fetch it again",
        )
    if found := other_format(local):
        return NotVideoError(location, f"it is {found}, not a video", "remove it from the dataset")
    if getattr(error, "errno", None) == errno.EINVAL:  # so the demuxer answers to a format that is not allowed
        why = "its container is none of those that are read: mp4, mov, Matroska, WebM, AVI, MPEG, FLV, ASF, Ogg"
    return NotVideoError(location, f"it is not a video file that can be read ({why})", "remove it or convert it to mp4")

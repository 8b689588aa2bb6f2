"""Frames of a clip by number, in one pass over the file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame

from caption_assets.errors import ClipError
from caption_assets.media.faults import DecodeError, LimitError
from caption_assets.media.files import ClipFile, Deadline, location_of, opened
from caption_assets.media.pixels import Cropper, RgbConverter
from caption_assets.media.probe import probe
from caption_assets.media.reader import FastReader, OddStreamError, PlainReader
from caption_assets.records import FramePicks, SampledFrames, VideoInfo
from caption_assets.settings import DecodeLimits

__all__ = ["DecodeLimits", "FrameRequest", "decode_frames", "probe", "read_requests", "read_windows"]


def decode_frames(
    clip: ClipFile | str,
    info: VideoInfo,
    frame_ids: Sequence[int],
    *,
    threads: int = 0,
    limits: DecodeLimits | None = None,
) -> Iterator[tuple[int, VideoFrame | DecodeError]]:
    """Decode the frames of `clip` with these numbers (ascending, distinct), in order, and as few others as can be.

    A frame that does not come out of the decoder has a DecodeError in its place; those after it are frames again,
    where the decoder finds its way. `clip` is an opened clip, or a location; `limits` are for a location, an opened
    clip has its own. `info` is what `probe` said about it. `threads` is the decoder's, 0 for one a core; time that the
    consumer takes is not counted against the limit.

    Raises ChangedError where the file is changed meanwhile, before any frame of the new one, or another ClipError.
    """
    needed = list(frame_ids)
    if not needed:
        return
    if needed[0] < 0 or needed[-1] >= info.num_frames:
        wrong = f"frame {needed[-1]} was asked for, it has {info.num_frames}"
        raise DecodeError(location_of(clip), wrong, "plan its windows again")
    with opened(clip, limits) as file:
        try:
            yield from _decoded(file, info, needed, threads)
        except ClipError:
            file.check()
            raise


def _decoded(
    file: ClipFile, info: VideoInfo, needed: Sequence[int], threads: int
) -> Iterator[tuple[int, VideoFrame | DecodeError]]:
    deadline, done = Deadline(file), 0
    cropper = Cropper(info)
    keys = info.keyframe_ids
    while done < len(needed):
        with file.container() as container:
            reader: PlainReader | FastReader
            if keys is None:
                reader = PlainReader(file, container, info, deadline)
            else:
                reader = FastReader(file, container, info, keys, deadline, threads)
            try:
                for frame_id, frame in reader.frames(needed[done:]):
                    file.check()
                    done += 1
                    with deadline.paused():
                        yield frame_id, frame if isinstance(frame, DecodeError) else cropper.apply(frame)
            except OddStreamError:
                keys = None


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Picks of one window, and the (width, height) at which their frames are wanted; None is the display size."""

    picks: FramePicks
    size: tuple[int, int] | None = None


class _Collector:
    """Gathers the frames of several requests; a frame that several want in one size is converted once."""

    def __init__(self, clip: ClipFile, info: VideoInfo, requests: Sequence[FrameRequest]) -> None:
        self._clip = clip
        self._picks = [request.picks for request in requests]
        self._sizes = [request.size or (info.display_width, info.display_height) for request in requests]
        self._converters = {size: RgbConverter(size) for size in self._sizes}
        self._slots: dict[int, list[tuple[int, int]]] = {}
        for number, picks in enumerate(self._picks):
            for slot, frame_id in enumerate(picks.frame_ids):
                self._slots.setdefault(frame_id, []).append((number, slot))
        self._buffers: dict[int, np.ndarray] = {}
        self._lost: dict[int, DecodeError] = {}
        self._left = [len(picks.frame_ids) for picks in self._picks]

    @property
    def frame_ids(self) -> list[int]:
        """All frames that are wanted, ascending."""
        return sorted(self._slots)

    def add(self, frame_id: int, frame: VideoFrame | DecodeError) -> None:
        """Put `frame` wherever it is wanted; requests for one that is lost are, too."""
        if isinstance(frame, DecodeError):
            for number, _ in self._slots[frame_id]:
                self._lost.setdefault(number, frame)
                self._left[number] -= 1
            return
        converted: dict[tuple[int, int], np.ndarray] = {}
        for number, slot in self._slots[frame_id]:
            self._left[number] -= 1
            if number in self._lost:
                continue
            size = self._sizes[number]
            target = self._buffer(number)[slot]
            if size in converted:
                target[:] = converted[size]
            else:
                self._converters[size].into(frame, target)
                converted[size] = target

    def _buffer(self, number: int) -> np.ndarray:
        if number not in self._buffers:
            (width, height), count = self._sizes[number], len(self._picks[number].frame_ids)
            if width < 1 or height < 1:
                raise LimitError(self._clip.location, f"frames of {width}x{height} pixels were asked for")
            if count * width * height * 3 > (most := self._clip.limits.max_window_bytes):
                raise LimitError(
                    self._clip.location,
                    f"a window of {count} frames of {width}x{height} pixels is larger than {most} bytes",
                    "ask for smaller or fewer frames, or raise max_window_bytes",
                )
            self._buffers[number] = np.empty((count, height, width, 3), np.uint8)
        return self._buffers[number]

    def has(self, number: int) -> bool:
        return self._left[number] == 0

    def take(self, number: int) -> SampledFrames | DecodeError:
        if number in self._lost:
            self._buffers.pop(number, None)
            return self._lost.pop(number)
        width, height = self._sizes[number]
        empty = np.empty((0, height, width, 3), np.uint8)
        return SampledFrames(self._buffers.pop(number, empty), self._picks[number])


def read_requests(
    clip: ClipFile | str,
    info: VideoInfo,
    requests: Sequence[FrameRequest],
    *,
    threads: int = 0,
    limits: DecodeLimits | None = None,
) -> Iterator[SampledFrames | DecodeError]:
    """Decode what all requests want in one pass, and yield each one's frames as soon as they are complete, in order.

    Frames are uint8 RGB of shape (T, H, W, 3), contiguous, upright, with square pixels. They are resized once:
    averaged over areas when shrinking, bicubic when enlarging. Requests go from the start of the clip to its end, or
    they wait for each other in memory. `clip`, `threads` and `limits` are as for `decode_frames`.

    A request for a frame that cannot be decoded has the error in place of its frames. Raises a ClipError where the
    clip cannot be read any further, after the requests before that have been answered.
    """
    with opened(clip, limits) as file:
        collector = _Collector(file, info, requests)
        frames = decode_frames(file, info, collector.frame_ids, threads=threads)
        for number in range(len(requests)):
            while not collector.has(number):
                collector.add(*next(frames))
            yield collector.take(number)


def read_windows(
    clip: ClipFile | str,
    info: VideoInfo,
    picks: Sequence[FramePicks],
    *,
    size: tuple[int, int] | None = None,
    threads: int = 0,
    limits: DecodeLimits | None = None,
) -> Iterator[SampledFrames | DecodeError]:
    """The picks of several windows in one size, the clip's display size by default: see `read_requests`."""
    yield from read_requests(clip, info, [FrameRequest(p, size) for p in picks], threads=threads, limits=limits)

"""Frames of a clip by number, in one pass over the file."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av.container
import av.error
import av.video
import numpy as np
from av.video.frame import PictureType, VideoFrame

from caption_assets.media.cores import decoder_threads, usable_cores
from caption_assets.media.faults import DecodeError, LimitError, reason
from caption_assets.media.files import ClipFile, Deadline, location_of, opened, stream_time_base, video_stream
from caption_assets.media.pixels import RgbConverter
from caption_assets.media.probe import probe
from caption_assets.records import FramePicks, SampledFrames, VideoInfo
from caption_assets.settings import DecodeLimits

__all__ = ["DecodeLimits", "FrameRequest", "decode_frames", "probe", "read_requests", "read_windows"]

_ERRORS = (av.error.FFmpegError, OSError, ValueError)
# A jump over fewer frames is read through: seeking costs about as much as demuxing these.
_SEEK_FRAMES = 300
# Fewer frames that nobody needs are decoded on the way to the next key frame.
_RESTART_FRAMES = 2
# Decoders that heed, packet by packet, the wish to skip a frame that no other refers to.
_SKIP_UNREFERENCED = ("h264", "hevc", "mpeg4")


class _FalseKeyframeError(Exception):
    """A frame that the container calls a key frame is none."""


class _DamageError(Exception):
    """A packet that cannot be decoded, in a decoder with several threads, which loses its neighbours too."""


def decode_frames(
    clip: ClipFile | str,
    info: VideoInfo,
    frame_ids: Sequence[int],
    *,
    threads: int = 0,
    limits: DecodeLimits | None = None,
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode the frames of `clip` with these numbers (ascending, distinct), in order, and as few others as can be.

    `clip` is an opened clip, or a location; `limits` are for a location, an opened clip has its own. `info` is what
    `probe` said about it. `threads` is the decoder's, 0 for one a core. Key frames are sought where nothing is wanted
    for long; time that the consumer takes is not counted against the limit.

    Raises DecodeError at the first frame that is unavailable (those before it have been yielded), or another
    ClipError.
    """
    needed = list(frame_ids)
    if not needed:
        return
    if needed[0] < 0 or needed[-1] >= info.num_frames:
        wrong = f"frame {needed[-1]} was asked for, it has {info.num_frames}"
        raise DecodeError(location_of(clip), wrong, "probe it again")
    with opened(clip, limits) as file:
        deadline, jumps, done = Deadline(file), True, 0
        while done < len(needed):
            with file.container() as container:
                reader = _Reader(file, container, info, threads, deadline, jumps)
                try:
                    for item in reader.frames(needed[done:]):
                        done += 1
                        with deadline.paused():
                            yield item
                except _FalseKeyframeError:
                    jumps = False
                except _DamageError:
                    threads = 1


class _Reader:
    """One opened file and its decoder."""

    def __init__(
        self,
        clip: ClipFile,
        container: av.container.InputContainer,
        info: VideoInfo,
        threads: int,
        deadline: Deadline,
        jumps: bool,
    ) -> None:
        self._location, self._container, self._info, self._deadline = clip.location, container, info, deadline
        self._stream = video_stream(clip, container)
        self._context = self._stream.codec_context
        self._context.thread_type = "AUTO"
        self._context.thread_count = decoder_threads(threads)
        self._threads = threads
        self._time_base = stream_time_base(self._stream)
        ticks = np.rint(info.pts_s / float(self._time_base)).astype(np.int64).tolist()
        self._ids = {tick: k for k, tick in enumerate(ticks)}
        self._ticks = ticks
        # Frames that only their order identifies must all come out of the decoder.
        self._may_skip = not info.frames_in_order and info.codec in _SKIP_UNREFERENCED
        self._intra_only = self._context.codec.intra_only and not info.frames_in_order
        keys = None if info.frames_in_order else info.keyframe_ids
        self._packets_are_frames = keys is not None
        self._keys = np.array([0]) if not jumps or keys is None or not len(keys) else keys
        # A decoder with several threads stands still for as many frames when it starts anew.
        cores = threads or usable_cores()
        self._restart_frames = _SEEK_FRAMES if self._intra_only else _RESTART_FRAMES if cores == 1 else 16 * cores
        self._start = 0  # the key frame at which decoding began
        self._dropping = False  # packets before it
        self._fresh = False  # it has not come out yet
        self._fault = ""
        self._seen = -1

    def _key_of(self, frame_id: int) -> int:
        """The frame at which to start decoding so that `frame_id` comes out."""
        at = int(np.searchsorted(self._keys, frame_id, side="right")) - 1
        return int(self._keys[at]) if at >= 0 else 0

    def _runs(self, needed: Sequence[int]) -> Iterator[Sequence[int]]:
        """The `needed` frames, split where starting anew at a later key frame pays."""
        first = 0
        for k, (before, after) in enumerate(itertools.pairwise(needed), start=1):
            if self._key_of(after) - before > self._restart_frames:
                yield needed[first:k]
                first = k
        yield needed[first:]

    def frames(self, needed: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """The `needed` frames, as `decode_frames` yields them, from one reading of the file."""
        position = 0  # in needed: the next frame to hand out
        for frame_id, frame in self._decoded(needed):
            if frame_id < needed[position]:
                continue
            if frame_id > needed[position]:
                break
            yield frame_id, frame
            position += 1
            if position == len(needed):
                return
        raise self._broken(needed[position])

    def _decoded(self, needed: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their numbers, ascending: the `needed` ones, and others on the way."""
        wanted, runs = set(needed), deque(self._runs(needed))
        unfed = set(runs.popleft())
        packets = self._packets_from(self._key_of(needed[0]), 0)
        while (packet := next(packets, None)) is not None:
            number = self._ids.get(packet.pts) if packet.pts is not None else None
            if packet.size and not self._is_due(packet, number, wanted):
                continue
            if runs and packet.is_keyframe and number == self._key_of(runs[0][0]):
                unfed.update(runs.popleft())  # needed frames that lead this key frame follow it: no new start
            if self._may_skip:
                self._context.skip_frame = "DEFAULT" if number is None or number in wanted else "NONREF"
            yield from self._decode(packet)
            unfed.discard(-1 if number is None else number)
            if unfed or not self._packets_are_frames:
                continue
            # The decoder has all that the needed frames of this run refer to: what follows of its group is left out.
            yield from self._decode(None)
            if self._fresh or not runs:
                break
            last, run = number or 0, runs.popleft()
            unfed = set(run)
            self._context.flush_buffers()
            packets = self._packets_from(self._key_of(run[0]), last, packets)
        if self._fresh:
            raise _FalseKeyframeError

    def _is_due(self, packet: av.Packet, number: int | None, wanted: set[int]) -> bool:
        """Whether the decoder is to have this packet, which holds the frame `number`, if that is known."""
        if self._dropping:
            if number is None or number < self._start or not packet.is_keyframe:
                return False
            if number > self._start:
                raise _FalseKeyframeError
            self._dropping = False
        if number is None:
            return not packet.is_corrupt  # else: the end of a file that was cut off
        if number < self._start:
            return False  # leads the key frame, but refers to frames that were dropped
        return not self._intra_only or number in wanted

    def _packets(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        while True:
            self._deadline.check()
            try:
                packet = next(packets, None)
            except _ERRORS as error:
                self._fault = reason(error)
                return
            if packet is None:
                return
            yield packet

    def _packets_from(self, key: int, position: int, packets: Iterator[av.Packet] | None = None) -> Iterator[av.Packet]:
        """Go on with the key frame `key`: packets from there on, or from before it. `packets` are at `position`."""
        self._start = key
        self._dropping = self._fresh = key > 0
        if key - position > _SEEK_FRAMES:
            try:
                self._container.seek(self._ticks[key], stream=self._stream, backward=True)
            except _ERRORS as error:
                raise _FalseKeyframeError from error
            packets = None
        return packets or self._packets()

    def _decode(self, packet: av.Packet | None) -> Iterator[tuple[int, VideoFrame]]:
        """What comes out of the decoder for this packet, with frame numbers; None: what it still holds."""
        try:
            frames = self._context.decode(packet if packet is not None and packet.size else None)
        except _ERRORS as error:
            if self._threads != 1:
                raise _DamageError from error
            self._fault = reason(error)
            return
        for frame in frames:
            frame_id = self._frame_id(frame)
            if frame_id is None:
                continue
            if self._fresh and frame_id >= self._start:
                if frame_id > self._start or frame.pict_type != PictureType.I:
                    raise _FalseKeyframeError
                self._fresh = False
            yield frame_id, frame

    def _frame_id(self, frame: VideoFrame) -> int | None:
        if self._info.frames_in_order:
            self._seen += 1
            return self._seen
        return self._ids.get(frame.pts) if frame.pts is not None else None

    def _broken(self, frame_id: int) -> DecodeError:
        at = self._info.pts_s[frame_id] - self._info.pts_s[0]
        return DecodeError(
            self._location,
            f"frame {frame_id} of {self._info.num_frames} (at {at:.2f} s) cannot be decoded"
            + (f" ({self._fault})" if self._fault else ""),
            "the file is damaged there",
        )


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
        self._left = [len(picks.frame_ids) for picks in self._picks]

    @property
    def frame_ids(self) -> list[int]:
        """All frames that are wanted, ascending."""
        return sorted(self._slots)

    def add(self, frame_id: int, frame: VideoFrame) -> None:
        """Put `frame` wherever it is wanted."""
        converted: dict[tuple[int, int], np.ndarray] = {}
        for number, slot in self._slots[frame_id]:
            size = self._sizes[number]
            target = self._buffer(number)[slot]
            if size in converted:
                target[:] = converted[size]
            else:
                self._converters[size].into(frame, target)
                converted[size] = target
            self._left[number] -= 1

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

    def take(self, number: int) -> SampledFrames:
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
) -> Iterator[SampledFrames]:
    """Decode what all requests want in one pass, and yield each one's frames as soon as they are complete, in order.

    Frames are uint8 RGB of shape (T, H, W, 3), contiguous, upright, with square pixels. They are resized once:
    averaged over areas when shrinking, bicubic when enlarging. Requests go from the start of the clip to its end, or
    they wait for each other in memory. `clip`, `threads` and `limits` are as for `decode_frames`.

    Raises DecodeError where the file breaks, after the requests before that have been answered.
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
) -> Iterator[SampledFrames]:
    """The picks of several windows in one size, the clip's display size by default: see `read_requests`."""
    yield from read_requests(clip, info, [FrameRequest(p, size) for p in picks], threads=threads, limits=limits)

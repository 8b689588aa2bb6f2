"""Two ways to get frames out of a clip by number: a plain one, and one that decodes little and is fast."""

import heapq
import itertools
from collections import deque
from collections.abc import Iterator, Sequence

import av.container
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame

from caption_assets.media.cores import decoder_threads, usable_cores
from caption_assets.media.faults import DecodeError
from caption_assets.media.files import ClipFile, Deadline, stream_time_base, video_stream
from caption_assets.media.packets import ERRORS, Packets, Shown
from caption_assets.media.times import MOST_REORDERED
from caption_assets.records import VideoInfo

# A jump over fewer frames is read through: seeking costs about as much as demuxing these.
_SEEK_FRAMES = 300
# Fewer frames that nobody needs are decoded on the way to the next key frame.
_RESTART_FRAMES = 2
# Decoders that heed, packet by packet, the wish to skip a frame that no other refers to.
_SKIP_UNREFERENCED = ("h264", "hevc", "mpeg4")


class OddStreamError(Exception):
    """Something that is not as the container says: a frame that does not come out, or a key frame that is none."""


def frame_ticks(info: VideoInfo, time_base: float) -> list[int]:
    """When each frame is shown, in ticks of a time base in seconds."""
    ticks: list[int] = np.rint(info.pts_s / time_base).astype(np.int64).tolist()
    return ticks


class PlainReader:
    """Decodes everything from the start with one thread; frames that do not come out are lost."""

    def __init__(
        self, clip: ClipFile, container: av.container.InputContainer, info: VideoInfo, deadline: Deadline
    ) -> None:
        stream = video_stream(clip, container)
        self._location, self._info = clip.location, info
        self._shown = Shown(clip, container, stream, deadline)
        self._time_base = float(stream_time_base(stream))

    def frames(self, needed: Sequence[int]) -> Iterator[tuple[int, VideoFrame | DecodeError]]:
        """The `needed` frames (ascending), each with its number, or why it is lost."""
        left = deque(needed)
        for frame_id, frame in self._numbered():
            while left and left[0] < frame_id:
                yield self._lost(left.popleft())
            if left and left[0] == frame_id:
                yield left.popleft(), frame
            if not left:
                return
        for frame_id in left:
            yield self._lost(frame_id)

    def _numbered(self) -> Iterator[tuple[int, VideoFrame]]:
        """All frames with their numbers: their places, or those of their times."""
        if self._info.keyframe_ids is None:
            yield from enumerate(self._shown)
            return
        ids = {tick: k for k, tick in enumerate(frame_ticks(self._info, self._time_base))}
        # Where times are damaged, frames do not come out in their order.
        held: list[tuple[int, int, VideoFrame]] = []
        for place, frame in enumerate(self._shown):
            frame_id = ids.get(frame.pts) if frame.pts is not None else None
            if frame_id is not None:
                heapq.heappush(held, (frame_id, place, frame))
            if len(held) > MOST_REORDERED:
                frame_id, _, frame = heapq.heappop(held)
                yield frame_id, frame
        for frame_id, _, frame in sorted(held):
            yield frame_id, frame

    def _lost(self, frame_id: int) -> tuple[int, DecodeError]:
        at, fault = self._info.pts_s[frame_id] - self._info.pts_s[0], self._shown.fault
        wrong = f"frame {frame_id} of {self._info.num_frames} (at {at:.2f} s) cannot be decoded"
        return frame_id, DecodeError(
            self._location, wrong + (f" ({fault})" if fault else ""), "the file is damaged there"
        )


class FastReader:
    """Decodes the frames that are needed and as few others as can be, with as many threads as are wanted.

    For clips whose packets tell their frames. Key frames are sought where nothing is needed for long. Raises
    OddStreamError where anything is not as it should be; what came out until then is right.
    """

    def __init__(
        self,
        clip: ClipFile,
        container: av.container.InputContainer,
        info: VideoInfo,
        keys: np.ndarray,
        deadline: Deadline,
        threads: int,
    ) -> None:
        """`keys` are the frames at which decoding can start, `threads` is as for `decode_frames`."""
        self._clip, self._container, self._deadline = clip, container, deadline
        self._stream = video_stream(clip, container)
        self._context = self._stream.codec_context
        self._context.thread_type = "AUTO"
        self._context.thread_count = decoder_threads(threads)
        self._ticks = frame_ticks(info, float(stream_time_base(self._stream)))
        self._ids = {tick: k for k, tick in enumerate(self._ticks)}
        self._keys = keys
        self._may_skip = info.codec in _SKIP_UNREFERENCED
        self._intra_only = self._context.codec.intra_only
        # A decoder with several threads stands still for as many frames when it starts anew.
        cores = threads or usable_cores()
        self._restart_frames = _SEEK_FRAMES if self._intra_only else _RESTART_FRAMES if cores == 1 else 16 * cores
        self._start = 0  # the key frame at which decoding began
        self._dropping = False  # packets before it
        self._fresh = False  # it has not come out yet

    def frames(self, needed: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """The `needed` frames (ascending), each with its number."""
        left = deque(needed)
        for frame_id, frame in self._decoded(needed):
            if frame_id < left[0]:
                continue
            if frame_id > left[0]:
                break
            yield left.popleft(), frame
            if not left:
                return
        raise OddStreamError

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

    def _decoded(self, needed: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Frames with their numbers, ascending: the `needed` ones, and others on the way."""
        wanted, runs = set(needed), deque(self._runs(needed))
        unfed = set(runs.popleft())
        packets = self._packets_from(self._key_of(needed[0]), 0)
        while (packet := next(packets, None)) is not None:
            number = self._ids.get(packet.pts) if packet.pts is not None else None
            if not self._is_due(packet, number, wanted):
                continue
            if runs and packet.is_keyframe and number == self._key_of(runs[0][0]):
                unfed.update(runs.popleft())  # needed frames that lead this key frame follow it: no new start
            if self._may_skip:
                self._context.skip_frame = "DEFAULT" if number is None or number in wanted else "NONREF"
            yield from self._decode(packet)
            unfed.discard(-1 if number is None else number)
            if unfed:
                continue
            # The decoder has all that the needed frames of this run refer to: what follows of its group is left out.
            yield from self._decode(None)
            if self._fresh or not runs:
                break
            last, run = number or 0, runs.popleft()
            unfed = set(run)
            self._context.flush_buffers()
            packets = self._packets_from(self._key_of(run[0]), last, packets)
        else:
            yield from self._decode(None)
        if self._fresh:
            raise OddStreamError

    def _is_due(self, packet: Packet, number: int | None, wanted: set[int]) -> bool:
        """Whether the decoder is to have this packet, which holds the frame `number`, if that is known."""
        if self._dropping:
            if number is None or number < self._start or not packet.is_keyframe:
                return False
            if number > self._start:
                raise OddStreamError
            self._dropping = False
        if number is None:
            return True
        if number < self._start:
            return False  # leads the key frame, but refers to frames that were dropped
        return not self._intra_only or number in wanted

    def _packets_from(self, key: int, position: int, packets: Iterator[Packet] | None = None) -> Iterator[Packet]:
        """Go on with the key frame `key`: packets from there on, or from before it. `packets` are at `position`."""
        self._start = key
        self._dropping = self._fresh = key > 0
        if key - position > _SEEK_FRAMES:
            try:
                self._container.seek(self._ticks[key], stream=self._stream, backward=True)
            except ERRORS as error:
                raise OddStreamError from error
            packets = None
        return packets or Packets(self._clip, self._container, self._stream, self._deadline)

    def _decode(self, packet: Packet | None) -> Iterator[tuple[int, VideoFrame]]:
        """What comes out of the decoder for this packet, with frame numbers; None: what it still holds."""
        try:
            frames = self._context.decode(packet)
        except ERRORS as error:
            raise OddStreamError from error
        for frame in frames:
            frame_id = self._ids.get(frame.pts) if frame.pts is not None else None
            if frame_id is None:
                continue
            if self._fresh and frame_id >= self._start:
                if frame_id > self._start or frame.pict_type != PictureType.I:
                    raise OddStreamError
                self._fresh = False
            yield frame_id, frame

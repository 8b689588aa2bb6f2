"""What a clip is: exact frame times, shape and identity, found out without decoding more than its first frame."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av.container
import av.error
import av.video
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from caption_assets.media.counting import times_by_decoding
from caption_assets.media.faults import DecodeError, LimitError, NoVideoStreamError, TruncatedError, reason
from caption_assets.media.files import ClipFile, Deadline, opened, stream_time_base, video_stream
from caption_assets.media.pixels import Orientation, frame_orientation
from caption_assets.media.sampling import is_constant_rate
from caption_assets.records import VideoInfo
from caption_assets.settings import DecodeLimits

# Packets of these can hold a frame that is never shown.
_HIDES_FRAMES = {"vp8"}
# MPEG-4 part 2 in AVI puts two frames into one packet and an empty one, of some bytes, into the next.
_EMPTY_VOP_BYTES = 8


@dataclass(slots=True)
class _Scan:
    """What one pass over a stream's packets finds, in decode order."""

    pts: list[int | None] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    last_duration: int = 0
    last_pts: int = -(1 << 62)
    leading_discards: int = 0
    first_frame: VideoFrame | None = None
    not_frames: bool = False
    has_times: bool = True
    problem: str = ""
    fault: str = ""


def probe(clip: ClipFile | str, limits: DecodeLimits | None = None) -> VideoInfo:
    """Find out what the first video stream of `clip` (opened, or a local path or a URL that fsspec knows) holds.

    Frame times are those of its packets, as edit lists leave them; only where packets do not tell (no times, frames
    that are never shown, leading frames that cannot be decoded) is the stream decoded. A file that breaks off has
    the frames up to there, and `problem` says so. `limits` are for a location; an opened clip has its own.

    Raises a ClipError (see `faults`), whose `kind` says what is wrong with the file.
    """
    with opened(clip, limits) as file:
        return _probe(file)


def _probe(clip: ClipFile) -> VideoInfo:
    deadline = Deadline(clip)
    digest, num_bytes, lacking = clip.content_hash, clip.num_bytes, clip.missing_bytes
    with clip.container() as container:
        try:
            stream = video_stream(clip, container)
        except NoVideoStreamError as error:
            if lacking:
                wrong = f"{lacking} bytes are missing at its end"
                raise TruncatedError(clip.location, wrong, "fetch it again") from error
            raise
        scan = _scan_packets(clip, container, stream, deadline)
        declared = _declared_rates(stream)
        shape = _shape(clip.location, stream, scan)
        audio = next(iter(container.streams.audio), None)
        audio_codec = audio.codec_context.codec.canonical_name if audio and audio.codec_context else None
        time_base = stream_time_base(stream)
        # Other containers count what they please here: AVI counts frames that were dropped.
        expected = len(stream.index_entries) if container.format.name.startswith("mov") else 0
    ticks, keys = _times_from_packets(scan)
    in_order = not scan.has_times
    if ticks is None or lacking:
        ticks, in_order = times_by_decoding(clip, deadline, declared, lacking > 0)
        keys = None
    problem = scan.problem
    if not problem and keys is not None and expected - scan.leading_discards > len(ticks):
        problem = f"the container lists {expected} frames, {len(ticks)} are there"
    pts_s = np.array([t * time_base.numerator / time_base.denominator for t in ticks])
    if lacking:
        problem = (
            f"the file is cut off, {lacking} of {num_bytes + lacking} bytes are missing: "
            f"its last frame is {len(ticks) - 1}, at {pts_s[-1] - pts_s[0]:.2f} s"
        )
    last_s = _last_duration(scan, ticks, time_base, declared)
    rate, duration_s = _true_rate(pts_s, ticks, time_base, last_s, declared)
    if duration_s > clip.limits.max_clip_seconds:
        wrong = f"it lasts {duration_s:.0f} s, the limit is {clip.limits.max_clip_seconds:g} s"
        raise LimitError(clip.location, wrong, "raise max_clip_seconds")
    return VideoInfo(
        width=shape.width,
        height=shape.height,
        display_width=shape.display_size[0],
        display_height=shape.display_size[1],
        rotation=shape.orientation.rotation,
        frame_rate=rate,
        duration_s=duration_s,
        codec=shape.codec,
        pixel_format=shape.pixel_format,
        audio_codec=audio_codec,
        num_bytes=num_bytes,
        content_hash=digest,
        pts_s=pts_s,
        keyframe_ids=keys,
        frames_in_order=in_order,
        problem=problem,
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    codec: str
    pixel_format: str
    width: int
    height: int
    display_size: tuple[int, int]
    orientation: Orientation


def _scan_packets(
    clip: ClipFile, container: av.container.InputContainer, stream: av.video.VideoStream, deadline: Deadline
) -> _Scan:
    """Read all packets, and decode the first ones until a frame comes out."""
    scan = _Scan()
    stream.codec_context.thread_count = 1
    decoder = stream.codec_context.codec
    # AVI has no presentation times: those of frames that are reordered are guesses, only their set is right.
    scan.has_times = container.format.name != "avi" or decoder.intra_only
    codec = decoder.canonical_name
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            scan.problem = f"reading breaks off after frame {len(scan.pts) - 1} ({reason(error)})"
            break
        if packet is None:
            break
        deadline.check()
        if scan.first_frame is None:
            _decode_first(scan, stream, packet)
        if packet.size == 0:
            continue
        if packet.is_discard:
            scan.leading_discards += 1
            continue
        scan.not_frames |= codec in _HIDES_FRAMES or (codec == "mpeg4" and packet.size <= _EMPTY_VOP_BYTES)
        scan.pts.append(packet.pts)
        scan.keys.append(packet.is_keyframe)
        if packet.pts is not None and packet.pts > scan.last_pts:
            scan.last_pts, scan.last_duration = packet.pts, packet.duration or 0
        if len(scan.pts) > (most := clip.limits.max_clip_frames):
            raise LimitError(clip.location, f"it has more than {most} frames", "raise max_clip_frames")
    return scan


def _decode_first(scan: _Scan, stream: av.video.VideoStream, packet: Packet) -> None:
    try:
        frames = stream.codec_context.decode(packet if packet.size else None)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        scan.fault = reason(error)
        return
    if frames:
        scan.first_frame = frames[0]
        scan.not_frames |= frames[0].interlaced_frame  # its packets may hold a field each


def _shape(location: str, stream: av.video.VideoStream, scan: _Scan) -> _Shape:
    frame = scan.first_frame
    if frame is None:
        if scan.pts:
            raise DecodeError(
                location, f"none of its {len(scan.pts)} frames can be decoded ({scan.fault or 'no output'})"
            )
        raise TruncatedError(location, f"it has a video stream but no frames{scan.problem and ': ' + scan.problem}")
    width, height = frame.width, frame.height
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    # Players stretch the width, whichever way it goes; aspects beyond these are damage.
    square_width = max(1, round(width * aspect)) if Fraction(1, 16) <= aspect <= 16 else width
    orientation = frame_orientation(frame)
    context = stream.codec_context
    return _Shape(
        codec=context.codec.canonical_name,
        pixel_format=frame.format.name,
        width=width,
        height=height,
        display_size=(height, square_width) if orientation.transpose else (square_width, height),
        orientation=orientation,
    )


def _declared_rates(stream: av.video.VideoStream) -> list[Fraction]:
    """Rates that the container gives, the most trusted first."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return [rate for rate in rates if rate is not None and 0 < rate <= 10_000]


def _times_from_packets(scan: _Scan) -> tuple[list[int] | None, np.ndarray | None]:
    """Ascending times in ticks, and key frames by frame number; None where packets do not tell."""
    pts = [t for t in scan.pts if t is not None]
    if scan.not_frames or not scan.keys[0] or len(pts) < len(scan.pts) or len(set(pts)) < len(pts):
        return None, None
    if min(pts) < pts[0]:  # leading frames of a stream that was cut at an open group
        return None, None
    order = np.argsort(pts, kind="stable")
    ticks = [pts[k] for k in order]
    return ticks, np.flatnonzero(np.array(scan.keys)[order])


def _last_duration(scan: _Scan, ticks: Sequence[int], time_base: Fraction, declared: Sequence[Fraction]) -> Fraction:
    """Seconds for which the last frame is shown."""
    if scan.last_duration > 0 and scan.last_pts == ticks[-1]:
        return scan.last_duration * time_base
    if len(ticks) > 1:
        return Fraction(int(np.median(np.diff(ticks)))) * time_base
    return 1 / declared[0] if declared else Fraction(1, 25)


def _true_rate(
    pts_s: np.ndarray, ticks: Sequence[int], time_base: Fraction, last_s: Fraction, declared: Sequence[Fraction]
) -> tuple[Fraction, float]:
    """Frames a second and duration in seconds: a declared rate where the times bear it out, else the average."""
    for rate in declared:
        if is_constant_rate(pts_s, rate):
            return rate, float(len(ticks) / rate)
    duration = (ticks[-1] - ticks[0]) * time_base + last_s
    rate = len(ticks) / duration if duration > 0 else (declared[0] if declared else Fraction(25))
    return rate.limit_denominator(100_000), float(duration)

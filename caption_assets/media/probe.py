"""What a clip is: exact frame times, shape and identity, found out without decoding more than its first frame."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av.container
import av.video
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from caption_assets.media.containers import other_format
from caption_assets.media.counting import Counted, count_by_decoding
from caption_assets.media.faults import (
    DecodeError,
    EncryptedError,
    LimitError,
    NotVideoError,
    NoVideoStreamError,
    TruncatedError,
    reason,
)
from caption_assets.media.files import ClipFile, Deadline, opened, stream_crop, stream_time_base, video_stream
from caption_assets.media.packets import ERRORS, Packets
from caption_assets.media.pixels import Orientation, frame_orientation
from caption_assets.media.sampling import is_constant_rate
from caption_assets.media.times import MOST_REORDERED
from caption_assets.records import Crop, VideoInfo
from caption_assets.settings import DecodeLimits

# Codecs of which each packet is a frame that is shown, or can be told from one that is not. Of others (screen codecs
# write packets for "nothing changed", and no frame comes out), only decoding tells.
_PACKETS_ARE_FRAMES = {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores", "dnxhd"}
# Of these, whether frames are reordered is known before they are decoded.
_TELL_ORDER = {"h264", "hevc", "mpeg4"}
# MPEG-4 part 2 in AVI puts two frames into one packet and an empty one, of some bytes, into the next.
_EMPTY_VOP_BYTES = 8
# Sample entries of mp4 whose content is encrypted, where the demuxer does not look behind them.
_ENCRYPTED_TAGS = {"encv", "drmi"}
_DECRYPT = "decrypt it with its key: ffmpeg -decryption_key KEY -i clip.mp4 -c copy decrypted.mp4"


@dataclass(slots=True)
class _Scan:
    """What one pass over a stream's packets finds, in decode order."""

    pts: list[int | None] = field(default_factory=list)
    keys: list[bool] = field(default_factory=list)
    last_duration: int = 0
    last_pts: int = -(1 << 62)
    leading_discards: int = 0
    begins_at: int | None = None  # with a key frame; also where an edit list hides that
    first_frame: VideoFrame | None = None
    packets_are_frames: bool = True
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
        try:
            return _probe(file)
        finally:
            file.check()


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
        crop = stream_crop(clip, stream)
        time_base = stream_time_base(stream)
        if not scan.pts:
            raise TruncatedError(
                clip.location, f"it has a video stream but no frames{scan.problem and ': ' + scan.problem}"
            )
        times, counted = _times_from_packets(scan), None
        if times is None or _order_is_doubtful(scan, stream):
            counted = count_by_decoding(clip, deadline, declared, has_times=scan.has_times)
            if times is None or not counted.in_order or counted.ticks != times[0]:
                times = counted.ticks, None
        ticks, keys = times
        shape = _shape(clip.location, stream, scan, crop, counted)
        audio = next(iter(container.streams.audio), None)
        audio_codec = audio.codec_context.codec.canonical_name if audio and audio.codec_context else None
        # Other containers count what they please here: AVI counts frames that were dropped.
        expected = len(stream.index_entries) if container.format.name.startswith("mov") else 0
    if len(ticks) == 1 and (found := other_format(clip.local)):
        raise NotVideoError(clip.location, f"it is {found}, not a video", "remove it from the dataset")
    problem = scan.problem
    if counted is not None and counted.undecodable:
        problem = f"{counted.undecodable} of its packets cannot be decoded ({counted.fault}), their frames are left out"
    elif not problem and keys is not None and expected - scan.leading_discards > len(ticks):
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
        time_base=time_base,
        stamp=clip.stamp,
        crop=shape.crop,
        problem=problem,
        note=counted.note if counted is not None else "",
    )


@dataclass(frozen=True, slots=True)
class _Shape:
    codec: str
    pixel_format: str
    width: int
    height: int
    display_size: tuple[int, int]
    orientation: Orientation
    crop: Crop


def _scan_packets(
    clip: ClipFile, container: av.container.InputContainer, stream: av.video.VideoStream, deadline: Deadline
) -> _Scan:
    """Read all packets, and decode the first ones until a frame comes out."""
    scan = _Scan()
    stream.codec_context.thread_count = 1
    decoder = stream.codec_context.codec
    codec = decoder.canonical_name
    # AVI has no presentation times: those of frames that are reordered are guesses, only their set is right.
    scan.has_times = container.format.name != "avi" or decoder.intra_only
    scan.packets_are_frames = scan.has_times and codec in _PACKETS_ARE_FRAMES
    packets = Packets(clip, container, stream, deadline)
    for packet in packets:
        if packet.is_keyframe and _is_encrypted(packet, stream):
            raise EncryptedError(clip.location, "its pictures are encrypted", _DECRYPT)
        if scan.first_frame is None:
            _decode_first(scan, stream, packet)
        if not (scan.pts or scan.leading_discards) and packet.is_keyframe:
            scan.begins_at = packet.pts
        if packet.is_discard:
            scan.leading_discards += 1
            continue
        if scan.packets_are_frames:
            scan.packets_are_frames = _is_frame(packet, codec) and not (scan.pts and _changes_stream(packet))
        scan.pts.append(packet.pts)
        scan.keys.append(packet.is_keyframe)
        if packet.pts is not None and packet.pts > scan.last_pts:
            scan.last_pts, scan.last_duration = packet.pts, packet.duration or 0
        if len(scan.pts) > (most := clip.limits.max_clip_frames):
            raise LimitError(clip.location, f"it has more than {most} frames", "raise max_clip_frames")
    if scan.first_frame is None:
        _decode_first(scan, stream, None)
    if packets.fault:
        scan.problem = f"reading breaks off after frame {len(scan.pts) - 1} ({packets.fault})"
    return scan


def _is_encrypted(packet: Packet, stream: av.video.VideoStream) -> bool:
    return packet.has_sidedata("encryption_info") or stream.codec_context.codec_tag in _ENCRYPTED_TAGS


def _changes_stream(packet: Packet) -> bool:
    """Whether another description of the stream (size, profile) holds from this packet on."""
    return packet.is_keyframe and packet.has_sidedata("new_extradata")


def _is_frame(packet: Packet, codec: str) -> bool:
    """Whether a frame that is shown is in a packet; a superframe of VP9 has one, beside those that are not."""
    if codec == "mpeg4":
        return packet.size > _EMPTY_VOP_BYTES
    if codec == "vp8":
        return bool(memoryview(packet)[0] & 0x10)
    if codec == "vp9":
        data = memoryview(packet)
        # Whether an earlier frame is shown, and whether this one is; profile 3 has a bit more before them.
        shown = 0x05 if data[0] & 0x30 == 0x30 else 0x0A
        return data[-1] & 0xE0 == 0xC0 or data[0] & shown != 0
    return True


def _decode_first(scan: _Scan, stream: av.video.VideoStream, packet: Packet | None) -> None:
    try:
        frames = stream.codec_context.decode(packet)
    except ERRORS as error:
        scan.fault = reason(error)
        return
    if frames:
        scan.first_frame = frames[0]
        scan.packets_are_frames &= not frames[0].interlaced_frame  # its packets may hold a field each


def _shape(location: str, stream: av.video.VideoStream, scan: _Scan, crop: Crop, counted: Counted | None) -> _Shape:
    frame = scan.first_frame
    if frame is None:
        raise DecodeError(location, f"none of its frames can be decoded ({scan.fault or 'no output'})")
    width, height = frame.width, frame.height
    if counted is not None and len(counted.sizes) > 1:
        (width, height), _ = counted.sizes.most_common(1)[0]
    context = stream.codec_context
    if (width, height) != (context.width, context.height):
        crop = Crop()
    stored_width, stored_height = width, height
    width, height = width - crop.left - crop.right, height - crop.top - crop.bottom
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    # Players stretch the width, whichever way it goes; aspects beyond these are damage.
    square_width = max(1, round(width * aspect)) if Fraction(1, 16) <= aspect <= 16 else width
    orientation = frame_orientation(frame)
    return _Shape(
        codec=context.codec.canonical_name,
        pixel_format=frame.format.name,
        width=stored_width,
        height=stored_height,
        display_size=(height, square_width) if orientation.transpose else (square_width, height),
        orientation=orientation,
        crop=crop,
    )


def _declared_rates(stream: av.video.VideoStream) -> list[Fraction]:
    """Rates that the container gives, the most trusted first."""
    rates = (stream.average_rate, stream.guessed_rate, stream.base_rate)
    return [rate for rate in rates if rate is not None and 0 < rate <= 10_000]


def _order_is_doubtful(scan: _Scan, stream: av.video.VideoStream) -> bool:
    """Whether the stream has its frames reordered, and times that are not: they may be those of other frames."""
    pts = [t for t in scan.pts if t is not None]
    context = stream.codec_context
    reordered = any(a > b for a, b in itertools.pairwise(pts))
    return context.codec.canonical_name in _TELL_ORDER and context.has_b_frames and not reordered


def _times_from_packets(scan: _Scan) -> tuple[list[int], np.ndarray | None] | None:
    """Ascending times in ticks, and key frames by frame number; None where packets do not tell."""
    pts = [t for t in scan.pts if t is not None]
    if not scan.packets_are_frames or scan.begins_at is None or len(set(pts)) < len(scan.pts):
        return None
    # Leading frames of a stream that was cut at an open group, or first ones of which nothing comes out.
    if min(pts) < scan.begins_at or scan.first_frame is None or scan.first_frame.pts != min(pts):
        return None
    order = np.argsort(pts, kind="stable")
    if np.abs(order - np.arange(len(order))).max() > MOST_REORDERED:  # a time that is damaged
        return None
    # A key frame is shown after all that were decoded before it, unless the clock has started anew.
    if (np.array(pts) < np.maximum.accumulate(pts))[np.array(scan.keys)].any():
        return None
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

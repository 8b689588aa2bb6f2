"""Counting frames by decoding them all, for the files whose packets do not tell."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import av.error
from av.packet import Packet

from caption_assets.media.faults import DecodeError, LimitError
from caption_assets.media.files import Deadline, DecodeLimits, open_container, stream_time_base, video_stream

# B-frames between two others, as encoders use them in AVI.
_MOST_REORDERED = 3
_ERRORS = (av.error.FFmpegError, OSError, ValueError)


def times_by_decoding(
    path: str,
    local: str,
    limits: DecodeLimits,
    deadline: Deadline,
    declared: Sequence[Fraction],
    cut_off: bool,
) -> tuple[list[int], bool]:
    """Ascending times in ticks of all frames that decode, and whether only their order identifies frames.

    Of a file that was `cut_off`, the last packet does not count: a part of it is missing. Frames whose times make
    no sense get times at the first of the `declared` rates.

    Raises DecodeError where no frame decodes, LimitError or TimeLimitError.
    """
    with open_container(path, local) as container:
        time_base = stream_time_base(video_stream(path, container, limits))
    # A decoder with several threads loses frames beside the damaged one: such a file is decoded again with one.
    pts = _decode_all(path, local, limits, deadline, cut_off, threads=0)
    if pts is None:
        pts = _decode_all(path, local, limits, deadline, cut_off, threads=1)
    if not pts:
        raise DecodeError(path, "none of its frames can be decoded")
    known = [t for t in pts if t is not None]
    if len(known) == len(pts) and all(a < b for a, b in itertools.pairwise(known)):
        return known, False
    if cut_off:  # the partial frame cannot be told from those that it is reordered with
        del pts[max(1, len(pts) - _MOST_REORDERED) :]
    rate = declared[0] if declared else Fraction(25)
    start = min(known, default=0)
    return [start + round(k / rate / time_base) for k in range(len(pts))], True


def _decode_all(
    path: str, local: str, limits: DecodeLimits, deadline: Deadline, cut_off: bool, threads: int
) -> list[int | None] | None:
    """Times of all frames in the order in which they come out; None where damage asks for a single thread."""
    pts: list[int | None] = []
    with open_container(path, local) as container:
        stream = video_stream(path, container, limits)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads
        packets = container.demux(stream)
        held: Packet | None = None
        while True:
            deadline.check()
            try:
                packet = next(packets, None)
            except _ERRORS:
                return pts
            if packet is None:
                return pts
            if cut_off and packet.size:
                packet, held = held, packet
                if packet is None:
                    continue
            try:
                pts += [frame.pts for frame in stream.codec_context.decode(packet if packet.size else None)]
            except _ERRORS:
                if threads != 1:
                    return None
            if len(pts) > limits.max_clip_frames:
                raise LimitError(path, f"it has more than {limits.max_clip_frames} frames", "raise max_clip_frames")

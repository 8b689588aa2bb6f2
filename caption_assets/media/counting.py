"""Counting frames by decoding them all, for the files whose packets do not tell."""

import itertools
from collections.abc import Sequence
from fractions import Fraction

import av.error
from av.packet import Packet

from caption_assets.media.cores import decoder_threads
from caption_assets.media.faults import DecodeError, LimitError
from caption_assets.media.files import ClipFile, Deadline, stream_time_base, video_stream

# B-frames between two others, as encoders use them in AVI.
_MOST_REORDERED = 3
_ERRORS = (av.error.FFmpegError, OSError, ValueError)


def times_by_decoding(
    clip: ClipFile, deadline: Deadline, declared: Sequence[Fraction], cut_off: bool
) -> tuple[list[int], bool]:
    """Ascending times in ticks of all frames that decode, and whether only their order identifies frames.

    Of a file that was `cut_off`, the last packet does not count: a part of it is missing. Frames whose times make
    no sense get times at the first of the `declared` rates.

    Raises DecodeError where no frame decodes, LimitError or TimeLimitError.
    """
    # A decoder with several threads loses frames beside the damaged one: such a file is decoded again with one.
    decoded = _decode_all(clip, deadline, cut_off, threads=0) or _decode_all(clip, deadline, cut_off, threads=1)
    pts, time_base = decoded or ([], Fraction(1))
    if not pts:
        raise DecodeError(clip.location, "none of its frames can be decoded")
    known = [t for t in pts if t is not None]
    if len(known) == len(pts) and all(a < b for a, b in itertools.pairwise(known)):
        return known, False
    if cut_off:  # the partial frame cannot be told from those that it is reordered with
        del pts[max(1, len(pts) - _MOST_REORDERED) :]
    rate = declared[0] if declared else Fraction(25)
    start = min(known, default=0)
    return [start + round(k / rate / time_base) for k in range(len(pts))], True


def _decode_all(
    clip: ClipFile, deadline: Deadline, cut_off: bool, threads: int
) -> tuple[list[int | None], Fraction] | None:
    """Times of all frames in the order in which they come out, and seconds a tick of them.

    None where damage asks for a single thread.
    """
    pts: list[int | None] = []
    with clip.container() as container:
        stream = video_stream(clip, container)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = decoder_threads(threads)
        time_base = stream_time_base(stream)
        packets = container.demux(stream)
        held: Packet | None = None
        while True:
            deadline.check()
            try:
                packet = next(packets, None)
            except _ERRORS:
                return pts, time_base
            if packet is None:
                return pts, time_base
            if cut_off and packet.size:
                packet, held = held, packet
                if packet is None:
                    continue
            try:
                pts += [frame.pts for frame in stream.codec_context.decode(packet if packet.size else None)]
            except _ERRORS:
                if threads != 1:
                    return None
            if len(pts) > (most := clip.limits.max_clip_frames):
                raise LimitError(clip.location, f"it has more than {most} frames", "raise max_clip_frames")

"""Writing mp4: rendered frames, and windows cut out of clips. H.264, 4:2:0, playable in a browser."""

import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.container
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from av.video.stream import VideoStream

from caption_assets.errors import ClipError
from caption_assets.media.decode import decode_frames, probe
from caption_assets.media.faults import DecodeError
from caption_assets.media.files import ClipFile, Deadline, opened, stream_time_base, video_stream
from caption_assets.media.packets import Packets
from caption_assets.media.pixels import RgbConverter
from caption_assets.media.reader import frame_ticks
from caption_assets.records import Crop, SampledFrames, VideoInfo, Window
from caption_assets.settings import DecodeLimits

_FASTSTART = {"movflags": "+faststart"}
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
# AVColorSpace and its siblings: 1 is BT.709, 6 is SMPTE 170M (BT.601). Untagged players guess by size, too.
_BT709, _BT601, _LIMITED = 1, 6, 1
_CLOCK_HZ = 90_000


def _even(image: np.ndarray) -> np.ndarray:
    """Repeat the last row or column of an (H, W, 3) image where 4:2:0 needs an even size."""
    height, width, _ = image.shape
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") if height % 2 or width % 2 else image


class _Encoder:
    """One H.264 stream in one mp4 file."""

    def __init__(
        self, container: av.container.OutputContainer, rate: Fraction, time_base: Fraction, crf: int, preset: str
    ) -> None:
        self._container, self._rate, self._time_base = container, rate, time_base
        self._options = {"crf": str(crf), "preset": preset}
        self._stream: VideoStream | None = None
        self._packets: list[av.Packet] = []

    def add(self, image: np.ndarray, pts: int) -> None:
        """Encode an (H, W, 3) uint8 RGB image that is shown at `pts` ticks of the time base; the first one at 0."""
        image = np.ascontiguousarray(_even(image))
        height, width, _ = image.shape
        hd = width >= 1280 or height > 576
        if self._stream is None:
            stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = stream.codec_context.time_base = self._time_base
            context = stream.codec_context
            context.colorspace = context.color_primaries = context.color_trc = _BT709 if hd else _BT601
            context.color_range = _LIMITED
            self._stream = stream
        frame = VideoFrame.from_ndarray(image, "rgb24").reformat(
            format="yuv420p",
            interpolation=_EXACT,
            dst_colorspace=Colorspace.ITU709 if hd else Colorspace.ITU601,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = pts, self._time_base
        self._packets += self._stream.encode(frame)

    def close(self, end: int | None = None) -> None:
        """Write the file. The last frame is shown until `end`, in ticks; without it, as long as the rate tells."""
        if self._stream is None:
            return
        self._packets += self._stream.encode(None)
        if end is None:
            end = max(_shown(self._packets)) + round(1 / (self._rate * self._time_base))
        _set_times(self._packets, 0, end)
        self._container.mux(self._packets)


def _shown(packets: Sequence[av.Packet]) -> list[int]:
    return [packet.pts or 0 for packet in packets]


def _set_times(packets: Sequence[av.Packet], start: int, end: int) -> None:
    """Move a whole stream, `packets` in decode order, so that what was shown from `start` to `end` begins at 0.

    An mp4 keeps times between packets in decode order, and how long the last one takes: with decode times that are the
    sorted times of showing, as much earlier as the order of the packets needs, frames and file last as long as they
    should, also where the rate varies. (x264 makes them less regular, and Matroska has none.)
    """
    times = _shown(packets)
    early = max(shown - pts for shown, pts in zip(sorted(times), times, strict=True))
    for packet, pts, shown in zip(packets, times, sorted(times), strict=True):
        packet.pts, packet.dts = pts - start, shown - early - start
    packets[-1].duration = packets[times.index(max(times))].duration = end - max(times)


def write_mp4(
    path: str, frames: Iterable[np.ndarray], frame_rate: Fraction, *, crf: int = 23, preset: str = "medium"
) -> None:
    """Write `frames`, uint8 RGB of shape (H, W, 3) and one size, as an mp4 of `frame_rate` frames a second.

    Odd sizes are made even by repeating the last row or column. `crf` is x264's quality, 0 (best) to 51;
    `preset` is its effort, "ultrafast" to "veryslow".
    """
    with av.open(path, "w", format="mp4", container_options=_FASTSTART) as container:
        encoder = _Encoder(container, Fraction(frame_rate), 1 / Fraction(frame_rate), crf, preset)
        for number, image in enumerate(frames):
            encoder.add(image, number)
        encoder.close()


def sampled_mp4(sampled: SampledFrames, *, crf: int = 12, preset: str = "veryfast") -> bytes:
    """The frames that a model is to see as an mp4 file, each shown from its true time on; the first at 0."""
    file, times = io.BytesIO(), sampled.picks.times_s
    rate = Fraction(sampled.picks.fps or 1.0).limit_denominator(1001)
    with av.open(file, "w", format="mp4") as container:
        encoder = _Encoder(container, rate, Fraction(1, _CLOCK_HZ), crf, preset)
        for image, time in zip(sampled.frames, times, strict=True):
            encoder.add(image, round((time - times[0]) * _CLOCK_HZ))
        encoder.close()
    return file.getvalue()


def cut_window_mp4(
    clip: ClipFile | str, info: VideoInfo, window: Window, *, limits: DecodeLimits | None = None
) -> bytes:
    """The frames of `window`, and no others, as an mp4 file with their true times, starting at 0.

    The stream is copied where it is 8-bit 4:2:0 H.264 and the cut falls on key frames at both ends, with nothing
    that refers across them; elsewhere the window is decoded, turned upright and encoded again. `clip` is an opened
    clip, or a location; `limits` are for a location, an opened clip has its own.

    Raises a ClipError where the window's frames cannot be read.
    """
    with opened(clip, limits) as file, tempfile.TemporaryDirectory(prefix="caption_assets-") as folder:
        target = os.path.join(folder, "window.mp4")
        if not (_may_copy(info, window) and _copy(file, info, window, target)):
            _encode(file, info, window, target)
        return Path(target).read_bytes()


def _may_copy(info: VideoInfo, window: Window) -> bool:
    keys = info.keyframe_ids
    if keys is None or info.crop != Crop() or info.rotation or info.codec != "h264":
        return False
    if info.pixel_format not in ("yuv420p", "yuvj420p") or window.start_frame not in keys:
        return False
    return window.end_frame == info.num_frames - 1 or window.end_frame + 1 in keys


def _packets(packets: Iterable[av.Packet], first: int, stop: int | None) -> Iterator[av.Packet]:
    """Packets from the key frame shown at `first` (ticks) up to the one shown at `stop`, in decode order."""
    started = False
    for packet in packets:
        if packet.pts == stop:
            return
        started = started or packet.pts == first
        if started:
            yield packet


def _copy(clip: ClipFile, info: VideoInfo, window: Window, target: str) -> bool:
    """Copy the window's packets; False, with nothing lost, where they are not the window's frames alone, or not all of
    them come out of a decoder that starts there."""
    with clip.container() as container:
        stream = video_stream(clip, container)
        ticks = frame_ticks(info, float(stream_time_base(stream)))
        first = ticks[window.start_frame]
        stop = ticks[window.end_frame + 1] if window.end_frame + 1 < len(ticks) else None
        end = ticks[0] + round(info.duration_s / stream_time_base(stream)) if stop is None else stop
        packets = list(_packets(Packets(clip, container, stream, Deadline(clip)), first, stop))
        clip.check()
        times = [p.pts for p in packets if p.pts is not None]
        if len(times) < len(packets) or sorted(times) != ticks[window.start_frame : window.end_frame + 1]:
            return False
        with av.open(target, "w", format="mp4", container_options=_FASTSTART) as sink:
            copied = sink.add_stream_from_template(stream)
            for packet in packets:
                packet.stream = copied
            _set_times(packets, first, end)
            sink.mux(packets)
    try:
        return probe(target).num_frames == window.num_frames
    except ClipError:
        return False


def _encode(clip: ClipFile, info: VideoInfo, window: Window, target: str) -> None:
    converter = RgbConverter((info.display_width, info.display_height))
    image = np.empty((info.display_height, info.display_width, 3), np.uint8)
    ids = range(window.start_frame, window.end_frame + 1)
    times_s = np.append(info.pts_s, info.pts_s[0] + info.duration_s)
    ticks = np.rint((times_s - times_s[ids[0]]) * _CLOCK_HZ).astype(np.int64).tolist()
    with av.open(target, "w", format="mp4", container_options=_FASTSTART) as sink:
        encoder = _Encoder(sink, info.frame_rate, Fraction(1, _CLOCK_HZ), 18, "veryfast")
        for frame_id, frame in decode_frames(clip, info, ids):
            if isinstance(frame, DecodeError):
                raise frame
            converter.into(frame, image)
            encoder.add(image, ticks[frame_id])
        encoder.close(ticks[ids[-1] + 1])

"""Going over a stream: its packets, and the frames that come out of them. Counting and reading share what is here."""

import itertools
from collections.abc import Iterator

import av.container
import av.error
import av.video
from av.packet import Packet
from av.video.frame import VideoFrame

from caption_assets.media.faults import reason
from caption_assets.media.files import ClipFile, Deadline

ERRORS = (av.error.FFmpegError, OSError, ValueError)
"""What PyAV raises for files that are damaged."""


class Packets:
    """The packets of a stream that hold something, in decode order.

    They end where the file cannot be read any further, and `fault` says why, or before a packet that the file's end
    cuts off.
    """

    def __init__(
        self,
        clip: ClipFile,
        container: av.container.InputContainer,
        stream: av.video.VideoStream,
        deadline: Deadline,
    ) -> None:
        self._clip, self._deadline = clip, deadline
        self._packets = container.demux(stream)
        self.fault = ""

    def __iter__(self) -> Iterator[Packet]:
        return self

    def __next__(self) -> Packet:
        while True:
            self._deadline.check()
            try:
                packet = next(self._packets)
            except ERRORS as error:
                self.fault = reason(error)
                raise StopIteration from None
            if packet.is_corrupt and packet.pos is not None and packet.pos + packet.size >= self._clip.num_bytes:
                raise StopIteration
            if packet.size:
                return packet


class Shown:
    """All frames that come out of a decoder with one thread, from the start of the file, with nothing left out.

    This is what counts, wherever packets do not tell the frames: several threads lose frames beside a damaged one, and
    show others that one thread does not. `undecodable` counts packets that the decoder refused, `fault` says why it
    refused the last one, or why the file cannot be read any further.
    """

    def __init__(
        self,
        clip: ClipFile,
        container: av.container.InputContainer,
        stream: av.video.VideoStream,
        deadline: Deadline,
    ) -> None:
        self._packets = Packets(clip, container, stream, deadline)
        self._context = stream.codec_context
        self._context.thread_count = 1
        self.undecodable, self.fault = 0, ""

    def __iter__(self) -> Iterator[VideoFrame]:
        for packet in itertools.chain(self._packets, [None]):
            try:
                yield from self._context.decode(packet)
            except ERRORS as error:
                self.undecodable += packet is not None
                self.fault = reason(error)
        self.fault = self._packets.fault or self.fault

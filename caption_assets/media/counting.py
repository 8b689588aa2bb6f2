"""Counting frames by decoding them all, for the files whose packets do not tell."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from caption_assets.media.faults import DecodeError, LimitError
from caption_assets.media.files import ClipFile, Deadline, stream_time_base, video_stream
from caption_assets.media.packets import Shown
from caption_assets.media.times import ascend, ascending_times, clock_restarts


@dataclass(frozen=True, slots=True)
class Counted:
    """What decoding a clip found: ascending times of its frames in ticks, whether those are the ones that the frames
    came with, at which frames their clock starts anew, how many have which size, and damage."""

    ticks: list[int]
    in_order: bool
    restarts: list[int]
    sizes: Counter[tuple[int, int]]
    undecodable: int
    fault: str

    @property
    def note(self) -> str:
        """What is odd about the frames, and what is made of it; empty where nothing is."""
        notes = []
        if self.restarts:
            wrong = f"its clock starts anew {len(self.restarts)} times, first at frame {self.restarts[0]}"
            if len(self.restarts) == 1:
                wrong = f"its clock starts anew at frame {self.restarts[0]}"
            notes.append(f"{wrong}: what follows goes on after what came before")
        if len(self.sizes) > 1:
            (width, height), most = self.sizes.most_common(1)[0]
            sizes = f"its frames have {len(self.sizes)} sizes, {most} of {len(self.ticks)} have {width}x{height}"
            notes.append(f"{sizes}: all are brought to that")
        return "; ".join(notes)


def count_by_decoding(clip: ClipFile, deadline: Deadline, declared: Sequence[Fraction], *, has_times: bool) -> Counted:
    """All frames that come out of the decoder. Where times make no sense, or are only guessed (not `has_times`) and do
    not ascend, frames follow each other at the first of the `declared` rates.

    Raises DecodeError where no frame decodes, LimitError or TimeLimitError.
    """
    pts: list[int | None] = []
    sizes: Counter[tuple[int, int]] = Counter()
    with clip.container() as container:
        stream = video_stream(clip, container)
        shown = Shown(clip, container, stream, deadline)
        for frame in shown:
            pts.append(frame.pts)
            sizes[frame.width, frame.height] += 1
            if len(pts) > (most := clip.limits.max_clip_frames):
                raise LimitError(clip.location, f"it has more than {most} frames", "raise max_clip_frames")
        step = 1 / (declared[0] if declared else Fraction(25)) / stream_time_base(stream)
    if not pts:
        raise DecodeError(clip.location, f"none of its frames can be decoded ({shown.fault or 'no output'})")
    if not has_times and not ascend([t for t in pts if t is not None]):
        pts = [None] * len(pts)
    ticks = ascending_times(pts, max(1, round(step)))
    return Counted(ticks, ticks == pts, clock_restarts(pts), sizes, shown.undecodable, shown.fault)

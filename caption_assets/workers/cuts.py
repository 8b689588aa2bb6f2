"""Cutting windows out of one clip, in a worker process."""

from collections.abc import Iterator
from dataclasses import dataclass

from caption_assets.errors import ClipError
from caption_assets.media.files import Reading, open_clip
from caption_assets.media.mp4 import cut_window_mp4
from caption_assets.records import Window
from caption_assets.workers.tasks import planned_info


@dataclass(frozen=True, slots=True)
class CutTask:
    """A clip's windows to cut out of it. `content_hash` and `probed` are as for `PreviewTask`."""

    location: str
    content_hash: str
    windows: tuple[Window, ...]
    probed: bytes | None = None

    @property
    def work(self) -> int:
        """Frames to decode."""
        return self.windows[-1].end_frame

    def __str__(self) -> str:
        return f"clip {self.location}"


def cut_clip(task: CutTask, reading: Reading) -> Iterator[tuple[Window, bytes | ClipError]]:
    """Each window's mp4 (see `cut_window_mp4`), or why there is none, in order.

    Raises ClipError where the clip cannot be used or has changed since it was planned.
    """
    with open_clip(task.location, reading) as clip:
        info = planned_info(clip, task)
        for window in task.windows:
            try:
                yield window, cut_window_mp4(clip, info, window)
            except ClipError as error:
                yield window, error

"""The videos of samples: windows cut out of their clips, copies of the clips, or the clips where they lie."""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from caption_assets.errors import CaptionAssetsError, ClipError
from caption_assets.exports.samples import Sample
from caption_assets.media.faults import ChangedError
from caption_assets.media.files import open_clip
from caption_assets.names import actual
from caption_assets.records import Window
from caption_assets.settings import ExportVideos
from caption_assets.store.rows import WindowRow
from caption_assets.store.store import Store
from caption_assets.workers.base import ClipWorkers
from caption_assets.workers.cuts import CutTask, cut_clip

# Goes up when windows are cut otherwise than before.
_CUT_VERSION = 1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Video:
    """The video that goes with a sample: what its file is called and made from, and what it shows.

    `start_s` and `end_s` say where in it the sample's window is, in seconds; `width` and `height` are pixels.
    """

    name: str
    made_from: str
    num_frames: int
    duration_s: float
    start_s: float
    end_s: float
    width: int
    height: int
    fps: float


def video_of(sample: Sample, videos: ExportVideos) -> Video:
    """What the video of a sample is to be; nothing is read."""
    row = sample.window
    start_s, end_s = row.start_s or 0.0, row.end_s or 0.0
    size = row.display_width or 0, row.display_height or 0
    fps = row.frame_rate or 0.0
    if videos == "windows":
        first, last = sample.frames
        made_from = f"window {first}-{last} of {row.content_hash}, version {_CUT_VERSION}"
        width, height = (side + side % 2 for side in size)  # 4:2:0
        seconds = end_s - start_s
        return Video(f"{sample.name}.mp4", made_from, last - first + 1, seconds, 0.0, seconds, width, height, fps)
    name = row.clip_id + PurePosixPath(actual(row.relative_path)).suffix.lower()
    made_from = f"clip {row.content_hash}" if videos == "clips" else f"link to {row.location}"
    return Video(name, made_from, row.clip_frames or 0, row.duration_s or 0.0, start_s, end_s, *size, fps)


class VideoSource:
    """Makes the videos of samples as drafts: files of this machine, to be put somewhere."""

    def __init__(self, store: Store, workers: ClipWorkers, videos: ExportVideos, folder: Store) -> None:
        """`store` has the tables, and windows that were kept as files; `folder` is where drafts are made."""
        self._store, self._workers, self._videos, self._folder = store, workers, videos, folder

    def make(
        self, samples: Iterable[Sample], probed: Mapping[str, bytes]
    ) -> Iterator[tuple[Sample, str | CaptionAssetsError]]:
        """The path of each sample's draft, or why there is none, in any order. One sample a video."""
        if self._videos == "windows":
            return self._cut(samples, probed)
        make = self._copy if self._videos == "clips" else self._link
        return ((sample, make(sample.window)) for sample in samples)

    def _cut(
        self, samples: Iterable[Sample], probed: Mapping[str, bytes]
    ) -> Iterator[tuple[Sample, str | CaptionAssetsError]]:
        wanted: dict[str, dict[Window, Sample]] = defaultdict(dict)
        for sample in samples:
            rel = sample.window.mp4_path
            kept = self._store.read_bytes(rel) if rel else None
            if kept is not None:
                yield sample, self._draft(kept)
            else:
                wanted[sample.window.location][Window(*sample.frames)] = sample
        tasks = [_task(location, of_clip, probed) for location, of_clip in wanted.items()]
        for task, result in self._workers.run(cut_clip, tasks):
            of_clip = wanted[task.location]
            if isinstance(result, CaptionAssetsError):
                yield from ((sample, result) for sample in of_clip.values())
                of_clip.clear()
            else:
                window, mp4 = result
                yield of_clip.pop(window), mp4 if isinstance(mp4, ClipError) else self._draft(mp4)

    def _draft(self, data: bytes) -> str:
        with self._folder.draft() as file:
            file.write(data)
        return str(file.name)

    def _copy(self, row: WindowRow) -> str | CaptionAssetsError:
        """A copy of the clip, if it still is what was planned."""
        path = ""
        try:
            with open_clip(row.location, self._workers.reading) as clip:
                if clip.stamp is not None and clip.stamp == row.stamp:
                    clip.trust(row.content_hash or "")
                if clip.content_hash != row.content_hash:
                    wrong = "its file has changed since its windows were planned"
                    raise ChangedError(f"clip {row.location}", wrong, "plan them again")
                with open(clip.local, "rb") as source, self._folder.draft() as file:
                    path = str(file.name)
                    shutil.copyfileobj(source, file, _CHUNK)
                clip.check()
            return path
        except ClipError as error:
            if path:
                os.unlink(path)
            return error

    def _link(self, row: WindowRow) -> str:
        with self._folder.draft() as file:
            pass
        os.unlink(file.name)
        os.symlink(actual(row.location), file.name)
        return str(file.name)


def _task(location: str, of_clip: Mapping[Window, Sample], probed: Mapping[str, bytes]) -> CutTask:
    row = next(iter(of_clip.values())).window
    return CutTask(location, row.content_hash or "", tuple(sorted(of_clip)), probed.get(location))

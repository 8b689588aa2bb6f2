"""CSV: a line a sample, with all columns, or those that DiffSynth and Open-Sora read."""

import csv
import io
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from caption_assets.exports.base import Entry, ListFormat
from caption_assets.exports.columns import COLUMNS, fields
from caption_assets.exports.folder import FolderPart
from caption_assets.settings import ExportVideos
from caption_assets.store.store import Store

# What pandas takes for a missing value unless it is told otherwise, which these trainers do not do; quotes do not help.
_MISSING = frozenset(
    "#N/A,#N/A N/A,#NA,-1.#IND,-1.#QNAN,-NaN,-nan,1.#IND,1.#QNAN,<NA>,N/A,NA,NULL,NaN,None,n/a,nan,null".split(",")  # noqa: SIM905
)


class CsvFormat(ListFormat):
    """`metadata.csv`, in UTF-8 with a header. `columns` are the names, in order."""

    file: ClassVar[str] = "metadata.csv"
    columns: ClassVar[tuple[str, ...]]

    @abstractmethod
    def row(self, entry: Entry) -> dict[str, Any]:
        """A sample's columns."""

    def add(self, entries: Sequence[Entry], part: FolderPart, store: Store) -> None:
        for entry in entries:
            row = self.row(entry)
            part.lines(entry.split + self.file, _line(row[name] for name in self.columns))

    def head(self) -> str:
        return _line(self.columns)

    def cannot_hold(self, text: str) -> str:
        return "reads_as_missing" if text in _MISSING else ""

    def data_files(self, split: str) -> list[str]:
        return [f"{split}{self.file}"]


class Csv(CsvFormat):
    """All columns; `video` is the path below the folder of the file, or where the clip itself lies."""

    name = "csv"
    columns = ("video", *COLUMNS)

    def row(self, entry: Entry) -> dict[str, Any]:
        return {"video": entry.path, **fields(entry)}

    def takes_parts(self, videos: ExportVideos) -> bool:
        return True


class DiffSynth(CsvFormat):
    """DiffSynth-Studio's `--dataset_metadata_path`: `video` below `--dataset_base_path`, and `prompt`."""

    name = "diffsynth"
    columns = ("video", "prompt")

    def row(self, entry: Entry) -> dict[str, Any]:
        return {"video": entry.path, "prompt": entry.sample.text}


class OpenSora(CsvFormat):
    """Open-Sora's `dataset.data_path`, with the columns that its `docs/train.md` asks for: it opens `path` as it
    stands, and takes height to width for the aspect ratio, and pixels for the resolution."""

    name = "open-sora"
    columns = ("path", "text", "num_frames", "height", "width", "aspect_ratio", "resolution", "fps")

    def row(self, entry: Entry) -> dict[str, Any]:
        video = entry.video
        return {
            "path": entry.location,
            "text": entry.sample.text,
            "num_frames": video.num_frames,
            "height": video.height,
            "width": video.width,
            "aspect_ratio": video.height / video.width,
            "resolution": video.height * video.width,
            "fps": round(video.fps, 3),
        }


def _line(values: Iterable[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()

"""JSON Lines: one object a sample, with all columns, or those that musubi-tuner reads."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from caption_assets.exports.base import Entry, ListFormat
from caption_assets.exports.columns import DATASETS_TYPES, fields, json_line
from caption_assets.exports.folder import FolderPart
from caption_assets.settings import ExportVideos
from caption_assets.store.store import Store


class JsonLinesFormat(ListFormat):
    """One file with a line a sample."""

    file: ClassVar[str] = "metadata.jsonl"

    @abstractmethod
    def row(self, entry: Entry) -> dict[str, Any]:
        """A sample's columns."""

    def add(self, entries: Sequence[Entry], part: FolderPart, store: Store) -> None:
        for entry in entries:
            part.lines(entry.split + self.file, json_line(self.row(entry)))

    def data_files(self, split: str) -> list[str]:
        return [f"{split}{self.file}"]


class JsonLines(JsonLinesFormat):
    """All columns; `video` is the path below the folder of the file, or where the clip itself lies."""

    name = "jsonl"

    def row(self, entry: Entry) -> dict[str, Any]:
        return {"video": entry.path, **fields(entry)}

    def takes_parts(self, videos: ExportVideos) -> bool:
        return True

    def features(self, suffixes: Collection[str]) -> Mapping[str, Any]:
        return {"video": "string", **DATASETS_TYPES}


class Musubi(JsonLinesFormat):
    """musubi-tuner's `video_jsonl_file`: it opens `video_path` as it stands, so that it is absolute."""

    name = "musubi"

    def row(self, entry: Entry) -> dict[str, Any]:
        return {"video_path": entry.location, "caption": entry.sample.text}

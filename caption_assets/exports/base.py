"""What a format is: how it holds samples and their videos."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from caption_assets.exports.folder import FolderPart
from caption_assets.exports.samples import Sample
from caption_assets.exports.videos import Video
from caption_assets.settings import ExportFormatName, ExportVideos
from caption_assets.store.store import Store


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample with its video. `path` is that of the video below its split's folder, or where the clip itself lies;
    `location` is the absolute path or URL."""

    sample: Sample
    video: Video
    path: str
    location: str

    @property
    def split(self) -> str:
        """The folder of its split, with a slash; empty where there are no splits."""
        return f"{self.sample.split}/" if self.sample.split else ""

    @property
    def rel(self) -> str:
        """Path of the video below the export."""
        return self.split + self.path


@dataclass(frozen=True, slots=True)
class Totals:
    """What an export holds in one split: samples (windows), their clips, and the windows' seconds."""

    samples: int = 0
    clips: int = 0
    seconds: float = 0.0

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(self.samples + other.samples, self.clips + other.clips, self.seconds + other.seconds)


class Format(ABC):
    """A format, as `caption-assets export` takes it by its name.

    `videos` are those that may go with it, the first by default.
    """

    name: ClassVar[ExportFormatName]
    videos: ClassVar[tuple[ExportVideos, ...]] = ("windows", "clips", "links")

    def takes_parts(self, videos: ExportVideos) -> bool:
        """Whether its readers know which part of a video a text is about. Others get clips of a single window only."""
        return videos == "windows"

    def cannot_hold(self, text: str) -> str:
        """A short word for why its readers would not get a text back; empty where they do."""
        return ""

    def data_files(self, split: str) -> list[str]:
        """What `datasets` is to load of a split's folder; nothing where it cannot load the format."""
        return []

    def features(self, suffixes: Collection[str]) -> Mapping[str, Any]:
        """The types of columns, as `datasets` names them, where it would guess them from the first rows; empty where
        files say them. `suffixes` are those of the videos."""
        return {}


class ListFormat(Format):
    """Videos are files, or stay where they are, and the format says what belongs to each.

    `videos_folder` is that of the videos in their split's folder. With `needs_files` its readers look for videos in the
    folder, so that a clip that stays where it is gets a link there.
    """

    videos_folder: ClassVar[str] = "videos"
    needs_files: ClassVar[bool] = False

    @abstractmethod
    def add(self, entries: Sequence[Entry], part: FolderPart, store: Store) -> None:
        """Write what belongs to these samples; all of a clip's come together. `store` has the tables."""

    def head(self) -> str:
        """What stands before the lines of a file about all shards."""
        return ""

    def tail(self, totals: Totals) -> str:
        """What stands after them; `totals` are those of its split."""
        return ""


class PackFormat(Format):
    """Videos are inside of larger files, each of samples of one shard and split.

    They lie in their split's folder, or without splits in `folder`, where readers that take a whole folder find nothing
    else. `version` goes up when equal samples make another file than before.
    """

    folder: ClassVar[str] = "data/"
    suffix: ClassVar[str]
    version: ClassVar[int] = 1

    @abstractmethod
    def about(self, entry: Entry) -> bytes:
        """All that a file has of a sample besides its video."""

    @abstractmethod
    def pack(self, entries: Sequence[Entry], drafts: Sequence[str], file: BinaryIO) -> None:
        """Write the file. `drafts` are the paths of the entries' videos; there are none for clips that stay where they
        are."""

    def data_files(self, split: str) -> list[str]:
        return [f"{split or self.folder}*{self.suffix}"]

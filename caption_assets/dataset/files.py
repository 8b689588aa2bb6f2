"""Files that are clips, by their names; and what is left of the others."""

from pathlib import PurePosixPath

from caption_assets.dataset.ids import clip_id
from caption_assets.dataset.listed import Found
from caption_assets.dataset.places import File, Place
from caption_assets.names import written
from caption_assets.records import Clip

CLIP_SUFFIXES = frozenset(
    {
        *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".3gp", ".ts", ".mts", ".m2ts"),
        *(".mpg", ".mpeg", ".wmv", ".flv", ".ogv", ".gif"),
    }
)


def no_clip(file: File) -> str:
    """What a file is that is no clip; empty for one that is."""
    if file.trouble:
        return file.trouble
    suffix = PurePosixPath(file.path).suffix.lower()
    return "" if suffix in CLIP_SUFFIXES else written(f"*{suffix}") if suffix else "without a suffix"


def clip_of(file: File, place: Place, shard: str) -> Clip:
    """The clip that a file is; `shard` is its shard's key."""
    relative = written(file.path)
    return Clip(clip_id(relative), shard, written(place.location(file.path)), relative, file.stamp)


def found(file: File, place: Place, shard: str) -> Found:
    """A file as a dataset finds it that is listed as a whole; `shard` is its shard's name."""
    trouble = no_clip(file)
    return Found(shard, written(file.path), None if trouble else clip_of(file, place, ""), trouble)


def holds_clips(place: Place, folder: str) -> bool:
    """Whether any clip lies below a folder, or may lie where nobody may look."""
    return place.holds(folder, lambda name: not no_clip(File(name)))

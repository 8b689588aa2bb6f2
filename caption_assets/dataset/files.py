"""Files that are clips, by their names; and what is left of the others."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
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
SIDECAR_SUFFIXES = (".json", ".txt", ".vtt")


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
    return Found(shard, written(file.path), None if trouble else clip_of(file, place, shard), trouble)


def found_with_sidecars(files: Iterable[File], place: Place, shard: str) -> Iterator[Found]:
    """The same of many files.

    A file that is called as a clip beside it, but for the suffix (`a.vtt` or `a.mp4.vtt` beside `a.mp4`), is a sidecar
    of that clip, and nothing by itself.
    """
    clips: list[Clip] = []
    beside: dict[str, list[File]] = defaultdict(list)
    for file in files:
        path = PurePosixPath(file.path)
        if not file.trouble and path.suffix.lower() in SIDECAR_SUFFIXES:
            beside[written(str(path.with_suffix("")))].append(file)
        elif trouble := no_clip(file):
            yield Found(shard, written(file.path), None, trouble)
        else:
            clips.append(clip_of(file, place, shard))
    used = set()
    for clip in clips:
        names = [name for name in (_stem(clip.relative_path), clip.relative_path) if name in beside]
        used.update(names)
        sidecars = tuple(written(place.location(file.path)) for name in names for file in beside[name])
        yield Found(shard, clip.relative_path, replace(clip, sidecars=sidecars) if sidecars else clip)
    for name, others in beside.items():
        for file in others if name not in used else ():
            yield Found(shard, written(file.path), None, no_clip(file))


def _stem(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(""))


def holding_clips(place: Place, folders: Sequence[str]) -> Iterator[str]:
    """Those folders below which any clip lies, or may lie where nobody may look."""
    return place.holding(folders, lambda name: not no_clip(File(name)))

"""Folders that a splitter, or this package, has written: their clips are made of a dataset's, and are none of its."""

from collections import defaultdict
from collections.abc import Iterable

WRITTEN = frozenset({"exports", "filtered_clips", "window_clips"})
"""Folders with clips in them that an output root has."""
OF_OUTPUT = "folders of an output"
"""What they are, as it is said of them."""
# Where both are in a folder, it is an output root.
_OUTPUT = frozenset({"tables", "metas"})
_ALL = WRITTEN | _OUTPUT | {"previews", "processed_clip_chunks", "processed_videos"}


def written_beside(folders: Iterable[str], names: frozenset[str] = WRITTEN) -> frozenset[str]:
    """Those of all folders in one that are called so, where it is an output root."""
    there = set(folders)
    return names & there if there >= _OUTPUT else frozenset()


def all_written_beside(folders: Iterable[str]) -> frozenset[str]:
    """The same with those that have no clips."""
    return written_beside(folders, _ALL)


def all_written_below(paths: Iterable[str]) -> list[str]:
    """The same of all folders that files lie in, by the files' paths."""
    inside: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        *parts, _ = path.split("/")
        for depth, part in enumerate(parts):
            if part in _ALL:
                inside["/".join(parts[:depth])].add(part)
    return sorted(
        f"{above}/{name}".lstrip("/") for above, there in inside.items() for name in all_written_beside(there)
    )

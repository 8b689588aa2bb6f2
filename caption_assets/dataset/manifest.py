"""A manifest: a file with a row for each clip, and whatever else is known of it."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from caption_assets.dataset.base import Listing, as_json
from caption_assets.dataset.ids import clip_id, given_id
from caption_assets.dataset.listed import Found, ListedDataset
from caption_assets.dataset.places import Place, place_at, place_failures, refused
from caption_assets.dataset.rows import rows_of
from caption_assets.dataset.sharding import HashRule
from caption_assets.names import actual, is_remote, written
from caption_assets.records import Clip

MANIFEST_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".txt"})
PATH_COLUMNS = (
    "path",
    "video",
    "video_path",
    "clip",
    "clip_location",
    "clip_path",
    "file_name",
    "file",
    "location",
    "uri",
    "url",
)
ID_COLUMNS = ("clip_id", "id", "uuid", "span_uuid")
_SHARD = "shard"
_AT_ONCE = 32


class ManifestDataset(ListedDataset):
    """A `Dataset` of the clips that a file names.

    Of the columns, the first of `PATH_COLUMNS` that is there has the clip's path, absolute or relative to the
    manifest's folder, or its URL; the first of `ID_COLUMNS`, if any, its id; `shard`, if any, its shard, without which
    and without a rule all clips are one shard, called as the manifest. All others are the clip's columns.

    A shard's version covers its rows, and the sizes and times of clips of this machine. Those behind URLs are asked for
    when the shard is worked on, with a request each.
    """

    wanted = "name a clip in each row"

    def __init__(self, root: str, rule: HashRule | None = None) -> None:
        super().__init__(root, rule)
        folder, slash, self._name = root.removeprefix("file://").rpartition("/")
        self._place: Place = place_at(folder if slash and folder else "/" if slash else ".")

    def find(self) -> Iterator[Found]:
        try:
            with place_failures(self.root):
                yield from self._found()
        except (FileNotFoundError, NotADirectoryError):
            raise refused(self.root, "it does not exist", "give a manifest that is there") from None

    def listing(self, shard: str) -> Listing:
        listing = super().listing(shard)
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return replace(listing, clips=list(threads.map(_stamped, listing.clips)))

    def path_of(self, clip: Clip) -> str | None:
        """A manifest names clips of any place, as others may: those of shards that it has still were its own."""
        path = clip.relative_path
        named = written(_normal(self._place, actual(path))), f"/{path}"
        is_so = clip.location in named or written(clip.location.replace("://", "/")) == path
        return path if path and is_so and clip.shard in self._by_shard() else None

    def _found(self) -> Iterator[Found]:
        named: set[str] = set()
        default = PurePosixPath(self._name).stem
        with self._place.open(self._name) as file:
            rows = rows_of(file, PurePosixPath(self._name).suffix.lower())
            for number, row in rows:
                line = f"row {number}"
                if isinstance(row, str):
                    yield Found(default, line, trouble=row)
                    continue
                column = next((name for name in PATH_COLUMNS if name in row), None)
                if column is None:
                    there = ", ".join(map(str, row)) or "none"
                    wrong = f"{line} has no column for the clip's path (its columns: {there})"
                    raise refused(
                        self.root, wrong, f"call it {PATH_COLUMNS[0]}, or one of: {', '.join(PATH_COLUMNS[1:])}"
                    )
                path = row[column]
                if not isinstance(path, str) or not path.strip():
                    yield Found(default, line, trouble="without a path")
                    continue
                location, relative = self._where(path.strip())
                shard = str(row.get(_SHARD) or default)
                if location in named:
                    yield Found(shard, relative, trouble="named before")
                    continue
                named.add(location)
                yield Found(shard, relative, self._clip(row, column, location, relative))

    def _clip(self, row: Mapping[str, Any], column: str, location: str, relative: str) -> Clip:
        id_column = next((name for name in ID_COLUMNS if row.get(name) not in (None, "")), None)
        own = given_id(str(row[id_column])) if id_column else clip_id(relative)
        others = {k: v for k, v in as_json(row).items() if k not in (column, id_column, _SHARD)}
        columns = {k: v for k, v in others.items() if v is not None and v != ""}
        return Clip(own, "", location, relative, None if is_remote(location) else _stamp(location), columns)

    def _where(self, path: str) -> tuple[str, str]:
        """The location, and the path below the root, of what a manifest calls `path`."""
        path = path.removeprefix("file://")
        if path.startswith("~/"):
            path = os.path.expanduser(path)
        if is_remote(path):
            return written(path), written(path.replace("://", "/"))
        if not path.startswith("/"):
            path = os.path.normpath(path)
            return written(_normal(self._place, path)), written(path)
        return written(os.path.normpath(path)), written(os.path.normpath(path).lstrip("/"))


def _normal(place: Place, path: str) -> str:
    """The location of a path below a place, which may lead out of it."""
    scheme, sep, rest = place.location(path).rpartition("://")
    return scheme + sep + os.path.normpath(rest)


def _stamped(clip: Clip) -> Clip:
    """With what its place says of it now. What is not there is found out by whoever opens it."""
    return replace(clip, stamp=_stamp(clip.location))


def _stamp(location: str) -> str | None:
    folder, _, name = actual(location).rpartition("/")
    try:
        return place_at(folder or "/").stamp(name)
    except Exception:  # every file system has errors of its own
        return None

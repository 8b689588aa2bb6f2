"""A root folder or URL: its sub-folders are the shards, and a shard's clips lie anywhere below it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem
from upath import UPath

from caption_assets.dataset.ids import clip_id, shard_key, shard_name
from caption_assets.errors import DatasetError
from caption_assets.records import Clip

# What file systems call a file's version.
_VERSIONS = (
    "ETag",
    "etag",
    "generation",
    "md5Hash",
    "mtime",
    "LastModified",
    "Last-Modified",
    "created",
)
CLIP_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})


@dataclass(frozen=True)
class FolderDataset:
    """A `Dataset` whose root is a local path or an fsspec URL.

    A root that holds clips directly is one shard, named after the root.
    """

    root: str

    @cached_property
    def path(self) -> UPath:
        """The root, checked to be a folder. Raises DatasetError."""
        fix = "give the folder (or fsspec URL) whose sub-folders are the shards"
        try:
            path = UPath(self.root)
            if not path.protocol:
                path = UPath(os.path.abspath(os.path.expanduser(self.root)))  # without "..": paths end up in documents
            if not path.exists():
                raise DatasetError(f"dataset {self.root!r}", "it does not exist", fix)
            if not path.is_dir():
                raise DatasetError(f"dataset {self.root!r}", "it is a file, not a folder", fix)
        except (OSError, ValueError, ImportError) as error:
            raise DatasetError(f"dataset {self.root!r}", f"it cannot be read ({error})", fix) from error
        return path

    @cached_property
    def is_single_shard(self) -> bool:
        return any(_is_clip(entry.name) and entry.is_file() for entry in self.path.iterdir())

    def shards(self) -> list[str]:
        """Partition keys of all shards, in the order of their names. Lists one folder, so it is cheap anywhere.

        Hidden folders are left out. Raises DatasetError where there is no shard at all.
        """
        if self.is_single_shard:
            return [shard_key(self.path.name)]
        names = (entry.name for entry in self.path.iterdir() if not entry.name.startswith(".") and entry.is_dir())
        keys = [shard_key(name) for name in sorted(names)]
        if not keys:
            raise DatasetError(
                f"dataset {self.root!r}",
                f"it holds neither clips ({', '.join(sorted(CLIP_SUFFIXES))}) nor folders of clips",
                "put each shard's clips into a sub-folder",
            )
        return keys

    def clips(self, shard: str) -> list[Clip]:
        """All clips below the shard with partition key `shard`, in the order of their paths.

        Ids are not checked for being distinct: see `split_duplicates`. Raises DatasetError for an unknown shard or
        one without any clip.
        """
        folder = self._folder(shard)
        found = folder.fs.find(folder.path, detail=True)
        clips = []
        for path in sorted(path for path in found if _is_clip(path)):
            # `find` gives paths as the filesystem spells them; the part below the shard's folder is what counts.
            below = path[len(folder.path.rstrip("/")) + 1 :] if folder.path != "/" else path[1:]
            relative = below if self.is_single_shard else f"{folder.name}/{below}"
            stamp = _stamp(folder.fs, path, found[path])
            clips.append(Clip(clip_id(relative), shard, str(folder / below), relative, stamp))
        if not clips:
            raise DatasetError(
                f"shard {shard_name(shard)!r} of dataset {self.root!r}",
                f"it holds no clip ({', '.join(sorted(CLIP_SUFFIXES))})",
                "put clips into the folder, or remove it",
            )
        return clips

    def _folder(self, shard: str) -> UPath:
        if shard not in (shards := self.shards()):
            shown = ", ".join(shards[:10]) + (", …" if len(shards) > 10 else "")
            raise DatasetError(f"shard {shard!r} of dataset {self.root!r}", "it is unknown", f"choose: {shown}")
        return self.path if self.is_single_shard else self.path / shard_name(shard)


def _is_clip(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in CLIP_SUFFIXES and not PurePosixPath(name).name.startswith(".")


def _stamp(fs: AbstractFileSystem, path: str, info: Mapping[str, Any]) -> str | None:
    """What a listing says of a file's version: its ETag or the like, else size and times; None where it says nothing.

    Of local files the time of the last change counts, too: it moves when somebody sets the other one back.
    """
    try:
        if info.get("islink"):  # the link's own times say nothing about the file that it leads to
            found = os.stat(path)
            info = {"size": found.st_size, "mtime": found.st_mtime, "created": found.st_ctime}
        elif not any(info.get(key) for key in _VERSIONS):
            info = fs.info(path)
    except OSError:  # a link that leads nowhere, or a file that is gone: whoever opens it says so
        return None
    versions = [str(info[key]) for key in _VERSIONS if info.get(key)]
    return " ".join([str(info.get("size")), *versions]) if versions else None

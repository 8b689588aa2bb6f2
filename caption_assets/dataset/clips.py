"""A dataset is a root folder or URL; its sub-folders are the shards, and a shard's clips lie anywhere below it."""

import os
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from urllib.parse import quote, unquote

from upath import UPath

from caption_assets.errors import DatasetError
from caption_assets.records import Clip

CLIP_SUFFIXES = frozenset({".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v"})


def clip_id(relative_path: str) -> str:
    """A clip's id: its file stem where that is a UUID, else uuid5(NAMESPACE_URL, `relative_path`).

    `relative_path` is posix and relative to the dataset root, so ids are the same on every machine.
    """
    stem = PurePosixPath(relative_path).stem
    try:
        parsed = uuid.UUID(stem)
    except ValueError:
        return _path_id(relative_path)
    # UUID() also takes braces, a urn: prefix and no hyphens; only the canonical spelling names a clip.
    return str(parsed) if str(parsed) == stem.lower() else _path_id(relative_path)


def _path_id(relative_path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, relative_path))


def shard_key(name: str) -> str:
    """Partition key of a shard folder: characters outside `[A-Za-z0-9._-]` percent-encoded as UTF-8.

    Dagster forbids "..." and control characters in keys, and commas break selections in its UI.
    """
    key = quote(name, safe="").replace("~", "%7E")
    return key.replace(".", "%2E") if "..." in key else key


def shard_name(key: str) -> str:
    """Folder name of a partition key; the inverse of `shard_key`."""
    return unquote(key)


@dataclass(frozen=True)
class Dataset:
    """A dataset root: a local path or an fsspec URL.

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
        paths = sorted(file for file in folder.fs.find(folder.path) if _is_clip(file))
        clips = []
        for path in paths:
            # `find` gives paths as the filesystem spells them; the part below the shard's folder is what counts.
            below = path[len(folder.path.rstrip("/")) + 1 :] if folder.path != "/" else path[1:]
            relative = below if self.is_single_shard else f"{folder.name}/{below}"
            clips.append(Clip(clip_id(relative), shard, str(folder / below), relative))
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
            raise DatasetError(
                f"shard {shard!r} of dataset {self.root!r}", "there is no such shard", f"choose: {shown}"
            )
        return self.path if self.is_single_shard else self.path / shard_name(shard)


def split_duplicates(clips: list[Clip]) -> tuple[list[Clip], dict[str, str]]:
    """Gives clips whose id is taken an id of their own, made from their path.

    Returns the clips, now with distinct ids, and for each changed one {new id: path of the clip that has its id}.
    """
    first: dict[str, str] = {}
    duplicates: dict[str, str] = {}
    distinct = []
    for clip in clips:
        if clip.clip_id in first:
            duplicates[_path_id(clip.relative_path)] = first[clip.clip_id]
            clip = Clip(_path_id(clip.relative_path), clip.shard, clip.path, clip.relative_path)
        else:
            first[clip.clip_id] = clip.relative_path
        distinct.append(clip)
    return distinct, duplicates


def _is_clip(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in CLIP_SUFFIXES and not PurePosixPath(name).name.startswith(".")

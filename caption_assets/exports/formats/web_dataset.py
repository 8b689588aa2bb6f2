"""WebDataset: tars in which a sample is three files of one name, the video, `.txt` and `.json`."""

import io
import json
import os
import tarfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from caption_assets.exports.base import Entry, PackFormat
from caption_assets.exports.columns import DATASETS_TYPES, fields


class WebDataset(PackFormat):
    """`.txt` is the text, `.json` has all columns. Equal samples make equal bytes: no times, no owners."""

    name = "webdataset"
    videos = ("windows", "clips")
    suffix = ".tar"

    def about(self, entry: Entry) -> bytes:
        return _json(entry)

    def features(self, suffixes: Collection[str]) -> Mapping[str, Any]:
        """Without them, a column that is null in the first samples is taken to be null in all, and loading fails."""
        videos = {suffix.removeprefix("."): "video" for suffix in sorted(suffixes)}
        return {**videos, "txt": "string", "json": DATASETS_TYPES, "__key__": "string", "__url__": "string"}

    def pack(self, entries: Sequence[Entry], drafts: Sequence[str], file: BinaryIO) -> None:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry, draft in zip(entries, drafts, strict=True):
                with open(draft, "rb") as video:
                    suffix = PurePosixPath(entry.video.name).suffix
                    _add(tar, entry.sample.name + suffix, video, os.path.getsize(draft))
                for suffix, data in ((".txt", entry.sample.text.encode()), (".json", _json(entry))):
                    _add(tar, entry.sample.name + suffix, io.BytesIO(data), len(data))


def _json(entry: Entry) -> bytes:
    return json.dumps(fields(entry), ensure_ascii=True, allow_nan=False).encode()


def _add(tar: tarfile.TarFile, name: str, file: BinaryIO | io.BytesIO, size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    tar.addfile(member, file)

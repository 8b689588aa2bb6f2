"""WebDataset: tars of samples, whose files have the sample's name and a suffix each. Members stay where they are."""

import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from caption_assets.dataset.base import Listing, as_json, left_out
from caption_assets.dataset.files import no_clip
from caption_assets.dataset.ids import clip_id
from caption_assets.dataset.packed import PackedDataset
from caption_assets.dataset.places import File, refused
from caption_assets.names import Bytes, Cell, written
from caption_assets.records import Clip

# What else of a sample is taken along, where it is no longer than that.
_TEXTS = frozenset({".json", ".txt", ".cls", ".caption", ".text"})
_MOST_TEXT_BYTES = 1 << 16


class TarDataset(PackedDataset):
    """A `Dataset` whose shards are tars, and whose clips are their members.

    A tar's headers are read, with a request each behind a URL, and of its members only texts. What a sample has beside
    its clip are the clip's columns: the fields of its `.json`, and other texts under their suffix.
    """

    suffix = ".tar"

    def inside(self, file: File, shard: str) -> Listing:
        clips: dict[str, Clip] = {}
        samples: dict[str, dict[str, Any]] = {}
        others: list[tuple[str, str]] = []
        with self.place.open(file.path) as opened:
            for member in _members(opened, file, self.root, others):
                name = written(member.name.removeprefix("./"))
                suffix = PurePosixPath(name).suffix.lower()
                if not member.isreg():
                    if not member.isdir():
                        others.append(("links and special files", name))
                elif PurePosixPath(name).name.startswith("."):
                    others.append(("hidden", name))
                elif suffix in _TEXTS and member.size <= _MOST_TEXT_BYTES:
                    samples.setdefault(_sample(name), {}).update(_columns(suffix, _text(opened, member)))
                elif what := no_clip(File(name)):
                    others.append((what, name))
                elif name in clips:
                    others.append(("of a name that was there before", name))
                else:
                    clips[name] = self._clip(file, shard, name, member)
        with_columns = [replace(clip, columns=samples.get(_sample(name), {})) for name, clip in clips.items()]
        return Listing(with_columns, left_out(others))

    def path_inside(self, part: Bytes | Cell, path: str) -> str | None:
        return part.name if isinstance(part, Bytes) else None

    def _clip(self, file: File, shard: str, name: str, member: tarfile.TarInfo) -> Clip:
        relative = f"{written(file.path)}/{name}"
        last = member.offset_data + member.size - 1
        place = Bytes(written(self.place.location(file.path)), name, member.offset_data, last)
        return Clip(clip_id(relative), shard, str(place), relative, file.stamp)


def _members(opened: BinaryIO, file: File, root: str, others: list[tuple[str, str]]) -> Iterator[tarfile.TarInfo]:
    """The members up to where the tar breaks off, which is noted among `others`."""
    try:
        tar = tarfile.open(fileobj=opened, mode="r:")  # noqa: SIM115
    except tarfile.ReadError as error:
        wrong = f"{written(file.path)} is no tar, or a compressed one ({error})"
        raise refused(root, wrong, "unpack it, or take it out: members are read where they lie") from None
    before = 0
    while True:
        try:
            member = tar.next()
        except tarfile.ReadError:
            others.append(("that the tar breaks off before", f"what follows byte {before}"))
            return
        if member is None:
            return
        before = member.offset_data + member.size
        yield member
        tar.members.clear()  # type: ignore[attr-defined] # it keeps them all


def _text(opened: BinaryIO, member: tarfile.TarInfo) -> bytes:
    opened.seek(member.offset_data)
    return opened.read(member.size)


def _columns(suffix: str, data: bytes) -> Mapping[str, Any]:
    text = data.decode("utf-8", "replace")
    if suffix != ".json":
        return {suffix[1:]: text.strip()}
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    columns = as_json(value)
    return columns if isinstance(columns, dict) else {"json": columns}


def _sample(name: str) -> str:
    """What WebDataset groups files by: the path up to the first dot of the name."""
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]

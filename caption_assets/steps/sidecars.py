"""What files beside clips say of them, for prompts that name it. They are read when they are asked for."""

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any

from caption_assets.errors import ClipError
from caption_assets.media.subtitles import cues
from caption_assets.models.templates import SIDECAR
from caption_assets.names import actual, is_remote, open_url
from caption_assets.store.rows import WindowRow

_MOST_BYTES = 1 << 20  # of one file
_AT_ONCE = 16


class UnsaidError(ClipError):
    """Something that a prompt names and that nothing says of a clip."""


class SidecarError(UnsaidError):
    """A file beside a clip that a prompt names, and that is not there or cannot be used."""

    kind = "sidecar"


class Sidecars:
    """What the files beside the clips of some windows say, by the names that prompts have for it: `sidecar.txt` is a
    file's text, `sidecar.json` too, `sidecar.json.<name>` a field of that, and `sidecar.vtt` has the lines that are
    shown at any time of the window. Of several files of a kind the first counts."""

    def __init__(self, rows: Iterable[WindowRow], names: Iterable[str]) -> None:
        """Reads the files that `names` ask for, each once."""
        kinds = {kind_named(name) for name in names if name.startswith(SIDECAR)}
        self._of = {row.clip_id: _by_kind(row.sidecars, kinds) for row in rows}
        wanted = {location for of_clip in self._of.values() for location in of_clip.values()}
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            self._data = dict(zip(wanted, threads.map(_read, wanted), strict=True))

    def values(self, row: WindowRow) -> Mapping[str, Any]:
        """Raises SidecarError for a file that cannot be read, is larger than a MiB, no UTF-8, no JSON, or no WebVTT."""
        values: dict[str, Any] = {}
        for kind, location in self._of[row.clip_id].items():
            data = self._data[location]
            if isinstance(data, SidecarError):
                raise data
            # However a file's lines end, it says the same.
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            try:
                values |= {f"{SIDECAR}{name}": value for name, value in _values(kind, data, row).items()}
            except (ValueError, RecursionError) as error:  # of a file that is too deep, too
                raise _refused(location, f"it cannot be used ({error})") from None
        return values


def kind_of(location: str) -> str:
    """The kind of a file beside a clip: `txt`, `json` or `vtt`."""
    return PurePosixPath(location).suffix.lower().removeprefix(".")


def kind_named(name: str) -> str:
    """The kind that a prompt names: `json` of `sidecar.json.title`."""
    return name.split(".")[1]


def _by_kind(locations: Iterable[str], kinds: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for location in locations:
        if (kind := kind_of(location)) in kinds:
            found.setdefault(kind, location)
    return found


def _values(kind: str, data: bytes, row: WindowRow) -> dict[str, Any]:
    start_s, end_s = row.start_s or 0.0, row.end_s or 0.0
    if kind == "vtt":
        return {kind: "\n".join(cue.text for cue in cues(data) if cue.start_s < end_s and cue.end_s > start_s)}
    text = data.decode("utf-8-sig").strip()
    fields = json.loads(text) if kind == "json" else None
    named = fields.items() if isinstance(fields, dict) else ()
    return {kind: text, **{f"{kind}.{name}": value for name, value in named}}


def _read(location: str) -> bytes | SidecarError:
    path = actual(location)
    try:
        if is_remote(path):
            files, below = open_url(path)
            data: bytes = files.cat_file(below, start=0, end=_MOST_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except Exception as error:  # every file system has errors of its own
        return _refused(location, f"it cannot be read ({error})")
    return data if len(data) <= _MOST_BYTES else _refused(location, f"it has more than {_MOST_BYTES} bytes")


def _refused(location: str, wrong: str) -> SidecarError:
    return SidecarError(f"sidecar {location}", wrong, "correct it, or take it away")

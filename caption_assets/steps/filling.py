"""What is filled into a prompt about a window: its names, and what a dataset, the clip and files beside it say."""

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import Any

from caption_assets.dataset import Dataset
from caption_assets.errors import ConfigError, DatasetError, ShardError
from caption_assets.models.templates import COLUMNS, PREVIOUS_CAPTION, SIDECAR, filled
from caption_assets.records import Clip
from caption_assets.steps.sidecars import SidecarError, Sidecars, UnsaidError, kind_named, kind_of
from caption_assets.store.rows import WindowRow


class ColumnError(UnsaidError):
    """A column that a prompt names, and in which the dataset says nothing of a clip."""

    kind = "column"


def check_known(names: Iterable[str], dataset: Dataset, shards: Iterable[str]) -> None:
    """Raises ConfigError where prompts name a column, or a file beside the clip, that no clip of `shards` has.

    They are listed until everything has been found. A shard that cannot be listed may have it.
    """
    named = dict.fromkeys(name for name in names if name.startswith((COLUMNS, SIDECAR)))
    # A field of a sidecar is known when that is read: what can be known before is the file.
    wanted = {name if name.startswith(COLUMNS) else f"{SIDECAR}{kind_named(name)}": name for name in named}
    known: dict[str, None] = {}
    for shard in shards if wanted else ():
        try:
            known |= dict.fromkeys(name for clip in dataset.clips(shard) for name in _said_of(clip))
        except DatasetError:
            return
        if wanted.keys() <= known.keys():
            return
    for name in (name for source, name in wanted.items() if source not in known):
        fix = f"choose of what is said of them: {', '.join(known) or 'nothing'}"
        raise ConfigError(f"prompt with {{{name}}}", "the dataset says that of no clip", fix)


def check_columns(names: Iterable[str], rows: Iterable[WindowRow]) -> None:
    """Raises ShardError for a column that says nothing of the clip of any of a shard's windows: it may be the prompt
    that is wrong, and then what the windows have is kept."""
    wanted = {name for name in names if name.startswith(COLUMNS)}
    if not wanted or not (each := [_columns(row) for row in rows]):
        return
    known = list(dict.fromkeys(chain.from_iterable(each)))
    for name in sorted(wanted.difference(known)):
        there = ", ".join(known) or "none"
        wrong = "the dataset says that of no clip of the shard"
        raise ShardError(f"prompt with {{{name}}}", wrong, f"their columns are: {there}")


def known_of(row: WindowRow, names: Collection[str], sidecars: Sidecars, previous: str) -> Mapping[str, Any]:
    """What the `names` of prompts stand for in a window, and more; `previous` is the caption of the window before, ""
    where there is none.

    Raises ColumnError for a column that says nothing of the clip, SidecarError for a file beside it that is not there
    or cannot be used.
    """
    known = _columns(row) | {
        "clip.relative_path": row.relative_path,
        "clip.id": row.clip_id,
        "clip.duration_s": row.duration_s,
        "window.start_s": row.start_s,
        "window.end_s": row.end_s,
        PREVIOUS_CAPTION: previous,
        **sidecars.values(row),
    }
    for name in names:
        if name in known:
            continue
        asked = f"prompt with {{{name}}}, for clip {row.relative_path}"
        if name.startswith(SIDECAR):
            there = ", ".join(row.sidecars) or "none"
            raise SidecarError(asked, f"no file beside it says that (there: {there})", "put one there")
        there = ", ".join(each for each in known if each.startswith(COLUMNS)) or "none"
        raise ColumnError(asked, "the dataset says nothing in that column of it", f"its columns are: {there}")
    return known


def fill(prompt: str, known: Mapping[str, Any]) -> str:
    """Whatever stands in a dataset: half of a pair of surrogates can be written as JSON, and read by no model."""
    return filled(prompt, known).encode(errors="replace").decode()


def _said_of(clip: Clip) -> list[str]:
    """What prompts can name of a clip, as far as a listing tells."""
    return [*(f"{COLUMNS}{name}" for name in clip.columns), *(f"{SIDECAR}{kind_of(each)}" for each in clip.sidecars)]


def _columns(row: WindowRow) -> dict[str, Any]:
    return {f"{COLUMNS}{name}": value for name, value in json.loads(row.columns or "{}").items()}

"""Parquet files with the bytes of videos in them, as Hugging Face keeps them. A row's video is read where it lies."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from caption_assets.dataset.base import Listing, as_json
from caption_assets.dataset.ids import clip_id
from caption_assets.dataset.manifest import PATH_COLUMNS
from caption_assets.dataset.packed import PackedDataset
from caption_assets.dataset.places import File, Place, place_at, place_failures, refused
from caption_assets.names import Bytes, Cell, written
from caption_assets.records import Clip

# Where a file has several, the first of these.
_COLUMNS = ("video", "mp4", "clip", "bytes")
_DATA = "data"


class ParquetDataset(PackedDataset):
    """A `Dataset` whose shards are Parquet files, and whose clips are the videos of their rows.

    The videos are a column of bytes, or of `bytes` with a `path`, as `datasets.Video` has it. Other columns are the
    clip's. A listing reads these, and no video.
    """

    suffix = ".parquet"

    @staticmethod
    def is_at(root: str, place: Place, folders: Sequence[str], others: Sequence[str]) -> bool:
        """Whether a root with these folders and files is one: it, or its folder `data`, has such files."""
        path = next((name for name in sorted(others) if name.endswith(".parquet")), None)
        if path is None and _DATA in folders:
            first = next((file.path for file in place.files(_DATA) if not file.trouble), "")
            path = first if first.endswith(".parquet") else None
        if path is None:
            return False
        with place_failures(root), place.open(path) as opened:
            return _video_column(opened) is not None

    def inside(self, file: File, shard: str) -> Listing:
        import pyarrow.parquet as pq

        with self.place.open(file.path) as opened:
            column = _video_column(opened)
            if column is None:
                raise refused(self.root, f"{written(file.path)} has no column of videos", "give files that have one")
            name, has_path = column
            table = pq.ParquetFile(opened)
            plain = [field.name for field in table.schema_arrow if field.name != name and not _is_large(field.type)]
            rows = table.read(columns=[*plain, *([f"{name}.path"] if has_path else [])]).to_pylist()
            rows = rows or [{} for _ in range(table.metadata.num_rows)]
        location, relative = written(self.place.location(file.path)), written(file.path)
        names = [PurePosixPath(_path(row.pop(name, None))).name for row in rows]
        count = Counter(names)
        clips = []
        for number, (row, given) in enumerate(zip(rows, names, strict=True)):
            path = f"{relative}/{written(given) if given and count[given] == 1 else f'{number:06}.mp4'}"
            columns = {k: v for k, v in as_json(row).items() if v is not None}
            clips.append(Clip(clip_id(path), shard, str(Cell(location, name, number)), path, file.stamp, columns))
        return Listing(clips)

    def path_inside(self, part: Bytes | Cell, path: str) -> str | None:
        return path if isinstance(part, Cell) and "/" not in path else None


def holds_videos(path: str) -> bool:
    """Whether the file at a path or URL has a column of videos, and is no manifest with other bytes in it. One that
    cannot be read has none."""
    folder, slash, name = path.removeprefix("file://").rpartition("/")
    try:
        with place_at(folder if slash and folder else "/" if slash else ".").open(name) as opened:
            column = _video_column(opened)
            return column is not None and (column[0] in _COLUMNS or not _names_paths(opened))
    except Exception:  # whoever reads it says so
        return False


def _video_column(opened: BinaryIO) -> tuple[str, bool] | None:
    """The name of the column with videos, and whether paths stand beside their bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def is_bytes(of: pa.DataType) -> bool:
        return pa.types.is_binary(of) or pa.types.is_large_binary(of)

    found = {}
    for field in pq.ParquetFile(opened).schema_arrow:
        parts = {part.name: part.type for part in field.type} if pa.types.is_struct(field.type) else {}
        if is_bytes(field.type) or ("bytes" in parts and is_bytes(parts["bytes"])):
            found[field.name] = "path" in parts
    name = next((name for name in _COLUMNS if name in found), next(iter(found), None))
    return None if name is None else (name, found[name])


def _names_paths(opened: BinaryIO) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = (pa.types.is_string, pa.types.is_large_string)
    schema = pq.ParquetFile(opened).schema_arrow
    return any(is_text(of.type) for of in schema if of.name in PATH_COLUMNS for is_text in texts)


def _is_large(of: Any) -> bool:
    return "binary" in str(of)


def _path(value: Any) -> str:
    return (value.get("path") if isinstance(value, dict) else None) or ""

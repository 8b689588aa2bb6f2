"""Clips that are part of a larger file: their bytes, and no others, as a file of their own."""

from typing import Any

from caption_assets.media.faults import MissingClipError, TruncatedError
from caption_assets.names import Bytes, Cell, actual, is_remote, open_url

# So many bytes a request, and in memory.
_CHUNK = 64 << 20


def fetch_part(part: Bytes | Cell, location: str, local: str) -> None:
    """Writes a part of a file into a file of this machine. `location` is its name in errors. Raises ClipError."""
    try:
        url = actual(part.file)
        files, path = open_url(url if is_remote(url) else f"file://{url}")
        with open(local, "wb") as out:
            if isinstance(part, Bytes):
                complete, wrong = _copy_bytes(files, path, part, out), "its file ends before it does"
            else:
                complete, wrong = _copy_cell(files, path, part, out), "its cell is empty"
    except Exception as error:  # every file system has errors of its own
        raise MissingClipError(location, f"it cannot be read ({error})", "check its file and permissions") from error
    if not complete:
        raise TruncatedError(location, wrong, "fetch the file again, or mend it")


def _copy_bytes(files: Any, path: str, part: Bytes, out: Any) -> bool:
    """Whether all of them were there."""
    for start in range(part.first, part.last + 1, _CHUNK):
        end = min(start + _CHUNK, part.last + 1)
        data = files.cat_file(path, start=start, end=end)
        out.write(data)
        if len(data) != end - start:
            return False
    return True


def _copy_cell(files: Any, path: str, part: Cell, out: Any) -> bool:
    """Whether there was anything. Reads the row's group, of the column of bytes only, as far as the row."""
    import pyarrow.parquet as pq

    with files.open(path, "rb") as opened:
        table = pq.ParquetFile(opened, buffer_size=1 << 20)
        first, group = 0, 0
        while first + table.metadata.row_group(group).num_rows <= part.row:
            first += table.metadata.row_group(group).num_rows
            group += 1
        is_struct = table.schema_arrow.field(part.column).type.num_fields > 0
        name = f"{part.column}.bytes" if is_struct else part.column
        batches = table.iter_batches(batch_size=1, row_groups=[group], columns=[name])
        for at, batch in enumerate(batches, first):
            if at == part.row:
                cell = batch.column(0)
                cell = cell.field("bytes") if is_struct else cell
                data = cell[0].as_buffer() if cell[0].is_valid else None
                out.write(data or b"")
                return data is not None and data.size > 0
    return False

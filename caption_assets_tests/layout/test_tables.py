"""Rows and Parquet: nothing is lost or changes its type, and older files still load."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pytest

from caption_assets.errors import StoreError
from caption_assets.layout.tables import COLUMNS, ROW_TYPES, as_asset, merge_rows, rows_to_table, schema, table_to_rows
from caption_assets.records import CaptionRow, EnhancedRow, PreviewRow, WindowRow

from .rows import caption, enhanced, failed_caption, failed_clip, preview, window

EXAMPLES = [
    [window(mp4_path="window_clips/x/0_249.mp4", rotation=90, audio_codec="aac"), failed_clip()],
    [preview(window()), preview(window(), path=None, num_frames=None, status="failed", error_kind="preview")],
    [caption(window(), 'é 自転車 "q"\nline 2 \0 👍', prompt_tokens=7), failed_caption(window())],
    [enhanced(caption(window()))],
]


@pytest.mark.parametrize("row_type", ROW_TYPES.values())
def test_every_field_of_a_row_has_a_described_column_in_its_order(row_type: type[Any]) -> None:
    assert [column.name for column in COLUMNS[row_type]] == [field.name for field in fields(row_type)]
    assert schema(row_type).names == [field.name for field in fields(row_type)]
    assert all(column.description.endswith((".", "…")) and column.type_name for column in COLUMNS[row_type])


@pytest.mark.parametrize("row_type", ROW_TYPES.values())
def test_column_types_follow_the_fields(row_type: type[Any]) -> None:
    wanted = {"int": pa.int64(), "float": pa.float64(), "tuple[int, ...]": pa.list_(pa.int64())}
    wanted |= {"tuple[float, ...]": pa.list_(pa.float64())}
    for column in COLUMNS[row_type]:
        hint = get_type_hints(row_type)[column.name]
        name = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
        assert column.type == wanted.get(name.removesuffix(" | None"), pa.string()), column.name


@pytest.mark.parametrize("rows", EXAMPLES, ids=["windows", "previews", "captions", "enhanced"])
def test_rows_come_back_as_they_were(rows: list[Any]) -> None:
    table = rows_to_table(rows, type(rows[0]))
    assert table_to_rows(table, type(rows[0])) == rows


def test_nulls_do_not_turn_integers_into_floats() -> None:
    rows = [window(rotation=None), window(rotation=90)]
    back = table_to_rows(rows_to_table(rows, WindowRow), WindowRow)
    assert [row.rotation for row in back] == [None, 90]
    assert all(type(row.clip_frames) is int and type(row.frame_ids) is tuple for row in back)


@pytest.mark.parametrize("row", [window(clip_frames=2.5), window(codec=7), window(frame_ids=("x",))])
def test_values_of_another_type_are_not_bent_to_fit(row: WindowRow) -> None:
    with pytest.raises((TypeError, AttributeError)):
        rows_to_table([row], WindowRow)


@pytest.mark.parametrize("rows", EXAMPLES, ids=["windows", "previews", "captions", "enhanced"])
def test_arrays_are_what_arrow_would_make_of_the_values(rows: list[Any]) -> None:
    for many in (rows * 20, []):
        table = rows_to_table(many, type(rows[0]))
        table.validate(full=True)
        for name in table.column_names:
            wanted = pa.chunked_array([pa.array([getattr(row, name) for row in many], table.schema.field(name).type)])
            assert table.column(name).equals(wanted), name


def test_writing_and_reading_a_table_does_not_import_pandas(tmp_path: Path) -> None:
    code = """
import sys
from caption_assets.layout.render import render_shard
from caption_assets.layout.store import Store
from caption_assets.records import WindowRow
row = WindowRow(clip_id="c", relative_path="c", source="c", window_size=4, remainder_threshold=4, sampling_fps=2.0)
store = Store(sys.argv[1])
store.append_rows("clip_windows", "s", [row])
store.commit_rows("clip_windows", "s", store.read_rows("clip_windows", "s"))
assert store.read_rows("clip_windows", "s") == [row]
render_shard(store, "s")
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def test_an_older_file_is_filled_with_defaults_and_a_newer_one_is_cut() -> None:
    table = rows_to_table([caption(window())], CaptionRow)
    older = table.drop_columns(["first_text", "error_kind", "seconds"])
    newer = table.append_column("mood", pa.array(["calm"]))
    assert table_to_rows(older, CaptionRow) == table_to_rows(newer, CaptionRow) == [caption(window())]
    windows = rows_to_table([window()], WindowRow).drop_columns(["frame_ids"])
    assert table_to_rows(windows, WindowRow)[0].frame_ids == ()


def test_a_file_without_an_identity_is_no_table() -> None:
    table = rows_to_table([caption(window())], CaptionRow)
    with pytest.raises(ValueError, match="clip_id is missing"):
        table_to_rows(table.drop_columns(["clip_id"]), CaptionRow)
    with pytest.raises(ValueError, match="start_frame"):
        table_to_rows(table.set_column(2, "start_frame", pa.array([None], pa.int64())), CaptionRow)
    with pytest.raises(pa.ArrowInvalid):
        table_to_rows(table.set_column(2, "start_frame", pa.array(["x"])), CaptionRow)


def test_a_file_name_that_is_no_utf8_is_kept_readable() -> None:
    row = window(relative_path=b"caf\xe9.mp4".decode("utf-8", "surrogateescape"))
    assert table_to_rows(rows_to_table([row], WindowRow), WindowRow)[0].relative_path == "caf\\udce9.mp4"


def test_later_rows_win_and_rows_are_in_order() -> None:
    rows = [
        window("b", 256, 511),
        window("b", 0, 255),
        window("a", 1000, 1255),
        window("a", 256, 511, codec="old"),
        failed_clip("a"),
        window("a", 256, 511, codec="new"),
    ]
    merged = merge_rows(rows)
    assert [(row.clip_id, row.start_frame) for row in merged] == [
        ("a", None),
        ("a", 256),
        ("a", 1000),
        ("b", 0),
        ("b", 256),
    ]
    assert merged[1].codec == "new"


def test_only_the_four_assets_have_tables() -> None:
    assert as_asset("clip_windows") == "clip_windows"
    with pytest.raises(StoreError, match="there is no such asset"):
        as_asset("clips")
    assert set(ROW_TYPES.values()) == {WindowRow, PreviewRow, CaptionRow, EnhancedRow}

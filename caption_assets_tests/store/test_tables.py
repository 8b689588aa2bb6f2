"""Rows and Parquet: nothing is lost or changes its type, and older files still load."""

from dataclasses import fields, replace
from typing import Any

import pyarrow as pa
import pytest

from caption_assets.store.rows import CaptionRow, WindowRow
from caption_assets.store.tables import (
    FINDING_TABLES,
    TABLES,
    columns,
    merge_rows,
    rows_to_table,
    schema,
    table_to_rows,
)
from caption_assets_tests.rows import caption, enhanced, failed_caption, failed_clip, finding, preview, window

EXAMPLES = [
    [window(mp4_path="window_clips/x/0_249.mp4", rotation=90, audio_codec="aac"), failed_clip()],
    [preview(window()), preview(window(), path=None, num_frames=None, status="failed", error_kind="preview")],
    [caption(window(), 'é 自転車 "q"\nline 2 \0 👍', prompt_tokens=7), failed_caption(window())],
    [enhanced(caption(window()))],
    [finding(caption(window()), markup="it is JSON", empty="it has no word"), finding(caption(window(start=250)))],
]


ROW_TYPES = [table.row for table in (*TABLES.values(), *FINDING_TABLES)]


@pytest.mark.parametrize("row_type", ROW_TYPES)
def test_every_field_of_a_row_is_a_described_column(row_type: type[Any]) -> None:
    names = [column.name for column in columns(row_type)]
    assert sorted(names) == sorted(field.name for field in fields(row_type))
    assert schema(row_type).names == names
    assert names[-3:] == ["status", "error_kind", "error"] or "status" not in names
    assert all(column.description.endswith((".", "…")) for column in columns(row_type))


def test_column_types_follow_the_fields() -> None:
    types = {column.name: column.type for row_type in ROW_TYPES for column in columns(row_type)}
    assert types["clip_id"] == types["status"] == types["text"] == pa.string()
    assert types["start_frame"] == types["width"] == types["prompt_tokens"] == pa.int64()
    assert types["sampling_fps"] == types["duration_s"] == types["wait_s"] == pa.float64()
    assert types["frame_ids"] == pa.list_(pa.int64())
    assert types["times_s"] == pa.list_(pa.float64())


@pytest.mark.parametrize("rows", EXAMPLES, ids=["windows", "previews", "captions", "enhanced", "findings"])
def test_rows_come_back_as_they_were(rows: list[Any]) -> None:
    table = rows_to_table(rows, type(rows[0]))
    assert table_to_rows(table, type(rows[0])) == rows


def test_a_reason_is_no_longer_than_a_reader_wants_it() -> None:
    """Whatever has failed; how it begins and ends is kept, also when it is written and read again."""
    said = f"it does not fit its schema (.b: {'y' * 5000} is too long)"
    row = window(status="failed", error_kind="any", error=said)
    assert len(row.error) == 500
    assert row.error.startswith("it does not fit its schema (.b: yyy")
    assert row.error.endswith("yyy is too long)")
    assert replace(row).error == row.error


def test_nulls_do_not_turn_integers_into_floats() -> None:
    rows = [window(rotation=None), window(rotation=90)]
    back = table_to_rows(rows_to_table(rows, WindowRow), WindowRow)
    assert [row.rotation for row in back] == [None, 90]
    assert all(type(row.clip_frames) is int and type(row.frame_ids) is tuple for row in back)


@pytest.mark.parametrize("row", [window(clip_frames=2.5), window(codec=7), window(frame_ids=("x",))])
def test_values_of_another_type_are_not_bent_to_fit(row: WindowRow) -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        rows_to_table([row], WindowRow)


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


def test_a_column_that_was_renamed_is_read_under_its_earlier_name() -> None:
    table = rows_to_table([window()], WindowRow)
    earlier = table.rename_columns(["source" if name == "location" else name for name in table.column_names])
    assert table_to_rows(earlier, WindowRow) == [window()]


def test_tables_are_named_as_the_assets_that_write_them() -> None:
    assert list(TABLES) == ["clip_windows", "window_previews", "window_captions", "enhanced_captions"]
    assert [table.keyed for table in TABLES.values()] == [False, False, True, True]

from caption_assets.steps import buffer
from caption_assets.steps.buffer import RowBuffer
from caption_assets.store import WINDOW_CAPTIONS, Store
from caption_assets_tests.rows import caption, window


def test_rows_are_durable_as_soon_as_there_are_many_or_some_time_has_passed(tmp_path, monkeypatch):
    rows = [caption(window(start=10 * k, end=10 * k + 9)) for k in range(80)]
    opened = RowBuffer(Store(tmp_path), WINDOW_CAPTIONS, "s", "qwen")
    lost = []
    for number, row in enumerate(rows[:70], 1):
        opened.add(row)
        lost.append(number - len(Store(tmp_path).read_rows(WINDOW_CAPTIONS, "s", "qwen")))
    assert max(lost) == 63
    monkeypatch.setattr(buffer, "_FLUSH_SECONDS", 0.0)
    opened.add(rows[70])
    assert Store(tmp_path).read_rows(WINDOW_CAPTIONS, "s", "qwen") == rows[:71]

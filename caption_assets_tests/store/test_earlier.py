"""What earlier versions have left is found."""

from dataclasses import replace

import pytest

from caption_assets.store.earlier import move_earlier
from caption_assets.store.rows import EnhancedRow
from caption_assets.store.store import Store
from caption_assets.store.tables import ENHANCED_CAPTIONS, Table
from caption_assets_tests.rows import caption, enhanced, window

EARLIER = Table("enhanced_captions", EnhancedRow, key_columns=("key",))


@pytest.mark.parametrize("in_parts", [False, True])
def test_enhanced_captions_of_an_earlier_version_move_to_the_key_of_their_captions(store: Store, in_parts) -> None:
    # The text model is called as a caption model is.
    old = enhanced(caption(window()), key="qwen")
    if in_parts:
        store.append_rows(EARLIER, "s", [old], "qwen")
    else:
        store.commit_rows(EARLIER, "s", [old], "qwen")
    newer = replace(old, text="Newer.")
    store.commit_rows(ENHANCED_CAPTIONS, "other", [newer], "qwen/qwen")
    for shard in ("s", "other", "none"):
        move_earlier(store, shard)
    assert store.keys(ENHANCED_CAPTIONS, "s") == ["qwen/qwen"]
    assert store.read_rows(ENHANCED_CAPTIONS, "s", "qwen/qwen") == [old]
    assert store.read_rows(ENHANCED_CAPTIONS, "other", "qwen/qwen") == [newer]
    assert store.names("tables/enhanced_captions/qwen") == ["qwen"]


def test_what_is_there_already_is_not_replaced_by_what_is_older(local: Store) -> None:
    old = enhanced(caption(window()))
    local.commit_rows(EARLIER, "s", [old], "qwen_lm")
    local.commit_rows(ENHANCED_CAPTIONS, "s", [replace(old, text="Newer.")], "qwen/qwen_lm")
    move_earlier(local, "s")
    assert [row.text for row in local.read_rows(ENHANCED_CAPTIONS, "s", "qwen/qwen_lm")] == ["Newer."]
    assert local.names("tables/enhanced_captions") == ["qwen"] or not local.names("tables/enhanced_captions/qwen_lm")

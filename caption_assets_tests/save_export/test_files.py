"""Documents as files, in every kind of place: whole, in the layout's form, and those of other tools."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from caption_assets.errors import StoreError
from caption_assets.save_export.files import parse_document, read_document, write_document
from caption_assets.store.store import Store


def test_documents_have_the_layouts_form(store: Store) -> None:
    write_document(store, "metas/v0/c.json", {"text": 'café "自転車"\n', "numbers": [1, 2.5], "none": None})
    assert store.read_bytes("metas/v0/c.json") == (
        b'{\n    "text": "caf\\u00e9 \\"\\u81ea\\u8ee2\\u8eca\\"\\n",\n'
        b'    "numbers": [\n        1,\n        2.5\n    ],\n    "none": null\n}'
    )


def test_names_with_spaces_marks_and_letters_of_all_kinds_work(store: Store) -> None:
    rel = "processed_videos/sub folder/自転車 #1 50% é?.mp4.json"
    assert write_document(store, rel, {"video": "x"})
    assert read_document(store, rel) == {"video": "x"}
    assert store.names("processed_videos/sub folder") == ["自転車 #1 50% é?.mp4.json"]


def test_an_identical_document_is_left_alone(local: Store) -> None:
    assert write_document(local, "metas/v0/c.json", {"a": 1})
    before = os.stat(local.url("metas/v0/c.json"))
    assert not write_document(local, "metas/v0/c.json", {"a": 1})
    after = os.stat(local.url("metas/v0/c.json"))
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)
    assert write_document(local, "metas/v0/c.json", {"a": 2})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_nan_is_refused_and_the_older_document_stays(store: Store, number: float) -> None:
    write_document(store, "metas/v0/c.json", {"score": 1.0})
    with pytest.raises(StoreError, match="a number that JSON cannot"):
        write_document(store, "metas/v0/c.json", {"score": number})
    assert read_document(store, "metas/v0/c.json") == {"score": 1.0}


def test_documents_of_other_tools_are_read_leniently() -> None:
    assert parse_document('\ufeff{"text": "自転車"}'.encode()) == {"text": "自転車"}
    assert parse_document(b'{"score": NaN, "other": -Infinity}') == {"score": None, "other": None}
    for torn in (b"", b'{"a": 1', b"[1, 2]", b"\xff\xfe{}", b"[" * 100_000):
        assert parse_document(torn) is None


def test_a_killed_writer_leaves_a_whole_document_and_no_other_json(local: Store) -> None:
    code = """
import sys
from caption_assets.save_export.files import write_document
from caption_assets.store.store import Store
store, number = Store(sys.argv[1]), 0
while True:
    number += 1
    write_document(store, "metas/v0/c.json", {"text": str(number % 10) * 2_000_000})
    print(number, flush=True)
"""
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", code, local.url()], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        document = read_document(local, "metas/v0/c.json")
        assert document is not None
        assert len(document["text"]) == 2_000_000
    assert list(Path(local.url("metas/v0")).glob("*.json")) == [Path(local.url("metas/v0/c.json"))]
    assert local.names("metas/v0") == ["c.json"]

"""Documents of other tools that hold anything anywhere: a run renders over them, whatever they are.

    python -m benchmarks.faults.documents [--count 5000] [--seed 0]

Each trial puts a clip's, a source video's and a chunk's document of the original into an output root, changes values,
types, keys or bytes of some of them at random, and renders a shard of that clip and a good one over them, as a run
does. The render must end, the good clip must be rendered, what belongs to others must be kept, a warning must name
every file that could not be used, and a second render must have nothing left to write.
"""

import argparse
import contextlib
import json
import logging
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from caption_assets.save_export import paths
from caption_assets.save_export.files import parse_document
from caption_assets.steps.context import StepContext
from caption_assets.steps.documents import render_documents
from caption_assets.store import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS, Store
from caption_assets.workers.local import Workers
from caption_assets_tests.rows import BIKES, caption, enhanced, preview, window

HOSTILE, SIBLING = "6eec9a17-4e7f-5f68-9502-5b3be81b4f20", "e30afb31-4f5b-560a-8170-ab61d92426f6"
SOURCE = "/data/videos/sub/long.mp4"
SHARD = "s"
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**64, -(10**30), 10**400, 1.5, -0.0, 1e308, float("nan"), float("inf")),
    *(
        "",
        "a",
        "qwen",
        "../../x",
        "/",
        "/etc/passwd",
        "a/../b",
        "\0",
        "\ud83d",
        "\udcff",
        "日本",
        "x" * 300,
        "long.mp4",
    ),
    *("\x1b[31m", "<b>[red]", [], {}, [None], [0], [[0]], [{}], {"": None}, {"a": {"b": []}}),
)
# Synced files cost nothing there.
_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_FOREIGN = {"aesthetic_score", "motion_score", "stage_perf", "note"}


def originals() -> dict[str, dict[str, Any]]:
    """The documents that a splitter and the stages after it leave, by path."""
    cut = {"source_video": SOURCE, "duration_span": [0.0, 10.0], "width_source": 1920, "height_source": 1080}
    more = {"framerate_source": 25.0, "motion_score": {"global_mean": 0.5}, "aesthetic_score": 4.2, "errors": ["x"]}
    frames = {"start_frame": 0, "end_frame": 249, "other_caption": "Theirs.", "score": 1, "provenance": {"other": {}}}
    meta = {"span_uuid": HOSTILE, **cut, **more, "windows": [frames], "valid": True, "note": "kept"}
    video = {"video": SOURCE, "height": 1080, "width": 1920, "num_total_clips": 2, "num_clip_chunks": 1, "note": 1}
    counts = {"num_clips_passed": 2, "num_clips_transcoded": 2, "total_clip_duration": 20.0, "max_clip_duration": 10.0}
    texts = {"all_windows": {SIBLING: {"0_9": "Old."}}, "all_windows_enhanced_caption": {}}
    chunk = {"video": SOURCE, "clip_chunk_index": 0, **counts, "clips": [HOSTILE, SIBLING], "filtered_clips": []}
    sibling = {**meta, "span_uuid": SIBLING}
    return {
        paths.clip_document(HOSTILE): meta,
        paths.clip_document(SIBLING): sibling,
        paths.processed_video("sub/long.mp4"): video,
        paths.processed_clip_chunk("sub/long.mp4", 0): {**chunk, **texts, "note": [1]},
    }


def mutated(value: Any, chosen: random.Random) -> Any:
    """The value with one thing in it changed at random."""
    if isinstance(value, dict) and value and chosen.random() < 0.9:
        key = chosen.choice(list(value))
        act = chosen.random()
        if act < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if act < 0.2:
            return {**value, chosen.choice(["", "x_caption", "preview", "status", "windows"]): _value(chosen)}
        return {**value, key: mutated(value[key], chosen)}
    if isinstance(value, list) and value and chosen.random() < 0.6:
        at = chosen.randrange(len(value))
        return [*value[:at], mutated(value[at], chosen), *value[at + 1 :]]
    return _value(chosen)


def _value(chosen: random.Random) -> Any:
    if chosen.random() < 0.05:
        deep: Any = 0
        for _ in range(chosen.choice([90, 300, 900])):
            deep = [deep] if chosen.random() < 0.5 else {"a": deep}
        return deep
    value = chosen.choice(_VALUES)
    return [value] * chosen.randint(1, 3) if chosen.random() < 0.2 else value


def as_bytes(document: Any, chosen: random.Random) -> bytes:
    """JSON, now and then damaged, in another encoding, or no object at all."""
    act = chosen.random()
    if act < 0.04:
        return chosen.choice([b"", b"null", b"[]", b'"text"', b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1e999}'])
    data = json.dumps(document, ensure_ascii=chosen.random() < 0.7).encode("utf-8", "surrogatepass")
    if act < 0.08:
        return data[: chosen.randrange(len(data))]
    if act < 0.10:
        at = chosen.randrange(len(data))
        return data[:at] + bytes([chosen.randrange(256)]) + data[at + 1 :]
    if act < 0.12:
        return b"\xef\xbb\xbf" + data
    return data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass") if act < 0.13 else data


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


@contextlib.contextmanager
def heard() -> Iterator[_Heard]:
    """What is logged by the package, and nowhere else."""
    logger, handler = logging.getLogger("caption_assets"), _Heard()
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def trial(root: Path, seed: str) -> str:
    """One trial. What it says is what was done; AssertionError, or whatever ends the render, is a finding."""
    chosen = random.Random(seed)
    store = Store(root)
    documents = originals()
    for _ in range(chosen.randint(1, 3)):
        rel = chosen.choice(list(documents))
        documents[rel] = mutated(documents[rel], chosen)
    files = {rel: as_bytes(document, chosen) for rel, document in documents.items()}
    for rel, data in files.items():
        store.write_bytes(rel, data)
    _commit(store)
    source_root = chosen.choice([None, "/data/videos", "/elsewhere"])
    with heard() as warned:
        render_documents(StepContext(store, Workers(1), source_root), SHARD)
    for rel, data in files.items():
        if rel != paths.clip_document(SIBLING):  # of another shard: read where the chunk lists it
            _check_kept(store, rel, data, warned.text)
    good = json.loads(store.read_bytes(paths.clip_document(BIKES)) or b"null")
    assert good["windows"][0]["qwen_caption"] == "A bike."
    hostile = json.loads(store.read_bytes(paths.clip_document(HOSTILE)) or b"null")
    assert hostile["windows"][0]["qwen_caption"] == "Hostile."
    store.delete(paths.rendered(SHARD))
    before = {rel: store.read_bytes(rel) for rel in files}
    with heard():
        render_documents(StepContext(store, Workers(1), source_root), SHARD)
    assert {rel: store.read_bytes(rel) for rel in files} == before, "a second render writes something else"
    return "warned" if warned.text else "no warning needed"


def _commit(store: Store) -> None:
    hostile = window(HOSTILE, location=store.url(f"clips/{HOSTILE}.mp4"), relative_path=f"{HOSTILE}.mp4")
    rows = [window(), hostile]
    captions = [caption(rows[0]), caption(hostile, "Hostile.")]
    store.commit_rows(CLIP_WINDOWS, SHARD, rows)
    store.commit_rows(WINDOW_PREVIEWS, SHARD, [preview(row) for row in rows])
    store.commit_rows(WINDOW_CAPTIONS, SHARD, captions, "qwen")
    store.commit_rows(ENHANCED_CAPTIONS, SHARD, [enhanced(row) for row in captions], "qwen/qwen_lm")


def _check_kept(store: Store, rel: str, before: bytes, warned: str) -> None:
    old, new = parse_document(before), parse_document(store.read_bytes(rel) or b"")
    is_meta = rel.startswith("metas/")
    if store.read_bytes(rel) == before:
        return
    assert new is not None
    if old is None:
        assert f"{store.url(rel)}: it is torn" in warned, f"{rel} was replaced without a word"
        return
    for key in _FOREIGN & old.keys():
        assert new[key] == old[key], f"{key} of {rel} is lost"
    for key in old.keys() - new.keys():
        assert key in ("errors", "error_details"), f"{key} of {rel} is lost"
    expected = {"source_video": str, "error_details": dict, "windows": list} if is_meta else {}
    expected |= {"clips": list, "filtered_clips": list, "all_windows": dict} if "chunks" in rel else {}
    wrong = [key for key, kind in expected.items() if key in old and not isinstance(old[key], kind)]
    assert not wrong or store.url(rel) in warned, f"{wrong} of {rel} were replaced without a word"


def campaign(count: int, seed: int) -> Counter[str]:
    """So many trials; what became of them, where a finding has its words and the seed of the first."""
    outcomes: Counter[str] = Counter()
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="documents-", dir=_MEMORY) as work:
        for number in range(count):
            name = f"{seed}.{number}"
            root = Path(work) / str(number)
            try:
                outcomes[trial(root, name)] += 1
            except Exception as error:
                words = f"FOUND {type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
                outcomes[f"{words} (first: {found.setdefault(words, name)})"] += 1
            shutil.rmtree(root)
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.perf_counter()
    outcomes = campaign(options.count, options.seed)
    for outcome, count in outcomes.most_common():
        print(f"{count:7d}  {outcome}")
    print(f"{options.count} trials in {time.perf_counter() - began:.1f} s")
    sys.exit(any(outcome.startswith("FOUND") for outcome in outcomes))


if __name__ == "__main__":
    main()

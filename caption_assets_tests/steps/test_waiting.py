"""Neither who asks an engine nor who takes its answers waits for a store."""

import gc
import threading
import weakref
from dataclasses import replace

import pytest

from caption_assets.dataset import open_dataset
from caption_assets.settings import CaptionModelSettings, CaptionSettings, PreviewSettings, WindowSettings
from caption_assets.steps import Progress, StepContext, caption_shards, model_session, stream, streams, window_shard
from caption_assets.steps.buffer import RowBuffer
from caption_assets.store import CLIP_WINDOWS, WINDOW_CAPTIONS, Store

ASKED = CaptionSettings(max_output_tokens=4, batch_size=1)
BOUND_S = 5  # of a hang


class Answers(Progress):
    """Says when a shard's first caption is there."""

    def __init__(self):
        self.of = {"a": threading.Event(), "b": threading.Event()}

    def advance(self, asset, shard, items=1, work=None):
        if asset == "window_captions" and items:
            self.of[shard].set()


@pytest.fixture
def given(tmp_path, clips_root, workers):
    context = StepContext(Store(tmp_path / "out"), workers, progress=Answers())
    for shard in ("a", "b"):
        window_shard(
            context, open_dataset(str(clips_root)), shard, WindowSettings(window_size=16, remainder_threshold=8)
        )
    return context


def captions(given):
    with model_session(CaptionModelSettings(device="cpu"), 1) as session:
        yield from caption_shards(given, ["a", "b"], session, ASKED, PreviewSettings(target_height=16))


def test_captions_go_on_while_the_documents_of_the_shard_before_are_rendered(given, monkeypatch):
    render, waited = stream.render_documents, []

    def render_late(context, shard, unchanged):
        if shard == "a":
            waited.append(context.progress.of["b"].wait(BOUND_S))
        render(context, shard, unchanged)

    monkeypatch.setattr(stream, "render_documents", render_late)
    assert all(ended.outcome.ok for ended in captions(given))
    assert waited == [True]
    assert len(given.store.names("metas/v0")) == 3


def test_the_next_shard_is_opened_while_this_one_is_captioned(given, monkeypatch):
    read, opened, waited = Store.read_table, threading.Event(), []

    def read_and_tell(self, table, shard, *more):
        if table is WINDOW_CAPTIONS and shard == "b":
            opened.set()
        return read(self, table, shard, *more)

    class Waits(Progress):
        def advance(self, asset, shard, items=1, work=None):
            if (asset, shard) == ("window_captions", "a") and items and not waited:
                waited.append(opened.wait(BOUND_S))

    monkeypatch.setattr(Store, "read_table", read_and_tell)
    # More windows than the engine reads ahead: its first answer comes before all of the shard is asked.
    assert all(ended.outcome.ok for ended in captions(replace(given, progress=Waits())))
    assert waited == [True]


def test_what_waits_to_be_finished_is_kept_where_all_is_broken_off(given, monkeypatch):
    going, left = threading.Event(), threading.Event()

    def hang(context, shard, unchanged):
        going.set()
        left.wait(BOUND_S)

    monkeypatch.setattr(stream, "render_documents", hang)
    ending = captions(given)
    threading.Thread(target=lambda: (going.wait(BOUND_S), given.progress.of["b"].wait(BOUND_S), left.set())).start()
    first = next(ending)
    ending.close()
    assert first.shard == "a"
    assert len(given.store.read_rows(WINDOW_CAPTIONS, "a", "demo")) == 9
    assert given.store.read_rows(WINDOW_CAPTIONS, "b", "demo")


def test_shards_that_have_ended_are_not_kept(given, monkeypatch):
    shards = [f"s{number}" for number in range(8)]
    for shard in shards:
        given.store.commit_rows(CLIP_WINDOWS, shard, given.store.read_rows(CLIP_WINDOWS, "b"))
    made, init = [], RowBuffer.__init__

    def remembered(self, *arguments, **named):
        init(self, *arguments, **named)
        made.append(weakref.ref(self))

    monkeypatch.setattr(RowBuffer, "__init__", remembered)

    def alive(previews=None):
        """How many there are whenever one has ended."""
        made.clear()
        with model_session(CaptionModelSettings(device="cpu"), 1) as session:
            for ended in caption_shards(replace(given, progress=Progress()), shards, session, ASKED, previews):
                assert ended.outcome.failed == 0
                gc.collect()
                yield sum(reference() is not None for reference in made)

    monkeypatch.setattr(streams, "_MOST_FINISHING", 0)
    monkeypatch.setattr(streams, "_MOST_IDLE", 2)
    gc.freeze()  # what is older than this test takes seconds to go through
    # The one that ends, the one that is asked, the one that is opened ahead, and one in which an engine reads on.
    assert max(alive()) <= 4
    assert len(made) == len(shards)
    # Where there is nothing to do, too: two that wait to be finished.
    assert max(alive()) <= 4
    # Of two tables each: where there are only previews to make.
    assert max(alive(PreviewSettings(target_height=16))) <= 8
    gc.unfreeze()

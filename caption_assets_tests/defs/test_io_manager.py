"""Assets that users add to a pipeline."""

import json
import re
from pathlib import Path

import dagster as dg
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from caption_assets.defs.partitions import range_tags
from caption_assets_tests.pipelines import QUIET, materialize

DOCS = (Path(__file__).parents[2] / "docs" / "dagster.md").read_text()
EXAMPLE = re.search(r"## Your own assets.*?```python\n(.*?)```", DOCS, re.S)[1]
KEYS = ["shard", "clip_id", "start_frame", "end_frame"]


@pytest.fixture(scope="module")
def captioned(tmp_path_factory, make_shards, make_pipeline):
    """A pipeline whose shards `a` and `b` have captions."""
    root = tmp_path_factory.mktemp("captioned")
    pipeline = make_pipeline(make_shards(root / "clips"), root / "out", enhanced=[])
    with dg.DagsterInstance.ephemeral() as instance:
        assert materialize(instance, pipeline, ["a", "b"], ["clip_windows", "window_captions"]).success
        yield pipeline, instance, root / "out"


def run(captioned, *assets, shards=("a", "b"), select=None):
    pipeline, instance, _ = captioned
    return dg.materialize(
        [*pipeline.assets, *assets],
        selection=list(select or assets),
        instance=instance,
        resources=pipeline.resources,
        run_config={"loggers": QUIET},
        raise_on_error=False,
        **({"partition_key": shards[0]} if len(shards) == 1 else {"tags": range_tags(shards)}),
    )


def added(pipeline, function, *, of="window_captions", keys=("demo",), ins=None, **more):
    """An asset as a user adds it, over a range of shards."""
    return dg.asset(
        ins={"rows": dg.AssetIn(ins or pipeline.names.asset(of, *keys))},
        partitions_def=pipeline.shards,
        backfill_policy=dg.BackfillPolicy.multi_run(16),
        io_manager_key="save_export",
        **more,
    )(function)


def windows(out, name):
    """What the windows of all documents hold under a name, by clip and frames."""
    found = {}
    for path in (out / "metas" / "v0").glob("*.json"):
        for window in json.loads(path.read_text())["windows"]:
            found[path.stem, window["start_frame"], window["end_frame"]] = window.get(name)
    return found


def failure(result):
    (event,) = result.get_step_failure_events()
    error = event.step_failure_data.error
    while error.cause:
        error = error.cause
    return error.message


def test_the_example_translates_over_a_range_of_shards(captioned):
    """As it is documented, but for the pipeline and its captions, which are those of the test."""
    pipeline, instance, out = captioned
    code = EXAMPLE.split("\n\n", 1)[1]
    assert len([line for line in code.splitlines() if line.strip()]) < 20
    names = {}
    exec(compile(EXAMPLE, "docs/dagster.md", "exec"), names)
    dg.Definitions.validate_loadable(names["defs"])
    french = code[code.index("WORDS") : code.index("defs =")]
    exec(compile(french, "docs/dagster.md", "exec"), names | {"pipeline": pipeline}, theirs := {})
    translated = run(captioned, theirs["french"])
    assert translated.success
    made = {each.partition: each.metadata for each in translated.asset_materializations_for_node("french")}
    assert {shard: told["dagster/partition_row_count"].value for shard, told in made.items()} == {"a": 3, "b": 1}
    assert made["a"]["dagster/uri"].value.endswith("tables/french/a.parquet")
    captions = windows(out, "demo_caption")
    shown = windows(out, "french")
    assert len(shown) == 4
    for window, caption in captions.items():
        words = names["WORDS"]
        assert shown[window] == {"text": " ".join(words.get(word, word) for word in caption.split())}
    stored = pq.read_table(out / "tables" / "french" / "a.parquet")
    assert stored.num_rows == 3
    assert set(KEYS[1:]) < set(stored.column_names)
    # Captions that are made anew leave it in the documents; one shard alone is replaced alone.
    assert materialize(instance, pipeline, ["a"], ["window_captions"], {"window_captions": {"max_output_tokens": 3}})
    assert windows(out, "french") == shown
    before = (out / "tables" / "french" / "b.parquet").stat().st_mtime_ns
    assert run(captioned, theirs["french"], shards=("a",)).success
    assert (out / "tables" / "french" / "b.parquet").stat().st_mtime_ns == before
    assert windows(out, "french") != shown


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame, pl.LazyFrame, pa.Table])
def test_rows_come_as_they_are_annotated_and_go_as_they_are_returned(captioned, kind):
    pipeline, _, out = captioned
    seen = []

    def copied(rows):
        seen.append(rows)
        return rows

    def again(rows):
        seen.append(rows)
        return rows

    copied.__annotations__ = again.__annotations__ = {"rows": kind, "return": kind}
    # `clip_windows` has columns of lists, and rows of clips without windows in which frames are null.
    first = added(pipeline, copied, of="clip_windows", keys=())
    second = added(pipeline, again, ins=dg.AssetKey("copied"))
    assert run(captioned, first, second).success
    assert [type(frame) for frame in seen] == [kind, kind]
    for shard in ("a", "b"):
        ours = pq.read_table(out / "tables" / "clip_windows" / f"{shard}.parquet")
        for name in ("copied", "again"):
            theirs = pq.read_table(out / "tables" / name / f"{shard}.parquet")
            assert theirs.column_names == ours.column_names
            assert theirs.column("start_frame").type == pa.int64()
            assert theirs.select(KEYS[1:]).to_pylist() == ours.select(KEYS[1:]).to_pylist()


def test_what_is_rendered_no_more_goes_from_the_documents(captioned):
    pipeline, _, out = captioned

    def noted(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[KEYS].assign(length=rows["text"].str.len(), captioned_by="demo")

    asks = {"caption_assets/render": ["length", "captioned_by"]}
    assert run(captioned, added(pipeline, noted, metadata=asks)).success
    assert all(shown["captioned_by"] == "demo" and shown["length"] > 0 for shown in windows(out, "noted").values())
    assert run(captioned, added(pipeline, noted)).success
    assert set(windows(out, "noted").values()) == {None}


@pytest.mark.parametrize(
    ("name", "make", "metadata", "wrong"),
    [
        ("a_list", lambda rows: [1], {}, "what asset a_list returns: it is of type list. Return a DataFrame"),
        ("no_shard", lambda rows: rows.drop(columns="shard"), {}, "which of 2 shards. Keep the column 'shard'"),
        ("another", lambda rows: rows.assign(shard="z"), {}, "it has rows of shard 'z'. Return rows of a, b only"),
        ("no_keys", lambda rows: rows[["shard", "text"]], {"caption_assets/render": ["text"]}, "no column 'clip_id'"),
        ("no_text", lambda rows: rows[KEYS], {"caption_assets/render": ["text"]}, "no column 'text'"),
        (
            "preview",
            lambda rows: rows,
            {"caption_assets/render": ["text"]},
            "asset 'preview', to be rendered: a window",
        ),
        ("fr_caption", lambda rows: rows, {"caption_assets/render": ["text"]}, "would take it for a caption"),
        ("bytes", lambda rows: rows.assign(raw=b"0"), {"caption_assets/render": ["raw"]}, "it is no JSON"),
        (
            "infinite",
            lambda rows: rows.assign(rate=rows["shard"].map({"a": 1.0, "b": float("inf")})),
            {"caption_assets/render": ["rate"]},
            "column 'rate' of shard 'b': it is no JSON",
        ),
        ("window_captions", lambda rows: rows, {}, "table 'window_captions' of an added asset: it is one of ours"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is_written(captioned, name, make, metadata, wrong):
    pipeline, _, out = captioned

    def made(rows):
        return make(rows)

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    result = run(captioned, added(pipeline, made, name=name, metadata=metadata))
    assert not result.success
    assert wrong in failure(result)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


def test_a_shard_of_which_there_is_nothing_is_not_made_and_keeps_no_other_from_it(captioned):
    pipeline, instance, out = captioned
    instance.add_dynamic_partitions(pipeline.shards.name, ["c"])
    result = run(captioned, added(pipeline, lambda rows: rows, name="of_three"), shards=("a", "c"))
    assert "of_three of 1 of 3 shards (c): there is nothing to make it of." in failure(result)
    assert instance.get_materialized_partitions(dg.AssetKey("of_three")) == {"a", "b"}
    assert not (out / "tables" / "of_three" / "c.parquet").exists()


def test_a_shard_that_the_asset_before_has_not_is_named(captioned):
    pipeline, _, _ = captioned
    first = added(pipeline, lambda rows: rows, name="before")
    second = added(pipeline, lambda rows: rows, name="after", ins=dg.AssetKey("before"))
    assert run(captioned, first, shards=("a",)).success
    result = run(captioned, first, second, select=[second])
    assert "before of shard 'b': there is no table. Materialize it for this shard first." in failure(result)
    ours = added(pipeline, lambda rows: rows, name="ours", of="window_previews", keys=())
    wrong = "window_previews of shard 'a': there is no table."
    assert wrong in failure(run(captioned, ours, shards=("a",)))

"""The pages as an asset, in a real instance."""

import dagster as dg

from caption_assets.defs.partitions import range_tags
from caption_assets.records import text_hash
from caption_assets.review import paths
from caption_assets.review.render import read_view
from caption_assets.store.rows import VerdictRow
from caption_assets.store.store import Store
from caption_assets.store.tables import SHARD_REVIEW
from caption_assets_tests.pipelines import QUIET
from caption_assets_tests.review.shards import write_shard


def test_the_share_of_accepted_texts_and_the_page_show_in_dagster(instance, clips_root, make_pipeline, tmp_path):
    pipeline, out = make_pipeline(clips_root, tmp_path / "out"), Store(tmp_path / "out")
    write_shard(out, "a", 4)
    instance.add_dynamic_partitions(pipeline.shards.name, ["a", "b"])

    def review(*shards: str) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            pipeline.assets,
            selection=[pipeline.review],
            instance=instance,
            resources=pipeline.resources,
            run_config={"loggers": QUIET},
            raise_on_error=False,
            tags=range_tags(shards),
        )

    def latest() -> dg.AssetMaterialization:
        wanted = dg.AssetRecordsFilter(pipeline.review.key, asset_partitions=["a"])
        return instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization

    assert not review("a", "b").success  # b has no tables, and keeps a from nothing
    assert instance.get_materialized_partitions(pipeline.review.key) == {"a"}
    before = latest()
    assert "accepted_share qwen3" not in before.metadata
    assert before.metadata["review_page"].value == out.url(paths.page("a"))

    texts = [text for text in read_view(out, "a").texts().items() if text[1].key == "qwen3"]
    said = ("right", "right", "right", "wrong")
    rows = [
        VerdictRow(
            clip_id=clip,
            start_frame=start,
            end_frame=end,
            key=key,
            text_hash=text_hash(text.text or ""),
            text=text.text or "",
            verdict=verdict,
            reviewer="ann",
            at=f"2026-01-01T00:00:0{at}",
        )
        for at, (((clip, start, end, key, _), text), verdict) in enumerate(zip(texts, said, strict=True))
    ]
    out.put_part(SHARD_REVIEW, "a", rows)
    assert review("a").success
    after = latest()
    assert after.metadata["accepted_share qwen3"].value == 0.75
    assert after.metadata["judged qwen3"].value == 4
    assert after.metadata["judged nemotron"].value == 0
    assert after.tags["dagster/data_version"] != before.tags["dagster/data_version"]
    page = out.read_bytes(paths.page("a"))
    assert page is not None
    assert b'"reviewer":"ann"' in page

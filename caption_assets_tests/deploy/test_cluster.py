"""A deployment of several machines, on this one: a backfill whose steps Ray runs, history in PostgreSQL, data in S3."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS
from caption_assets_tests.dagster_dev import wait_for
from caption_assets_tests.deploy.cluster import Deployment
from caption_assets_tests.s3 import S3Server

pytestmark = pytest.mark.cluster
HANG_SECONDS = 900.0  # of a backfill, which the daemon looks at every half minute
WINDOWS, CAPTIONS = (dg.AssetKey(name) for name in ("clip_windows", "window_captions_demo"))


@pytest.fixture
def deployment(tmp_path: Path, make_shards: Any, s3: S3Server) -> Iterator[Deployment]:
    with Deployment(tmp_path, s3, make_shards(tmp_path / "clips")).running() as deployment:
        yield deployment


def test_a_backfill_from_s3_to_s3_on_ray_outlives_a_node_with_its_history_in_postgresql(deployment):
    def jobs(key: dg.AssetKey) -> list[dict[str, Any]]:
        return [job for job in deployment.ray.jobs() if job["metadata"].get("dagster/op") == key.to_user_string()]

    backfill = deployment.backfill(WINDOWS, CAPTIONS)
    wait_for(lambda: [job for job in jobs(CAPTIONS) if job["status"] == "RUNNING"], HANG_SECONDS)
    deployment.ray.kill("worker-0")
    deployment.ray.add("worker-0")
    assert wait_for(lambda: deployment.ended(backfill), HANG_SECONDS) == "COMPLETED_SUCCESS"

    store = Store(deployment.output)
    for shard in ("a", "b"):
        rows = store.read_rows(CLIP_WINDOWS, shard), store.read_rows(WINDOW_CAPTIONS, shard, "demo")
        assert len(rows[0]) == len(rows[1]) > 0
        assert {row.status for of_table in rows for row in of_table} == {"ok"}
    assert [job["status"] for job in jobs(WINDOWS)] == ["SUCCEEDED"]
    assert [job["status"] for job in jobs(CAPTIONS)] == ["FAILED", "SUCCEEDED"]
    logs = [path.read_text() for path in deployment.output.parent.glob("dagster-logs/**/*") if path.is_file()]
    assert any("The model is ready" in log for log in logs)
    assert {job["driver_node_id"] for job in jobs(CAPTIONS)} <= deployment.ray.nodes_with_gpus()
    for key in (WINDOWS, CAPTIONS):
        assert deployment.instance.get_materialized_partitions(key) == {"a", "b"}

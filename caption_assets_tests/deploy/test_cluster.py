"""A deployment of several machines, on this one: a backfill whose steps Ray runs, history in PostgreSQL, data in S3."""

import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from upath import UPath

from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS
from caption_assets_tests.dagster_dev import BIN, CHECKOUT, DagsterDev, dagster_dev, wait_for
from caption_assets_tests.deploy.cluster import RayCluster, postgres
from caption_assets_tests.s3 import S3Server

pytestmark = pytest.mark.cluster
_BACKFILL = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
} }"""
_STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status runs: unfinishedRuns(limit: 9) { id } }
} }"""
_DATASET = """{ assetNodes(assetKeys: [{path: ["clip_windows"]}]) { partitionKeys } }"""
ASSETS = ("clip_windows", "window_captions_demo")


@dataclass
class Deployment:
    dev: DagsterDev
    ray: RayCluster
    database: str
    output: UPath

    def jobs(self, op: str) -> list[dict[str, Any]]:
        """What Ray has been asked for of an op, each attempt, the first one first."""
        with urllib.request.urlopen(f"{self.ray.address}/api/jobs/") as answer:
            found = [job for job in json.load(answer) if job["metadata"].get("dagster/op") == op]
        return sorted(found, key=lambda job: job["start_time"])

    def nodes_with_gpus(self) -> set[str]:
        """The ids of the nodes that say so, dead ones, too."""
        with urllib.request.urlopen(f"{self.ray.address}/api/v0/nodes") as answer:
            nodes = json.load(answer)["data"]["result"]["result"]
        return {node["node_id"] for node in nodes if node["resources_total"].get("GPU")}

    def backfill(self) -> str:
        """Launches one of everything; its id."""
        names = wait_for(lambda: self.dev.ask(_DATASET)["assetNodes"][0]["partitionKeys"])
        params = {"assetSelection": [{"path": [name]} for name in ASSETS], "partitionNames": names}
        said = self.dev.ask(_BACKFILL, params=params)["launchPartitionBackfill"]
        return str(said["backfillId"])

    def ended(self, backfill: str) -> str | None:
        status = str(self.dev.ask(_STATUS, id=backfill)["partitionBackfillOrError"]["status"])
        return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else None


@pytest.fixture
def deployment(tmp_path: Path, make_shards: Any, s3: S3Server) -> Iterator[Deployment]:
    clips = make_shards(tmp_path / "clips")
    for path in clips.rglob("*.mp4"):
        s3.put(f"clips/{path.relative_to(clips)}", path.read_bytes())
    home = tmp_path / "home"
    home.mkdir()
    with postgres() as url:
        nodes = {**s3.environment, "PYTHONPATH": str(CHECKOUT), "DAGSTER_HOME": str(home), "HF_HUB_OFFLINE": "1"}
        nodes |= {"DAGSTER_POSTGRES_URL": url, "DAGSTER_LOGS_BUCKET": s3.bucket, "PATH": f"{BIN}:/usr/bin:/bin"}
        with RayCluster(tmp_path, nodes) as ray:
            workspace = "load_from:\n  - python_module: caption_assets.definitions\n"
            variables = {
                "CAPTION_ASSETS_DATASET": f"s3://{s3.bucket}/clips",
                "CAPTION_ASSETS_OUTPUT": f"s3://{s3.bucket}/out",
                "CAPTION_ASSETS_EXECUTOR": "ray",
                "CAPTION_ASSETS_WORKERS": "1",
                "DAGSTER_POSTGRES_URL": url,
                "DAGSTER_LOGS_BUCKET": s3.bucket,
                "RAY_ADDRESS": ray.address,
                **s3.environment,
            }
            # With what an own line of it says is for an object store.
            lines = (CHECKOUT / "deploy" / "dagster.yaml").read_text()
            instance = tmp_path / "dagster.yaml"
            instance.write_text(re.sub(r"^# (?=compute_logs|  )", "", lines, flags=re.MULTILINE))
            with dagster_dev(home, workspace, instance, **variables) as dev:
                yield Deployment(dev, ray, url, UPath(f"s3://{s3.bucket}/out"))


def test_a_backfill_from_s3_to_s3_on_ray_outlives_a_node_with_its_history_in_postgresql(deployment):
    windows, captions = ASSETS
    backfill = deployment.backfill()
    wait_for(lambda: [job for job in deployment.jobs(captions) if job["status"] == "RUNNING"])
    deployment.ray.kill("worker")
    deployment.ray.add_worker()
    assert wait_for(lambda: deployment.ended(backfill)) == "COMPLETED_SUCCESS"

    store = Store(deployment.output)
    for shard in ("a", "b"):
        rows = store.read_rows(CLIP_WINDOWS, shard), store.read_rows(WINDOW_CAPTIONS, shard, "demo")
        assert len(rows[0]) == len(rows[1]) > 0
        assert {row.status for of_table in rows for row in of_table} == {"ok"}
    assert [job["status"] for job in deployment.jobs(windows)][-1] == "SUCCEEDED"
    assert [job["status"] for job in deployment.jobs(captions)] == ["FAILED", "SUCCEEDED"]
    logs = [path.read_text() for path in deployment.output.parent.glob("dagster-logs/**/*") if path.is_file()]
    assert any("The model is ready" in log for log in logs)
    assert {job["driver_node_id"] for job in deployment.jobs(captions)} <= deployment.nodes_with_gpus()
    with psycopg2.connect(deployment.database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("select asset_key, partition from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION'")
        found = {(json.loads(key)[0], shard) for key, shard in cursor.fetchall()}
    assert found == {(name, shard) for name in ASSETS for shard in ("a", "b")}

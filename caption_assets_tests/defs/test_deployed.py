"""Runs of the command line are runs of the code location: the UI names them, and can execute them again."""

import asyncio
import time

import dagster as dg
import pytest
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.execution.plan.resume_retry import ReexecutionStrategy
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget

from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.pools import COMMAND_TAG
from caption_assets.defs.run import materialize_shards
from caption_assets.settings import Captions, PipelineSettings, WindowSettings
from caption_assets.steps import Progress

_HANG_SECONDS = 240


@pytest.fixture
def made(tmp_path, clips_root):
    """Runs of the command line with settings that no deployment has."""
    settings = PipelineSettings(
        dataset=str(clips_root),
        output=str(tmp_path / "out"),
        windows=WindowSettings(window_size=64, remainder_threshold=32),
        captions=(Captions(device="cpu", max_output_tokens=4, prompt_text="Say it shortly."),),
    )
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path / "home")) as instance:
        failed = materialize_shards(
            instance, Pipeline(settings), ["a", "b"], {"clip_windows", "window_captions"}, Progress()
        )
        assert not failed
        yield instance, settings


def test_a_run_names_its_assets_and_shards_and_does_the_same_when_it_is_executed_again(made, monkeypatch):
    instance, settings = made
    captions, windows = instance.get_runs()
    assert {key.to_user_string() for key in captions.asset_selection} == {"window_captions_demo"}
    assert {key.to_user_string() for key in windows.asset_selection} == {"clip_windows"}
    for run in (captions, windows):
        assert run.tags["dagster/asset_partition_range_start"] == "a"
        assert run.tags["dagster/asset_partition_range_end"] == "b"
        assert run.remote_job_origin.location_name == "caption_assets"
        assert "loggers" not in run.run_config
    assert captions.run_config["resources"]["save_export"]["config"]["output_path"] == settings.output

    monkeypatch.setenv("CAPTION_ASSETS_DATASET", settings.dataset)
    monkeypatch.setenv("CAPTION_ASSETS_OUTPUT", settings.output + "-of-the-deployment")
    target = ModuleTarget("caption_assets.definitions", None, None, "caption_assets")
    with WorkspaceProcessContext(instance, target) as process:
        workspace = process.create_request_context()
        location = workspace.get_code_location("caption_assets")
        chosen = JobSubsetSelector(
            location.name, "__repository__", captions.job_name, None, asset_selection=captions.asset_selection
        )
        again = instance.create_reexecuted_run(
            request_context=workspace,
            parent_run=captions,
            code_location=location,
            remote_job=asyncio.run(workspace.gen_job(chosen)),
            strategy=ReexecutionStrategy.ALL_STEPS,
            use_parent_run_tags=True,
        )
        instance.launch_run(again.run_id, workspace)
        until = time.monotonic() + _HANG_SECONDS
        while not (run := instance.get_run_by_id(again.run_id)).is_finished:
            assert time.monotonic() < until
            time.sleep(0.2)
    assert run.is_success
    assert run.tags[COMMAND_TAG] == captions.tags[COMMAND_TAG]
    key = dg.AssetKey("window_captions_demo")
    for shard in ("a", "b"):
        latest, before = instance.fetch_materializations(
            dg.AssetRecordsFilter(key, asset_partitions=[shard]), limit=2
        ).records
        assert (latest.run_id, before.run_id) == (again.run_id, captions.run_id)
        found = latest.asset_materialization.metadata
        assert found["reused"].value == found["ok"].value > 0
        assert found["output_table"].value.startswith(f"{settings.output}/")

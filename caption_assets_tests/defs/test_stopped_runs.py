"""Runs in processes of their own that are cancelled in the UI or killed, and executed again from where they failed."""

import logging
import os
import re
import shutil
import signal
import time
from contextlib import suppress

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.monitoring.run_monitoring import execute_run_monitoring_iteration

from caption_assets.defs.partitions import range_tags
from caption_assets.defs.pipeline import Pipeline
from caption_assets.settings.environment import deployed_settings
from caption_assets_tests.few_answers import FewAnswers
from caption_assets_tests.pipelines import asset_key, materialized, metadata, stale

SHARDS = [f"s{k}" for k in range(5)]
WINDOWS = 8
STEPS = ["clip_windows", "window_captions"]
LAUNCH = """mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}"""
RESUME = """mutation($params: ReexecutionParams!) {
  launchPipelineReexecution(reexecutionParams: $params) { __typename ... on LaunchRunSuccess { run { runId } } }
}"""
TERMINATE = """mutation($run: String!) {
  terminateRun(runId: $run) { __typename ... on TerminateRunFailure { message } }
}"""


class Server:
    """A code server of the pipeline that the environment describes, which is asked as the UI asks it."""

    def __init__(self, instance: dg.DagsterInstance, context: WorkspaceProcessContext, pipeline: Pipeline) -> None:
        self._instance, self._context, self._pipeline = instance, context, pipeline

    def launch(self, shards: list[str]) -> str:
        tags = [{"key": key, "value": value} for key, value in range_tags(tuple(shards)).items()]
        selector = {
            "repositoryLocationName": "tests",
            "repositoryName": "__repository__",
            "jobName": "caption_shards",
            "assetSelection": [{"path": list(asset_key(self._pipeline, step).path)} for step in STEPS],
        }
        params = {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": tags}}
        return self._launched(LAUNCH, params)

    def resume(self, run_id: str) -> str:
        params = {"parentRunId": run_id, "strategy": "FROM_FAILURE", "useParentRunTags": True}
        return self._launched(RESUME, params)

    def terminate(self, run_id: str) -> None:
        assert self._ask(TERMINATE, {"run": run_id})["terminateRun"]["__typename"] == "TerminateRunSuccess"

    def look_after_runs(self) -> None:
        """What Dagster's daemon does now and then."""
        for error in execute_run_monitoring_iteration(self._context, logging.getLogger("monitoring")):
            assert error is None

    def wait_for_captions(self, run_id: str, shards: int, model: FewAnswers) -> None:
        """Until so many shards are captioned; the run is still at work then. It tells of a shard that is done with the
        next answer, so the model gives a few more."""
        more = 2
        while len(materialized(self._instance, self._pipeline, "window_captions")) < shards:
            assert not self._run(run_id).is_finished
            if more and model.holds:
                time.sleep(1)  # what is answered is written meanwhile
                model.answer(1)
                more -= 1
            time.sleep(0.05)

    def wait_for_end(self, run_id: str) -> dg.DagsterRunStatus:
        while not (run := self._run(run_id)).is_finished:
            time.sleep(0.1)
        return run.status

    def process(self, run_id: str) -> int:
        found = (
            re.search(r"Executing steps in process \(pid: (\d+)\)", each.message or "") for each in self._log(run_id)
        )
        return int(next(match for match in found if match)[1])

    def _log(self, run_id: str):
        return [entry.dagster_event for entry in self._instance.all_logs(run_id) if entry.dagster_event]

    def _run(self, run_id: str) -> dg.DagsterRun:
        run = self._instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def _launched(self, query: str, params: dict) -> str:
        (launched,) = self._ask(query, {"params": params}).values()
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def _ask(self, query: str, variables: dict) -> dict:
        from dagster_graphql.test.utils import execute_dagster_graphql  # takes a second, of each process of tests

        found = execute_dagster_graphql(self._context.create_request_context(), query, variables)
        assert not found.errors
        return found.data


@pytest.fixture
def model():
    with FewAnswers() as model:
        yield model


@pytest.fixture
def server(tmp_path, make_clip, monkeypatch, model):
    clip = make_clip(tmp_path / "clips" / SHARDS[0] / "clip.mp4", 8 * WINDOWS)
    for shard in SHARDS[1:]:
        shutil.copytree(clip.parent, tmp_path / "clips" / shard)
    settings = {"DATASET": tmp_path / "clips", "OUTPUT": tmp_path / "out", "ENGINE": "openai", "BATCH_SIZE": 1}
    for name, value in {**settings, "WINDOW_SIZE": 8, "REMAINDER_THRESHOLD": 8, "WORKERS": 1}.items():
        monkeypatch.setenv(f"CAPTION_ASSETS_{name}", str(value))
    monkeypatch.setenv("OPENAI_BASE_URL", model.url)
    target = ModuleTarget("caption_assets.definitions", None, os.getcwd(), "tests")
    no_queue = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    with dg.instance_for_test({"run_monitoring": {"enabled": True}, "run_coordinator": no_queue}) as instance:
        pipeline = Pipeline(deployed_settings())
        instance.add_dynamic_partitions(pipeline.shards.name, SHARDS)
        with WorkspaceProcessContext(instance, target) as context:
            yield Server(instance, context, pipeline), instance, pipeline


def test_a_run_that_was_killed_and_one_that_was_cancelled_are_taken_up_where_they_stopped(server, model):
    """The model answers the trial, two shards and a few windows; then another shard; then all. A shard may be done and
    not yet reported."""
    server, instance, pipeline = server
    model.answer(1 + 2 * WINDOWS)
    killed = server.launch(SHARDS)
    server.wait_for_captions(killed, 1, model)
    os.kill(server.process(killed), signal.SIGKILL)
    while instance.get_run_by_id(killed).status == dg.DagsterRunStatus.STARTED:  # until its process is seen to be gone
        server.look_after_runs()
        time.sleep(0.2)
    assert server.wait_for_end(killed) == dg.DagsterRunStatus.FAILURE
    kept = materialized(instance, pipeline, "window_captions")
    assert 1 <= len(kept) <= 2

    model.answer(1 + WINDOWS)
    cancelled = server.resume(killed)
    server.wait_for_captions(cancelled, len(kept) + 1, model)
    server.terminate(cancelled)
    assert server.wait_for_end(cancelled) == dg.DagsterRunStatus.CANCELED
    with suppress(ProcessLookupError):
        while True:  # until its process is gone
            os.kill(server.process(cancelled), 0)
            time.sleep(0.1)
    kept_by_both = materialized(instance, pipeline, "window_captions")
    assert kept < kept_by_both
    assert len(kept_by_both) <= 3

    model.answer(len(SHARDS) * WINDOWS)
    resumed = server.resume(cancelled)
    assert server.wait_for_end(resumed) == dg.DagsterRunStatus.SUCCESS
    for step in STEPS:
        assert materialized(instance, pipeline, step) == set(SHARDS)
        assert not any(step in of_shard for of_shard in stale(instance, pipeline).values())
    found = {shard: metadata(instance, pipeline, "window_captions", shard) for shard in SHARDS}
    assert {of_shard["ok"].value for of_shard in found.values()} == {WINDOWS}
    assert all(found[shard]["reused"].value == WINDOWS for shard in kept_by_both)
    assert sum(of_shard["reused"].value for of_shard in found.values()) < len(SHARDS) * WINDOWS

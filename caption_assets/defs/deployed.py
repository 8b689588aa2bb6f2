"""Runs that this process works on, as runs of the code location that `dagster dev` shows: the UI lists them by their
assets and shards like any other, and can execute them again."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.events import RunFailureReason
from dagster._core.execution.api import create_execution_plan, execute_run_iterator
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.snap import snapshot_from_execution_plan
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._utils.error import SerializableErrorInfo
from dagster_shared.record import copy

from caption_assets.defs.assets import PipelineAsset
from caption_assets.defs.build import EXECUTORS
from caption_assets.defs.partitions import range_tags
from caption_assets.defs.pipeline import Pipeline
from caption_assets.names import absolute

# What workspace.yaml, `[tool.dg.project]` and Dagster itself call them.
_LOCATION, _MODULE, _REPOSITORY = "caption_assets", "caption_assets.definitions", "__repository__"
# What of the resources' config are paths.
_PLACES = (("clips", "root"), ("clips", "output"), ("save_export", "output_path"), ("save_export", "source_root"))
# The command line has its own progress and summary; the event log has the rest.
_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


@dataclass(frozen=True)
class EndedRun:
    """How a run ended: what its steps failed with, by their keys, and whether somebody stopped it."""

    success: bool
    errors: Mapping[str, SerializableErrorInfo | None]
    interrupted: bool


class DeployedRuns:
    """Makes runs of a pipeline's assets, and executes them in this process.

    A run says in full what it is to do, and so does it again, if its dataset, name and caption keys are those of the
    code location by then.
    """

    def __init__(self, instance: dg.DagsterInstance, pipeline: Pipeline, given: Mapping[str, object]) -> None:
        """`given` are resources that are objects of this process, by their plain names."""
        self._instance, self._settings = instance, pipeline.settings
        self._given = {pipeline.names.of(word): resource for word, resource in given.items()}

    @cached_property
    def _deployed(self) -> Pipeline:
        return Pipeline(self._settings)

    @cached_property
    def _job(self) -> dg.JobDefinition:
        """The job as the code location has it."""
        return _asset_job(self._deployed)

    @cached_property
    def _job_here(self) -> dg.JobDefinition:
        """The same with what this process gives it."""
        return _asset_job(Pipeline(self._settings, self._given))

    def materialize(
        self, wanted: Sequence[PipelineAsset], shards: Sequence[str], tags: Mapping[str, str], *, checks: bool
    ) -> EndedRun:
        """Materializes `wanted` for a contiguous range of shards, with their checks or without."""
        keys = frozenset(made.definition.key for made in wanted)
        return self._execute(wanted, keys, None if checks else frozenset(), shards, tags)

    def check(self, wanted: Sequence[PipelineAsset], shards: Sequence[str], tags: Mapping[str, str]) -> EndedRun:
        """Evaluates the checks of `wanted` alone."""
        assets = {made.definition.key for made in wanted}
        keys = {key for checks in self._deployed.checks for key in checks.check_keys if key.asset_key in assets}
        return self._execute((), frozenset(), frozenset(keys), shards, tags)

    def _execute(
        self,
        wanted: Sequence[PipelineAsset],
        assets: frozenset[dg.AssetKey],
        checks: frozenset[dg.AssetCheckKey] | None,
        shards: Sequence[str],
        tags: Mapping[str, str],
    ) -> EndedRun:
        """`checks` None are all of the assets."""
        job = self._job.get_subset(asset_selection=assets, asset_check_selection=checks)
        config, tags = self._config(wanted), {**job.run_tags, **_shard_tags(shards), **tags}
        plan = create_execution_plan(job, run_config=config, tags=tags)
        run = self._instance.create_run(
            job_name=job.name,
            run_id=None,
            run_config=config,
            status=None,
            tags=tags,
            root_run_id=None,
            parent_run_id=None,
            step_keys_to_execute=plan.step_keys_to_execute,
            execution_plan_snapshot=snapshot_from_execution_plan(plan, job.get_job_snapshot_id()),
            job_snapshot=job.get_job_snapshot(),
            parent_job_snapshot=job.get_parent_job_snapshot(),
            asset_selection=assets,
            asset_check_selection=None if assets else checks,  # who executes it again gets the checks, too
            resolved_op_selection=None,
            op_selection=None,
            remote_job_origin=_remote_origin(job.name),
            job_code_origin=_code_origin(job.name),
            asset_graph=job.asset_layer.asset_graph,
        )
        resources = {name: chosen for name, chosen in config["resources"].items() if name not in self._given}
        config_here = {**config, "resources": resources, "loggers": _QUIET}
        here = copy(run, run_config=config_here, asset_check_selection=checks)
        errors: dict[str, SerializableErrorInfo | None] = {}
        interrupted = False
        # Its events are in the instance: together they would be the largest thing in this process.
        for event in execute_run_iterator(InMemoryJob(self._job_here), here, self._instance):
            if event.is_step_failure:
                errors[event.step_key or ""] = event.step_failure_data.error
            elif event.event_type_value == dg.DagsterEventType.RUN_FAILURE.value:
                interrupted |= event.job_failure_data.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION
        ended = self._instance.get_run_by_id(run.run_id)
        return EndedRun(ended is not None and ended.is_success, errors, interrupted)

    def _config(self, wanted: Sequence[PipelineAsset]) -> dict[str, Any]:
        """Everything that the settings say, as the config of a run."""
        ops = {made.definition.op.name: {"config": made.settings.model_dump()} for made in wanted}
        resources = {
            name: {"config": resource.model_dump()}
            for name, resource in self._deployed.resources.items()
            if isinstance(resource, dg.ConfigurableResource | dg.ConfigurableIOManager)
        }
        for word, place in _PLACES:
            chosen = resources[self._deployed.names.of(word)]["config"]
            if chosen[place] is not None:
                chosen[place] = absolute(chosen[place])  # a code server has another working directory
        return {"ops": ops, "resources": resources}


def _asset_job(pipeline: Pipeline) -> dg.JobDefinition:
    """The job that Dagster makes of all assets, in which those that one picks in the UI are materialized."""
    definitions = dg.Definitions(
        assets=[pipeline.source, *pipeline.assets],
        asset_checks=pipeline.checks,
        resources=pipeline.resources,
        executor=EXECUTORS["in_process"],
    )
    return definitions.resolve_implicit_global_asset_job_def()


def _shard_tags(shards: Sequence[str]) -> dict[str, str]:
    return {PARTITION_NAME_TAG: shards[0]} if len(shards) == 1 else range_tags(tuple(shards))


def _remote_origin(job: str) -> RemoteJobOrigin:
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=_MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(loadable_target_origin=target, location_name=_LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, _REPOSITORY), job)


def _code_origin(job: str) -> JobPythonOrigin:
    pointer = ModuleCodePointer(_MODULE, "defs", os.getcwd())
    repository = RepositoryPythonOrigin(sys.executable, pointer, entry_point=DEFAULT_DAGSTER_ENTRY_POINT)
    return JobPythonOrigin(job, repository)

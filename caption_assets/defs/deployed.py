"""Runs that this process works on, as runs of the code location that `dagster dev` shows: the UI lists them by their
assets and shards like any other, and can execute them again."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import dagster as dg
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.origin import DEFAULT_DAGSTER_ENTRY_POINT, JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import PARTITION_NAME_TAG
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
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

    def execute(
        self, wanted: Sequence[PipelineAsset], shards: Sequence[str], tags: Mapping[str, str]
    ) -> dg.JobExecutionResult:
        """Materializes `wanted` for a contiguous range of shards. Whatever fails is in the result."""
        keys = frozenset(made.definition.key for made in wanted)
        job, config = self._job.get_subset(asset_selection=keys), self._config(wanted)
        run = self._instance.create_run_for_job(
            job_def=job,
            run_config=config,
            tags={**job.run_tags, **_shard_tags(shards), **tags},
            asset_selection=keys,
            remote_job_origin=_remote_origin(job.name),
            job_code_origin=_code_origin(job.name),
        )
        resources = {name: chosen for name, chosen in config["resources"].items() if name not in self._given}
        here = copy(run, run_config={**config, "resources": resources, "loggers": _QUIET})
        return execute_run(InMemoryJob(self._job_here), here, self._instance, raise_on_error=False)

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

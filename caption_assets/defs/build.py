"""Everything put together."""

from collections.abc import Mapping

import dagster as dg

from caption_assets.defs.automation import job_of, schedule_of, sensors_of
from caption_assets.defs.environment import settings_from_environment
from caption_assets.defs.pipeline import Pipeline
from caption_assets.settings import PipelineSettings

# A step with bad shards gives its result, and then fails. What reads it goes on with the good ones, and fails for the
# others; so the run has failed, and its re-execution from failure does them again.
_EXECUTOR = dg.in_process_executor.configured({"step_dependency_config": {"require_upstream_step_success": False}})


def build_defs(
    settings: PipelineSettings | None = None, resource_overrides: Mapping[str, object] | None = None
) -> dg.Definitions:
    """The Dagster definitions of a pipeline; by default of the one that the environment describes.

    Definitions of several pipelines with different names go into one code location by `dg.Definitions.merge`. Raises
    ConfigError for what the environment says and cannot be.
    """
    pipeline = Pipeline(settings or settings_from_environment(), resource_overrides)
    job = job_of(pipeline)
    return dg.Definitions(
        assets=[pipeline.source, *pipeline.assets],
        jobs=[job],
        sensors=sensors_of(pipeline),
        schedules=[schedule_of(pipeline, job)],
        resources=pipeline.resources,
        # Steps of a run share its worker processes, and what one has made for another; the heavy work is done by
        # processes of their own either way.
        executor=_EXECUTOR,
    )

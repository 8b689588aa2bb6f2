"""Everything put together."""

from collections.abc import Mapping

import dagster as dg

from caption_assets.defs.automation import job_of, schedule_of, sensors_of
from caption_assets.defs.freshness import freshness_check
from caption_assets.defs.instance import gpu_run_tags
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.prune import prune_job
from caption_assets.defs.ray_executor import ray_executor, require_ray
from caption_assets.errors import ConfigError
from caption_assets.media.cores import usable_cores
from caption_assets.names import has_known_scheme
from caption_assets.quality.words import is_script
from caption_assets.settings import PipelineSettings
from caption_assets.settings.environment import deployed_settings

# A step with bad shards gives its result, and then fails. What reads it goes on with the good ones, and fails for the
# others; so the run has failed, and its re-execution from failure does them again.
_STEPS_GO_ON = {"step_dependency_config": {"require_upstream_step_success": False}}
# Steps of a run share its worker processes, and what one has made for another; the heavy work is done by processes of
# their own either way.
EXECUTORS = {
    "in_process": dg.in_process_executor.configured(_STEPS_GO_ON),
    "multiprocess": dg.multiprocess_executor.configured(_STEPS_GO_ON),
    "ray": ray_executor,
    "of_the_project": None,
}


def build_defs(
    settings: PipelineSettings | None = None, resource_overrides: Mapping[str, object] | None = None
) -> dg.Definitions:
    """The Dagster definitions of a pipeline; by default of the one that file and environment describe.

    Definitions of several pipelines with different names go into one code location by `dg.Definitions.merge`. Raises
    ConfigError for what cannot be.
    """
    pipeline = Pipeline(settings or deployed_settings(), resource_overrides)
    _check(pipeline.settings)
    job = job_of(pipeline)
    return dg.Definitions(
        assets=[pipeline.source, *pipeline.assets],
        asset_checks=[*pipeline.checks, freshness_check(pipeline)],
        jobs=[job, prune_job(pipeline)],
        sensors=sensors_of(pipeline),
        schedules=[schedule_of(pipeline, job)],
        resources=pipeline.resources,
        executor=EXECUTORS[pipeline.settings.executor],
    )


def _check(settings: PipelineSettings) -> None:
    """Raises ConfigError for what cannot be on any machine, be it of settings or of variables for runs to come."""
    gpu_run_tags()
    usable_cores()
    if settings.executor == "ray":
        require_ray()
    for name, places in (("dataset", settings.dataset.splitlines()), ("output", [settings.output])):
        if unknown := [place for place in places if not has_known_scheme(place)]:
            fix = "give a folder, or a URL such as s3://bucket/folder"
            raise ConfigError(f"{name} {unknown[0]!r}", "its scheme is unknown", fix)
    if (script := settings.quality.script) is not None and not is_script(script):
        fix = "choose latin, han, japanese, hangul, cyrillic or another one of Unicode's"
        raise ConfigError(f"script {script!r}", "no letters are of it", fix)

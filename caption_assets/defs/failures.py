"""What tells somebody outside of Dagster that a run has failed."""

import json
import urllib.request
from typing import Any

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG

from caption_assets.defs.partitions import range_tags
from caption_assets.defs.pipeline import Pipeline

_SECONDS = 20.0
_LONGEST = 2000


def failure_sensor(pipeline: Pipeline, webhook: str) -> dg.SensorDefinition:
    """Sends to `webhook` what has failed in the pipeline's runs or, where it has no name, in the code location's."""

    @dg.run_failure_sensor(
        name=pipeline.names.of("tell_of_failures"),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends a message to the webhook of the settings when a run has failed.",
    )
    def tell_of_failures(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
        if not _is_told_of(pipeline, context.dagster_run):
            return dg.SkipReason("the run is another pipeline's")
        _post(webhook, message(context))
        return None

    return tell_of_failures


def _is_told_of(pipeline: Pipeline, run: dg.DagsterRun) -> bool:
    name = pipeline.settings.name
    keys = run.asset_selection or ()
    return not name or run.job_name.startswith(f"{name}_") or any(key.path[0] == name for key in keys)


def message(context: dg.RunFailureSensorContext) -> dict[str, Any]:
    """What is sent: `text` for people, in the form that chat services take, and the rest for programs."""
    run = context.dagster_run
    shards = run.tags.get(PARTITION_NAME_TAG) or " to ".join(
        run.tags[tag] for tag in range_tags(("", "")) if tag in run.tags
    )
    assets = sorted(key.to_user_string() for key in run.asset_selection or ())
    failures = {}
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        said = data.user_failure_data.description if data.user_failure_data else None
        failures[event.step_key or ""] = (said or event.message or "")[:_LONGEST]
    reasons = list(failures.values()) or [(context.failure_event.message or "")[:_LONGEST]]
    what = ", ".join(assets) or run.job_name
    of_shards = f" of {shards}" if shards else ""
    return {
        "text": f"{what}{of_shards} failed (run {run.run_id}): {' '.join(reasons)}"[: 2 * _LONGEST],
        "run_id": run.run_id,
        "job": run.job_name,
        "assets": assets,
        "shards": shards,
        "failures": failures,
    }


def _post(webhook: str, body: dict[str, Any]) -> None:
    """Raises OSError where it is not taken; Dagster then shows the tick as failed."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(webhook, data, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=_SECONDS):
        pass

"""Assets of a run that a step of it makes on its way, where they have still to be made, and in this process."""

from typing import Any, TypeVar

import dagster as dg
from pydantic import ValidationError

from caption_assets.defs.lineage import is_made_by
from caption_assets.defs.names import Names
from caption_assets.errors import ConfigError
from caption_assets.media.previews import check_ffmpeg
from caption_assets.settings import PreviewSettings, Settings, part
from caption_assets.steps import previews

S = TypeVar("S", bound=Settings)
# Executors whose steps share this process: Dagster's own, and that of `dg.materialize`.
_IN_PROCESS = (dg.in_process_executor.name, "execute_in_process_executor")


def settings_beside(
    context: dg.AssetExecutionContext, names: Names, asset: dg.AssetKey, config: type[Any], of: type[S]
) -> S | None:
    """How an asset of this run is made; None where that is for its own step to do. `config` is its config class."""
    if context.job_def.executor_def.name not in _IN_PROCESS or not is_made_by(context, asset):
        return None
    reported = getattr(context.resources, names.of("workers")).reported
    if any((asset.to_user_string(), shard) in reported for shard in context.partition_keys):
        return None  # it went first, while this step waited for a GPU
    ops: Any = context.run.run_config.get("ops", {})
    try:
        return part(config(**ops.get(asset.to_python_identifier(), {}).get("config", {})), of)
    except ValidationError:
        return None  # what is wrong there is for its own step to say, and costs nothing here


def previews_beside(context: dg.AssetExecutionContext, names: Names, config: type[Any]) -> PreviewSettings | None:
    """How the previews of this run are made."""
    try:
        check_ffmpeg()
    except ConfigError:
        return None
    return settings_beside(context, names, names.asset(previews.STEP.table), config, PreviewSettings)

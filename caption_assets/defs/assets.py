"""The four assets. Each body names its inputs and calls one step for every shard of the run."""

from collections.abc import Callable, Container
from typing import Any

import dagster as dg
from pydantic import ValidationError

from caption_assets.defs.environment import defaults_from_environment
from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.partitions import SHARDS
from caption_assets.defs.reporting import Reports, ShardOutcomes, column_schema
from caption_assets.defs.resources import CaptionModel, ClipDataset, TextModel
from caption_assets.defs.workers import SharedWorkers
from caption_assets.errors import CaptionAssetsError, ConfigError, ModelError
from caption_assets.media.previews import check_ffmpeg
from caption_assets.settings import CaptionSettings, EnhanceSettings, PreviewSettings, WindowSettings
from caption_assets.steps import (
    Ended,
    Outcomes,
    Progress,
    ShardReport,
    StepContext,
    caption_shards,
    captions,
    enhance,
    enhance_shards,
    preview_shard,
    previews,
    window_shard,
    windows,
)
from caption_assets.steps.report import Step

GROUP = "captions_and_previews"
GPU_POOL = "gpu"
_STEPS = (windows.STEP, previews.STEP, captions.STEP, enhance.STEP)
# Executors whose steps share this process: Dagster's own, and that of `dg.materialize`.
_IN_PROCESS = (dg.in_process_executor.name, "execute_in_process_executor")
_VERSIONS = {step.name: step.version for step in _STEPS}


@defaults_from_environment
class ClipWindowsConfig(dg.Config, WindowSettings):
    """How clips are cut into windows and sampled."""


@defaults_from_environment
class WindowPreviewsConfig(dg.Config, PreviewSettings):
    """How previews are made."""


@defaults_from_environment
class WindowCaptionsConfig(dg.Config, CaptionSettings):
    """How windows are captioned."""


@defaults_from_environment
class EnhancedCaptionsConfig(dg.Config, EnhanceSettings):
    """How captions are rewritten."""


def _options(step: Step, shards_per_run: int, kinds: set[str], **more: Any) -> dict[str, Any]:
    # Parents and children differ in `shards_per_run` on purpose: Dagster then gives them runs of their own in a
    # backfill, and a shard that fails in one asset does not keep the others' shards from going on. Previews and
    # captions have the same, so that one run makes both, from one decoding.
    return {
        "name": step.name,
        "deps": [table.name for table in step.reads],
        "partitions_def": SHARDS,
        "backfill_policy": dg.BackfillPolicy.multi_run(max_partitions_per_run=shards_per_run),
        "group_name": GROUP,
        "kinds": kinds,
        "io_manager_key": "save_export",
        "output_required": False,  # every shard is stored and reported as it is done
        "code_version": str(step.version),
        "metadata": {"dagster/column_schema": column_schema(step.table)},
        **more,
    }


@dg.asset(**_options(windows.STEP, 64, {"python", "parquet"}))
def clip_windows(
    context: dg.AssetExecutionContext,
    config: ClipWindowsConfig,
    clips: ClipDataset,
    workers: dg.ResourceParam[SharedWorkers],
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """The shard's clips cut into windows of consecutive frames, with the frames that a captioning model is to see.

    One row a window: the clip's size, rate, codec and content hash, the window's first and last frame (inclusive, at
    the clip's own rate), and the picked frames with their true presentation times. Plans only: no pixels are stored,
    and nothing depends on the captioning model. A clip that cannot be used is a row that says why.
    """
    given, dataset = _given(save_export, workers, progress), clips.dataset()
    ended = _each_shard(context, windows.STEP, lambda shard: window_shard(given, dataset, shard, config))
    yield from ShardOutcomes(context, progress, _VERSIONS, workers.reported).report(ended)


@dg.asset(**_options(previews.STEP, 32, {"python", "ffmpeg", "webp"}))
def window_previews(
    context: dg.AssetExecutionContext,
    config: WindowPreviewsConfig,
    workers: dg.ResourceParam[SharedWorkers],
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """A small animated WebP of every window, to check clips and captions at a glance.

    Written to `previews/<clip>/<start>_<end>.webp`. One row a window with the file's frames, size and bytes, or the
    reason why there is no preview. Files of windows that no longer exist are removed. A run that makes captions, too,
    makes both from one decoding.
    """
    given = _given(save_export, workers, progress)
    ended = _each_shard(context, previews.STEP, lambda shard: preview_shard(given, shard, config), workers.reported)
    yield from ShardOutcomes(context, progress, _VERSIONS, workers.reported).report(ended)


@dg.asset(
    **_options(
        captions.STEP,
        32,
        {"python", "pytorch", "huggingface"},
        pool=GPU_POOL,
        op_tags={"dagster/priority": "1"},  # before the previews of the same run, which it then makes on its way
    )
)
def window_captions(
    context: dg.AssetExecutionContext,
    config: WindowCaptionsConfig,
    caption_model: CaptionModel,
    workers: dg.ResourceParam[SharedWorkers],
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """A caption of every window, by the chosen vision-language model.

    One row a window with text, finish reason, token counts, model, revision and prompt hash; rendered into
    `metas/v0/<clip>.json` under `<variant>_caption`, beside the captions of other variants. A second run captions
    only what is missing or has changed. One engine start serves all shards of a run.
    """
    given, wanted = _given(save_export, workers, progress), _previews_to_make(context, workers)
    with caption_model.session(config.batch_size) as session:
        ended = caption_shards(given, context.partition_keys, session, config, wanted)
        yield from ShardOutcomes(context, progress, _VERSIONS, workers.reported).report(ended)


@dg.asset(**_options(enhance.STEP, 128, {"python", "pytorch", "huggingface"}, pool=GPU_POOL))
def enhanced_captions(
    context: dg.AssetExecutionContext,
    config: EnhancedCaptionsConfig,
    caption_model: CaptionModel,
    text_model: TextModel,
    workers: dg.ResourceParam[SharedWorkers],
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """Every caption of the chosen variant, rewritten and enriched by a text model.

    One row a caption with the new text and the hash of the caption it came from; rendered into `metas/v0/<clip>.json`
    under `<key>_enhanced_caption`, and left out there once the caption has changed.
    """
    given = _given(save_export, workers, progress)
    with text_model.session(config.batch_size) as session:
        ended = enhance_shards(given, context.partition_keys, caption_model.key, session, config)
        yield from ShardOutcomes(context, progress, _VERSIONS, workers.reported).report(ended)


ASSETS = [clip_windows, window_previews, window_captions, enhanced_captions]


def _given(save_export: SaveExportIOManager, workers: SharedWorkers, progress: Progress) -> StepContext:
    return StepContext(save_export.store(), workers.clip_workers, save_export.source_root, progress)


def _each_shard(
    context: dg.AssetExecutionContext,
    step: Step,
    of_shard: Callable[[str], ShardReport],
    reported: Container[tuple[str, str]] = (),
) -> Outcomes:
    """How `step` ends for each shard of the run that has not been reported yet, one after the other."""
    for shard in context.partition_keys:
        if (step.name, shard) in reported:
            continue
        try:
            with step.errors_of(shard):
                report = of_shard(shard)
            yield Ended(step.name, shard, report)
        except (ConfigError, ModelError):
            raise
        except CaptionAssetsError as error:
            yield Ended(step.name, shard, error)


def _previews_to_make(context: dg.AssetExecutionContext, workers: SharedWorkers) -> PreviewSettings | None:
    """How the previews of this run are made, where it has them still to make, and in this process."""
    name = previews.STEP.name
    chosen = context.run.step_keys_to_execute
    if context.job_def.executor_def.name not in _IN_PROCESS or name not in context.job_def.graph.node_names():
        return None
    if chosen is not None and name not in chosen:
        return None
    if any((name, shard) in workers.reported for shard in context.partition_keys):
        return None  # they went first, while this step waited for a GPU
    ops: Any = context.run.run_config.get("ops", {})
    try:
        check_ffmpeg()
        return WindowPreviewsConfig(**ops.get(name, {}).get("config", {}))
    except (ConfigError, ValidationError):
        return None  # what is wrong there is for their own step to say, and costs no caption

"""The four assets. Each body names its inputs and calls one step for every shard of the run."""

from collections.abc import Callable, Iterator

import dagster as dg

from caption_assets.defs.io_manager import SaveExportIOManager
from caption_assets.defs.metadata import column_schema, report_metadata, versions
from caption_assets.defs.partitions import SHARDS
from caption_assets.defs.resources import CaptionModel, ClipDataset, TextModel
from caption_assets.errors import CaptionAssetsError, ConfigError, ModelError
from caption_assets.settings import CaptionSettings, EnhanceSettings, PreviewSettings, WindowSettings
from caption_assets.steps import (
    Outcomes,
    Progress,
    ShardReport,
    caption_shards,
    enhance_shards,
    preview_shard,
    window_shard,
)
from caption_assets.workers.pool import Workers

GROUP = "captions_and_previews"
GPU_POOL = "gpu"


class ClipWindowsConfig(dg.Config, WindowSettings):
    """How clips are cut into windows and sampled."""


class WindowPreviewsConfig(dg.Config, PreviewSettings):
    """How previews are made."""


class WindowCaptionsConfig(dg.Config, CaptionSettings):
    """How windows are captioned."""


class EnhancedCaptionsConfig(dg.Config, EnhanceSettings):
    """How captions are rewritten."""


def _options(name: str, shards_per_run: int, kinds: set[str]) -> dict:
    # Parents and children differ in `shards_per_run` on purpose: Dagster then gives them runs of their own in a
    # backfill, and a shard that fails in one asset does not keep the others' shards from going on.
    return {
        "name": name,
        "partitions_def": SHARDS,
        "backfill_policy": dg.BackfillPolicy.multi_run(max_partitions_per_run=shards_per_run),
        "group_name": GROUP,
        "kinds": kinds,
        "io_manager_key": "save_export",
        "output_required": False,  # every shard is stored and reported as it is done
        "code_version": "1",
        "metadata": {"dagster/column_schema": column_schema(name)},
    }


Reports = Iterator[dg.MaterializeResult]


@dg.asset(**_options("clip_windows", 64, {"python", "parquet"}))
def clip_windows(
    context: dg.AssetExecutionContext,
    config: ClipWindowsConfig,
    clips: ClipDataset,
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """The shard's clips cut into windows of consecutive frames, with the frames that a captioning model is to see.

    One row a window: the clip's size, rate, codec and content hash, the window's first and last frame (inclusive, at
    the clip's own rate), and the picked frames with their true presentation times. Plans only: no pixels are stored,
    and nothing depends on the captioning model. A clip that cannot be used is a row that says why.
    """
    store, dataset = save_export.store(), clips.dataset()
    with Workers() as workers:
        shards = _each_shard(context, lambda shard: window_shard(store, dataset, shard, config, workers, progress))
        yield from _report(context, progress, shards)


@dg.asset(deps=[clip_windows], **_options("window_previews", 16, {"python", "ffmpeg", "webp"}))
def window_previews(
    context: dg.AssetExecutionContext,
    config: WindowPreviewsConfig,
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """A small animated WebP of every window, to check clips and captions at a glance.

    Written to `previews/<clip>/<start>_<end>.webp`. One row a window with the file's frames, size and bytes, or the
    reason why there is no preview. Files of windows that no longer exist are removed.
    """
    store, root = save_export.store(), save_export.source_root
    with Workers() as workers:
        shards = _each_shard(
            context, lambda shard: preview_shard(store, shard, config, workers, progress, source_root=root)
        )
        yield from _report(context, progress, shards)


@dg.asset(deps=[clip_windows], pool=GPU_POOL, **_options("window_captions", 32, {"python", "pytorch", "huggingface"}))
def window_captions(
    context: dg.AssetExecutionContext,
    config: WindowCaptionsConfig,
    caption_model: CaptionModel,
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """A caption of every window, by the chosen vision-language model.

    One row a window with text, finish reason, token counts, model, revision and prompt hash; rendered into
    `metas/v0/<clip>.json` under `<variant>_caption`, beside the captions of other variants. A second run captions
    only what is missing or has changed. One engine start serves all shards of a run.
    """
    store, root = save_export.store(), save_export.source_root
    with Workers() as workers, caption_model.session(config.batch_size) as session:
        shards = caption_shards(store, context.partition_keys, session, config, workers, progress, source_root=root)
        yield from _report(context, progress, shards)


@dg.asset(
    deps=[window_captions], pool=GPU_POOL, **_options("enhanced_captions", 128, {"python", "pytorch", "huggingface"})
)
def enhanced_captions(
    context: dg.AssetExecutionContext,
    config: EnhancedCaptionsConfig,
    caption_model: CaptionModel,
    text_model: TextModel,
    save_export: dg.ResourceParam[SaveExportIOManager],
    progress: dg.ResourceParam[Progress],
) -> Reports:
    """Every caption of the chosen variant, rewritten and enriched by a text model.

    One row a caption with the new text and the hash of the caption it came from; rendered into `metas/v0/<clip>.json`
    under `<key>_enhanced_caption`, and left out there once the caption has changed.
    """
    store, root = save_export.store(), save_export.source_root
    key = caption_model.key
    with text_model.session(config.batch_size) as session:
        shards = enhance_shards(store, context.partition_keys, key, session, config, progress, source_root=root)
        yield from _report(context, progress, shards)


ASSETS = [clip_windows, window_previews, window_captions, enhanced_captions]


def _each_shard(context: dg.AssetExecutionContext, step: Callable[[str], ShardReport]) -> Outcomes:
    """The outcome of `step` for each shard of the run, one after the other."""
    for shard in context.partition_keys:
        try:
            yield shard, step(shard)
        except (ConfigError, ModelError):
            raise
        except CaptionAssetsError as error:
            yield shard, error


def _report(context: dg.AssetExecutionContext, progress: Progress, outcomes: Outcomes) -> Reports:
    """Reports every shard of the run as soon as it is done.

    A shard that fails does not stop the others; the run then fails at the end, and the good shards stay materialized.
    """
    asset = context.asset_key.to_user_string()
    code_version = context.assets_def.code_versions_by_key.get(context.asset_key)
    shards, failed = context.partition_keys, {}
    unfinished = list(shards)
    try:
        for shard, outcome in outcomes:
            unfinished.remove(shard)
            if isinstance(outcome, CaptionAssetsError):
                context.log.error(str(outcome))
                progress.failed(asset, shard, outcome)
                failed[shard] = str(outcome)
                continue
            progress.done(outcome)
            metadata = report_metadata(outcome)
            context.add_asset_metadata(metadata, partition_key=shard)
            if len(shards) > 1:
                # What is yielded counts only at the end of the step; this event survives a later shard's failure.
                context.log_event(
                    dg.AssetMaterialization(
                        context.asset_key, partition=shard, metadata=metadata, tags=versions(code_version)
                    )
                )
    except (ConfigError, ModelError) as error:
        # Nothing that another shard could do better.
        for shard in unfinished:
            progress.failed(asset, shard, error)
        raise dg.Failure(str(error), allow_retries=False) from error
    if failed:
        names = ", ".join(failed)
        raise dg.Failure(
            f"{len(failed)} of {len(shards)} shards failed: {names}. " + " ".join(failed.values()),
            metadata={"failed_shards": dg.MetadataValue.json(failed)},
            allow_retries=False,
        )
    yield dg.MaterializeResult()

"""The assets of a pipeline. Each body names its inputs and calls one step for every shard of the run."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
from pydantic import ValidationError

from caption_assets.defs.config import config_class
from caption_assets.defs.names import Names
from caption_assets.defs.reporting import Reports, ShardOutcomes, column_schema
from caption_assets.defs.step_run import StepRun
from caption_assets.errors import ConfigError
from caption_assets.media.previews import check_ffmpeg
from caption_assets.settings import (
    CaptionSettings,
    EnhanceSettings,
    PipelineSettings,
    PreviewSettings,
    Settings,
    WindowSettings,
    part,
)
from caption_assets.steps import (
    Outcomes,
    caption_shards,
    captions,
    enhance,
    enhance_shards,
    preview_shards,
    previews,
    window_shards,
    windows,
)
from caption_assets.steps.report import Step

GPU_POOL = "gpu"
# Executors whose steps share this process: Dagster's own, and that of `dg.materialize`.
_IN_PROCESS = (dg.in_process_executor.name, "execute_in_process_executor")


def make_assets(settings: PipelineSettings, shards: dg.PartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of a pipeline, each after those that it reads."""
    make = _Maker(settings, shards)
    caption, enhanced = settings.captions[0], settings.enhanced[0]
    return [
        make(windows.STEP, clip_windows, settings.windows, {"clips"}, 64, {"python", "parquet"}),
        make(previews.STEP, window_previews, settings.previews, set(), 32, {"python", "ffmpeg", "webp"}),
        make(
            captions.STEP,
            window_captions,
            part(caption, CaptionSettings),
            {"caption_model"},
            32,
            {"python", "pytorch", "huggingface"},
            pool=GPU_POOL,
            op_tags={"dagster/priority": "1"},  # before the previews of the same run, which it then makes on its way
        ),
        make(
            enhance.STEP,
            enhanced_captions,
            part(enhanced, EnhanceSettings),
            {"caption_model", "text_model"},
            128,
            {"python", "pytorch", "huggingface"},
            pool=GPU_POOL,
        ),
    ]


class _Maker:
    """Makes an asset of a step and of a body that runs it for the shards of a run."""

    def __init__(self, settings: PipelineSettings, shards: dg.PartitionsDefinition) -> None:
        self._names, self._shards = Names(settings.name), shards
        self._preview_config = config_class(settings.previews)

    def __call__(
        self,
        step: Step,
        body: Callable[..., Outcomes],
        settings: Settings,
        resources: set[str],
        shards_per_run: int,
        kinds: set[str],
        **more: Any,
    ) -> dg.AssetsDefinition:
        # Parents and children differ in `shards_per_run` on purpose: Dagster then gives them runs of their own in a
        # backfill, and a shard that fails in one asset does not keep the others' shards from going on. Previews and
        # captions have the same, so that one run makes both, from one decoding.
        names, preview_config = self._names, self._preview_config

        def compute(context: dg.AssetExecutionContext, config: Any) -> Reports:
            run = StepRun(context, names, step)
            ended = body(
                run,
                part(config, type(settings)),
                **_previews_beside(run, preview_config) if step is captions.STEP else {},
            )
            yield from ShardOutcomes(run).report(ended)

        compute.__annotations__["config"] = config_class(settings)
        return dg.asset(
            key=names.asset(step.table),
            description=inspect.getdoc(body),
            deps=[names.asset(table) for table in step.reads],
            partitions_def=self._shards,
            backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=shards_per_run),
            group_name=names.group,
            kinds=kinds,
            required_resource_keys={names.of(word) for word in ("save_export", "workers", "progress", *resources)},
            io_manager_key=names.of("save_export"),
            output_required=False,  # every shard is stored and reported as it is done
            code_version=str(step.version),
            metadata={"dagster/column_schema": column_schema(step.table)},
            **more,
        )(compute)


def clip_windows(run: StepRun, settings: WindowSettings) -> Outcomes:
    """The shard's clips cut into windows of consecutive frames, with the frames that a captioning model is to see.

    One row a window: the clip's size, rate, codec and content hash, the window's first and last frame (inclusive, at
    the clip's own rate), and the picked frames with their true presentation times. Plans only: no pixels are stored,
    and nothing depends on the captioning model. A clip that cannot be used is a row that says why.
    """
    given, dataset = run.given(), run.resource("clips").dataset()
    return window_shards(given, dataset, run.left, settings)


def window_previews(run: StepRun, settings: PreviewSettings) -> Outcomes:
    """A small animated WebP of every window, to check clips and captions at a glance.

    Written to `previews/<clip>/<start>_<end>.webp`. One row a window with the file's frames, size and bytes, or the
    reason why there is no preview. Files of windows that no longer exist are removed. A run that makes captions, too,
    makes both from one decoding.
    """
    return preview_shards(run.given(), run.left, settings)


def window_captions(run: StepRun, settings: CaptionSettings, beside: PreviewSettings | None = None) -> Outcomes:
    """A caption of every window, by the chosen vision-language model.

    One row a window with text, finish reason, token counts, model, revision and prompt hash; rendered into
    `metas/v0/<clip>.json` under `<variant>_caption`, beside the captions of other variants. A second run captions
    only what is missing or has changed. One engine start serves all shards of a run.
    """
    given = run.given()
    with run.resource("caption_model").session(settings.batch_size) as session:
        yield from caption_shards(given, run.shards, session, settings, beside)


def enhanced_captions(run: StepRun, settings: EnhanceSettings) -> Outcomes:
    """Every caption of the chosen variant, rewritten and enriched by a text model.

    One row a caption with the new text and the hash of the caption it came from; rendered into `metas/v0/<clip>.json`
    under `<key>_enhanced_caption`, and left out there once the caption has changed.
    """
    given, caption_key = run.given(), run.resource("caption_model").key
    with run.resource("text_model").session(settings.batch_size) as session:
        yield from enhance_shards(given, run.shards, caption_key, session, settings)


def _previews_beside(run: StepRun, config: Callable[..., PreviewSettings]) -> Mapping[str, PreviewSettings]:
    """How the previews of this run are made, where it has them still to make, and in this process."""
    context, name = run.context, run.names.op(previews.STEP.table)
    chosen = context.run.step_keys_to_execute
    if context.job_def.executor_def.name not in _IN_PROCESS or name not in context.job_def.graph.node_names():
        return {}
    if chosen is not None and name not in chosen:
        return {}
    if any(run.is_reported(previews.STEP, shard) for shard in run.shards):
        return {}  # they went first, while this step waited for a GPU
    ops: Any = context.run.run_config.get("ops", {})
    try:
        check_ffmpeg()
        return {"beside": part(config(**ops.get(name, {}).get("config", {})), PreviewSettings)}
    except (ConfigError, ValidationError):
        return {}  # what is wrong there is for their own step to say, and costs no caption

"""Exports as assets: what trainers load, made again shard by shard when captions change."""

import json
from collections import Counter
from typing import Any

import dagster as dg

from caption_assets.defs.catalog import deployment
from caption_assets.defs.config import config_schema
from caption_assets.defs.lineage import failed_before
from caption_assets.defs.names import Names
from caption_assets.defs.placing import beside_encoders
from caption_assets.defs.renderings import Rendered, inputs_of, render_shards
from caption_assets.defs.reporting import Reports
from caption_assets.errors import ConfigError, ShardError
from caption_assets.exports import Export, Exported, Keys, default_folder, folder_name
from caption_assets.exports.card import REASONS
from caption_assets.models.choice import ModelChoice, prompt_key
from caption_assets.names import is_remote
from caption_assets.records import text_hash
from caption_assets.settings import ExportChoices, Exports, ExportSettings, PipelineSettings, part
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS

_SHARDS_PER_RUN = 32
# Goes up where equal settings and captions make another export.
_VERSION = "1"
_VERSION_LETTERS = 12


def export_assets(
    pipeline: PipelineSettings, shards: dg.PartitionsDefinition, condition: dg.AutomationCondition[dg.AssetKey] | None
) -> list[dg.AssetsDefinition]:
    """The assets of a pipeline's exports. Raises ConfigError where two would be called the same, or have no texts."""
    made = [
        _export_asset(pipeline, shards, condition, export, keys)
        for export in pipeline.exports
        for keys in _keys(pipeline, export)
    ]
    twice = [key for key, count in Counter(asset.key for asset in made).items() if count > 1]
    if twice:
        raise ConfigError("exports", f"two are called {twice[0].to_user_string()}", "give one a name of its own")
    return made


def _keys(pipeline: PipelineSettings, export: Exports) -> list[Keys]:
    """Whose texts go out: each one's that the pipeline makes, or those that the export names."""
    # What a text model rewrites is the captions by the models' own prompts.
    of_texts = export.text == "enhanced"
    captions = [
        prompt_key(ModelChoice(model).key, name)
        for model in pipeline.captions
        for name in model.asked
        if not (name and of_texts)
    ]
    texts = [ModelChoice(model).key for model in pipeline.enhanced] if of_texts else [None]
    every = [Keys(key, text) for key in captions for text in texts]
    chosen = [k for k in every if export.key in (None, k.caption) and export.text_key in (None, k.text)]
    if not chosen:
        there = ", ".join(" by ".join(filter(None, (k.caption, k.text))) for k in every) or "none"
        raise ConfigError(f"export {export.called}", "the pipeline makes no such texts", f"there are: {there}")
    return chosen


def _export_asset(
    pipeline: PipelineSettings,
    shards: dg.PartitionsDefinition,
    condition: dg.AutomationCondition[dg.AssetKey] | None,
    export: Exports,
    keys: Keys,
) -> dg.AssetsDefinition:
    names, settings = Names(pipeline.name), part(export, ExportChoices)
    of_key = [keys.caption] if keys.text is None else [keys.caption, keys.text]
    inputs = [names.asset(CLIP_WINDOWS), names.asset(WINDOW_CAPTIONS, keys.caption)]
    inputs += [names.asset(ENHANCED_CAPTIONS, *of_key)] if keys.text else []
    chosen = json.dumps([export.format, *of_key, settings.model_dump()], sort_keys=True)
    code_version = f"{_VERSION}-{text_hash(chosen)[:_VERSION_LETTERS]}"

    def compute(context: dg.AssetExecutionContext) -> Reports:
        texts: dict[str, Any] = {"text": export.text, "key": keys.caption, "text_key": keys.text}
        asked = ExportSettings(**context.op_execution_context.op_config, **texts)
        store = getattr(context.resources, names.of("save_export")).store()
        workers = getattr(context.resources, names.of("workers")).clip_workers
        to = f"{export.to.rstrip('/')}/{folder_name(keys)}" if export.to else default_folder(store, export.called, keys)
        exporting = Export(store, to, export.format, asked, workers)
        made_from, not_ready = inputs_of(context, inputs), failed_before(context, inputs)

        def render(shard: str) -> Rendered:
            what = f"{context.asset_key.to_user_string()} of shard {shard!r}"
            if shard in not_ready:
                raise ShardError(what, not_ready[shard], "materialize what it is made of first")
            if not store.look(CLIP_WINDOWS, shard):
                raise ShardError(what, "it has no windows", "materialize clip_windows for it first")
            done = exporting.shard(shard)
            for sentence in done.failed:
                context.log.warning(sentence)
            if done.failed and not done.samples:
                raise ShardError(what, f"no video could be made; first: {done.failed[0]}".rstrip("."))
            return Rendered(done.version, _metadata(done, exporting.url), made_from.tags(shard, code_version))

        yield from render_shards(context, render, lambda: exporting.finish(store.shards(CLIP_WINDOWS)))

    return dg.asset(
        key=names.export(export.called, *of_key),
        description=f"{_texts(keys)} as `{export.format}`, for trainers (docs/exports.md): videos, texts and a dataset "
        "card. A shard that is made again writes what has changed.",
        deps=inputs,
        partitions_def=shards,
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=_SHARDS_PER_RUN),
        automation_condition=condition,
        group_name=names.group,
        kinds={"python"},
        required_resource_keys={names.of("save_export"), names.of("workers")},
        config_schema=config_schema(settings),
        output_required=False,  # every shard is reported as it is done
        code_version=code_version,
        **beside_encoders(pipeline),
        **deployment(pipeline),
    )(compute)


def _texts(keys: Keys) -> str:
    return f"Captions of {keys.caption}" + (f", enhanced by {keys.text}," if keys.text else "")


def _metadata(done: Exported, url: str) -> dict[str, Any]:
    contents, changes = done.contents, done.changes
    left_out = {REASONS[reason]: number for reason, number in sorted(done.left_out.items())}
    splits = {f"samples {split}": of.samples for split, of in contents.splits.items() if split}
    return {
        "samples": done.samples,
        **splits,
        "clips": sum(of.clips for of in contents.splits.values()),
        "hours": round(sum(of.seconds for of in contents.splits.values()) / 3600, 4),
        "left_out": sum(done.left_out.values()),
        "left_out_because": dg.MetadataValue.json(left_out),
        "files_written": changes.written,
        "files_unchanged": changes.unchanged,
        "export": dg.MetadataValue.url(url) if is_remote(url) else dg.MetadataValue.path(url),
        "dagster/partition_row_count": done.samples,
        "dagster/uri": url,
    }

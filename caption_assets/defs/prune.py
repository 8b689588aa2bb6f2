"""The job that shows what belongs to no clip any more, and removes it where it is told to."""

import dagster as dg

from caption_assets.dataset import Dataset
from caption_assets.defs.partitions import gone_shards, remove_shards
from caption_assets.defs.pipeline import Pipeline
from caption_assets.steps.prune import find_leftovers, remove_leftovers

_APPLY = dg.Field(bool, default_value=False, description="Remove it. Otherwise it is only shown.")


def prune_job(pipeline: Pipeline) -> dg.JobDefinition:
    """A run of `caption-assets prune`, for the pipeline's dataset and output."""
    name, clips, save_export = (pipeline.names.of(word) for word in ("prune", "clips", "save_export"))

    @dg.op(name=f"find_and_{name}", config_schema={"apply": _APPLY}, required_resource_keys={clips, save_export})
    def prune(context: dg.OpExecutionContext) -> None:
        dataset: Dataset = getattr(context.resources, clips).dataset()
        store, apply = getattr(context.resources, save_export).place(), context.op_config["apply"]
        found = find_leftovers(store, dataset)
        gone, why_not = gone_shards(context.instance, pipeline.shards, dataset, but_run=context.run_id)
        if apply:
            found = remove_leftovers(store, dataset, found)
            remove_shards(context.instance, pipeline.shards, gone)
        figures = found.figures() | {"partitions": len(gone)}
        context.log.info(f"{'Removed' if apply else 'To be removed'}: {figures}")
        for what in [*found.kept, *([why_not] if why_not else [])]:
            context.log.info(f"Stays: {what}")
        for clip_id, paths in found.twice.items():
            context.log.error(f"{clip_id} is the id of several clips: {', '.join(paths)}. Rename all but one")
        named: dict[str, list[str]] = {kind: sorted(of_kind) for kind, of_kind in found.files.items() if of_kind}
        context.add_output_metadata(figures | {"files": dg.MetadataValue.json(named), "partitions_named": gone})

    @dg.job(
        name=name,
        description="Shows what belongs to no clip of the dataset any more: documents, previews, rows, partitions. "
        "With `apply` in its config it is removed.",
    )
    def job() -> None:
        prune()

    return job

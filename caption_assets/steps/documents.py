"""The documents of a shard, rendered when a step has committed its table."""

from typing import get_args

from caption_assets.models.variants import TEXT_VARIANTS
from caption_assets.save_export.render import render_shard
from caption_assets.settings import CaptionVariant
from caption_assets.steps.context import StepContext
from caption_assets.store.earlier import move_earlier


def render_documents(context: StepContext, shard: str) -> None:
    """Renders the shard's documents from its tables, caption keys in the order of the variants."""
    move_earlier(context.store, shard)
    render_shard(
        context.store,
        shard,
        caption_keys=get_args(CaptionVariant),
        text_keys=tuple(dict.fromkeys(variant.name for variant in TEXT_VARIANTS.values())),
        source_root=context.source_root,
    )

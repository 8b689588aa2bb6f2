"""The documents of a shard, rendered when a table has been committed."""

from typing import get_args

from caption_assets.models.variants import TEXT_VARIANTS
from caption_assets.save_export.render import render_shard
from caption_assets.settings import CaptionVariant
from caption_assets.steps.context import StepContext
from caption_assets.store.earlier import move_earlier
from caption_assets.store.store import Store


def render_documents(context: StepContext, shard: str) -> None:
    """Renders the shard's documents from its tables, when a step has committed one."""
    render_tables(context.store, shard, context.source_root)


def render_tables(store: Store, shard: str, source_root: str | None) -> None:
    """Renders the shard's documents from its tables, caption keys in the order of the variants."""
    move_earlier(store, shard)
    render_shard(
        store,
        shard,
        caption_keys=get_args(CaptionVariant),
        text_keys=tuple(dict.fromkeys(variant.name for variant in TEXT_VARIANTS.values())),
        source_root=source_root,
    )

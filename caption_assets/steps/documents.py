"""The documents of a shard, rendered when a table has been committed."""

from typing import get_args

from caption_assets.models.variants import TEXT_VARIANTS
from caption_assets.save_export.render import render_shard
from caption_assets.settings import CaptionVariant
from caption_assets.steps.context import StepContext
from caption_assets.store.earlier import move_earlier
from caption_assets.store.store import Store


def render_documents(context: StepContext, shard: str) -> None:
    """Renders the shard's documents from its tables, caption keys in the order of the variants."""
    render_documents_of(context.store, shard, context.source_root)


def render_documents_of(store: Store, shard: str, source_root: str | None = None) -> None:
    """The same without a step: for what people have written, and their assets have made."""
    move_earlier(store, shard)
    render_shard(
        store,
        shard,
        caption_keys=get_args(CaptionVariant),
        text_keys=tuple(dict.fromkeys(variant.name for variant in TEXT_VARIANTS.values())),
        source_root=source_root,
    )

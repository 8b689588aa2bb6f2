"""The documents of a shard, rendered when a table has been committed."""

from collections import ChainMap
from collections.abc import Iterable
from typing import get_args

from caption_assets.models.variants import TEXT_VARIANTS
from caption_assets.save_export.render import render_shard
from caption_assets.settings import CaptionVariant
from caption_assets.steps.context import StepContext
from caption_assets.store.earlier import move_earlier
from caption_assets.store.snapshot import Stamps
from caption_assets.store.store import Store


def render_documents(context: StepContext, shard: str, unchanged: Iterable[Stamps] = ()) -> None:
    """Renders the shard's documents from its tables, caption keys in the order of the variants.

    `unchanged` are the stamps of the tables that the step has read or committed, none of one that it has written.
    """
    unchanged = list(unchanged)
    seen = dict(ChainMap(*map(dict, unchanged))) if all(unchanged) else None
    render_documents_of(context.store, shard, context.source_root, seen)


def render_documents_of(store: Store, shard: str, source_root: str | None = None, seen: Stamps | None = None) -> None:
    """The same without a step: for what people have written, and their assets have made."""
    move_earlier(store, shard)
    render_shard(
        store,
        shard,
        caption_keys=get_args(CaptionVariant),
        text_keys=tuple(dict.fromkeys(variant.name for variant in TEXT_VARIANTS.values())),
        source_root=source_root,
        seen=seen,
    )

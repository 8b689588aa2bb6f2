"""The documents of a shard, rendered when a step has committed its table."""

from collections import ChainMap
from collections.abc import Iterable
from typing import get_args

from caption_assets.models.variants import TEXT_VARIANTS
from caption_assets.save_export.render import render_shard
from caption_assets.settings import CaptionVariant
from caption_assets.steps.context import StepContext
from caption_assets.store.earlier import move_earlier
from caption_assets.store.snapshot import Stamps


def render_documents(context: StepContext, shard: str, unchanged: Iterable[Stamps] = ()) -> None:
    """Renders the shard's documents from its tables, caption keys in the order of the variants.

    `unchanged` are the stamps of the tables that the step has read or committed, none of one that it has written.
    """
    unchanged = list(unchanged)
    move_earlier(context.store, shard)
    render_shard(
        context.store,
        shard,
        caption_keys=get_args(CaptionVariant),
        text_keys=tuple(dict.fromkeys(variant.name for variant in TEXT_VARIANTS.values())),
        source_root=context.source_root,
        seen=dict(ChainMap(*map(dict, unchanged))) if all(unchanged) else None,
    )

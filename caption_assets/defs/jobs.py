"""Jobs that people start."""

import dagster as dg

from caption_assets.defs.assets import ASSETS

caption_shards = dg.define_asset_job(
    "caption_shards",
    selection=dg.AssetSelection.assets(*ASSETS),
    description="Windows, previews, captions and enhanced captions of the chosen shards.",
)

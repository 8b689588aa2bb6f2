"""What Dagster loads: `workspace.yaml` and `[tool.dg.project]` name this module."""

from caption_assets.extras import importing

with importing():
    from caption_assets.defs.build import build_defs

defs = build_defs()

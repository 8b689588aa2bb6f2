"""Captions and previews for shards of video clips, as Dagster assets in NeMo Curator's Save & Export layout."""

__version__ = "0.1.0"

"""The command line."""

from caption_assets.cli.app import main

__all__ = ["main"]

"""The command `caption-assets`.

Here: its commands (`app`), the flags that are made from the settings (`flags`), what is shown (`console`), and the
reference page (`reference`). Not here: what a command does; it starts runs through `defs`, so that the history is
Dagster's.
"""

from caption_assets.extras import importing

with importing():
    from caption_assets.cli.app import main

__all__ = ["main"]

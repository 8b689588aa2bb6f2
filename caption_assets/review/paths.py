"""Where the pages lie below the output root."""

import hashlib

from caption_assets.store import paths

FOLDER = "review"
INDEX = f"{FOLDER}/index.html"
SUMMARIES = "tables/pages"


def page(shard: str) -> str:
    """A shard's page; its name is that of the shard's tables."""
    return f"{FOLDER}/{_name(shard)}.html"


def summary(shard: str) -> str:
    """What the index says of a shard, and what its page was made from; among the tables, which are ours alone."""
    return f"{SUMMARIES}/{_name(shard)}.json.gz"


def _name(shard: str) -> str:
    name = paths.table("clip_windows", shard).rpartition("/")[2].removesuffix(".parquet")
    # File systems may not tell small letters from large ones.
    if name.lower() == "index":
        return f"{name}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name

"""What runs have cost, read from their table."""

from caption_assets.store import paths
from caption_assets.store.rows import CostRow
from caption_assets.store.store import Store
from caption_assets.store.tables import ENHANCED_CAPTIONS, RUN_COSTS, WINDOW_CAPTIONS


def costed_asset(key: str) -> str:
    """What the table of runs calls the asset of texts: of `qwen3` captions, of `qwen3/qwen_lm` enhanced ones."""
    table = ENHANCED_CAPTIONS if "/" in key else WINDOW_CAPTIONS
    return f"{table}_{key.replace('/', '_by_')}"


def cost_rows(store: Store, asset: str) -> list[CostRow]:
    """The rows of all runs that have made an asset. Raises StoreError."""
    names = store.names(f"{paths.table_folder(RUN_COSTS.name)}/{asset}")
    runs = sorted({name.removesuffix(".parquet").removesuffix(".parts") for name in names})
    return [row for rows in store.each(lambda run: store.read_rows(RUN_COSTS, run, asset), runs) for row in rows]


def cost_a_text(store: Store, key: str) -> float | None:
    """What a text of a key has cost on average, in runs on GPUs whose price was known; None without one."""
    rows = [row for row in cost_rows(store, costed_asset(key)) if row.cost]
    items = sum(row.items for row in rows)
    return sum(row.cost or 0.0 for row in rows) / items if items else None

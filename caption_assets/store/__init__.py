"""The truth: what was found out and made, as tables of rows below an output root, and files that are never torn.

Here: the rows and their columns, the four tables, where they lie, atomic reading and writing in a folder or an object
store, and one reading of a whole shard (`snapshot`). Not here: what the tables are rendered into (`save_export`, later
other exports), and who makes rows (`steps`).
"""

from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, TABLES, WINDOW_CAPTIONS, WINDOW_PREVIEWS, Table

__all__ = [
    "CLIP_WINDOWS",
    "ENHANCED_CAPTIONS",
    "TABLES",
    "WINDOW_CAPTIONS",
    "WINDOW_PREVIEWS",
    "Store",
    "Table",
]

"""Tables where earlier versions kept them, moved to where they are now."""

from collections import defaultdict

from caption_assets.store import paths
from caption_assets.store.rows import EnhancedRow
from caption_assets.store.store import Store
from caption_assets.store.tables import ENHANCED_CAPTIONS, Table

# Texts of one text model, whatever captions it rewrote: those of another caption key replaced them.
_ENHANCED = Table("enhanced_captions", EnhancedRow, key_columns=("key",))


def move_earlier(store: Store, shard: str) -> None:
    """Moves what an earlier version has left of a shard; costs nothing where it has left nothing."""
    for text_key in _left(store, shard):
        by_caption: dict[str, list[EnhancedRow]] = defaultdict(list)
        for row in store.read_rows(_ENHANCED, shard, text_key):
            by_caption[row.caption_key].append(row)
        for caption_key, rows in by_caption.items():
            key = f"{caption_key}/{text_key}"
            if not store.read_rows(ENHANCED_CAPTIONS, shard, key):
                store.commit_rows(ENHANCED_CAPTIONS, shard, rows, key)
        store.delete_table(_ENHANCED, shard, text_key)


def _left(store: Store, shard: str) -> list[str]:
    """The text models with a table of the shard in the old place."""
    top = paths.table_folder(_ENHANCED.name)
    names = {paths.table(_ENHANCED.name, shard, "key"), paths.table_parts(_ENHANCED.name, shard, "key")}
    names = {name.rpartition("/")[2] for name in names}
    return [key for key in store.names_once(top) if names & set(store.names_once(f"{top}/{key}"))]

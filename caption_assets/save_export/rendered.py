"""What a shard's documents were rendered from, and what was written: where nothing has changed, nothing is read again.

Kept beside the tables. It is removed before a document is written, and written when all are: documents that are half
rendered have none.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from caption_assets.errors import StoreError
from caption_assets.records import text_hash
from caption_assets.save_export import paths
from caption_assets.store.conditions import md5
from caption_assets.store.snapshot import Stamps
from caption_assets.store.store import Store

_VERSION = 2
"""Goes up when equal tables give other documents."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What documents were rendered from: `asked` (see `asked_for`; empty where they are out of date), and the tables
    with the stamps `tables`.

    `documents` has the MD5 of each, by path; `mixed` are those of clips that have words of others, too. `stamps` are
    those of the files, where the place tells them at no cost.
    """

    asked: str = ""
    tables: Stamps = field(default_factory=dict)
    documents: Mapping[str, str] = field(default_factory=dict)
    mixed: frozenset[str] = frozenset()
    stamps: Mapping[str, str | None] = field(default_factory=dict)

    def holds(self, rel: str, data: bytes, stamps: Mapping[str, str | None] | None) -> bool:
        """Whether a file is known to hold `data`; `stamps` are those of now."""
        if self.documents.get(rel) != md5(data):
            return False
        return stamps is None or (stamps.get(rel) is not None and stamps[rel] == self.stamps.get(rel))


def asked_for(*asked: Any) -> str:
    """Everything that the documents of a shard depend on, besides tables and what others have put into them."""
    return text_hash(json.dumps([_VERSION, *asked]))


def read_rendered(store: Store, shard: str) -> Rendered:
    """What is known; of no use where nothing is."""
    try:
        read = json.loads(gzip.decompress(store.read_bytes(paths.rendered(shard)) or b""))
        documents, stamps = read["documents"], read["stamps"]
        for rel in documents.keys() | stamps.keys():
            store.url(rel)  # it stays below the root
        tables = {(name, key): stamp for name, key, stamp in read["tables"]}
        return Rendered(read["asked"], tables, documents, frozenset(read["mixed"]), stamps)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zlib.error, StoreError):
        return Rendered()


def are_as_written(store: Store, rendered: Rendered) -> bool:
    """Whether the documents are still there as they were written."""
    return store.stamps(rendered.documents) in (None, rendered.stamps)


def write_rendered(store: Store, shard: str, rendered: Rendered) -> None:
    """Keeps it, with the stamps that the documents have now."""
    _write(store, shard, replace(rendered, stamps=store.stamps(rendered.documents) or {}))


def outdate_rendered(store: Store, shard: str) -> None:
    """Has the shard's documents rendered by the next who asks for it: to be called before findings are committed."""
    known = read_rendered(store, shard)
    if known.asked:
        _write(store, shard, replace(known, asked=""))


def _write(store: Store, shard: str, rendered: Rendered) -> None:
    known = {
        "asked": rendered.asked,
        "tables": [[name, key, stamp] for (name, key), stamp in rendered.tables.items()],
        "documents": dict(rendered.documents),
        "mixed": sorted(rendered.mixed),
        "stamps": dict(rendered.stamps),
    }
    store.write_bytes(paths.rendered(shard), gzip.compress(json.dumps(known).encode(), mtime=0))

"""What a shard's documents were rendered from, and what was written: where nothing has changed, nothing is read again.

Kept beside the tables. It is removed before a document is written, and written when all are: documents that are half
rendered have none.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from caption_assets.errors import StoreError
from caption_assets.save_export import paths
from caption_assets.store.snapshot import Stamps
from caption_assets.store.store import Store

_VERSION = 2
"""Goes up when equal tables give other documents."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """`of` is what the documents depend on besides what was in them, empty where they are out of date; `documents` has
    the hash of each, by path.

    `stamps` are those of the files, where the place tells them at no cost.
    """

    of: str = ""
    documents: Mapping[str, str] = field(default_factory=dict)
    stamps: Mapping[str, str | None] = field(default_factory=dict)

    def holds(self, rel: str, data: bytes, stamps: Mapping[str, str | None] | None) -> bool:
        """Whether a file is known to hold `data`; `stamps` are those of now."""
        if self.documents.get(rel) != _hash(data):
            return False
        return stamps is None or (stamps.get(rel) is not None and stamps[rel] == self.stamps.get(rel))


def depends_on(stamps: Stamps, *asked: Any) -> str:
    """Everything that the documents of a shard depend on, besides what others have put into them."""
    tables = sorted([name, key or "", stamp] for (name, key), stamp in stamps.items())
    return _hash(json.dumps([_VERSION, tables, *asked]).encode())


def read_rendered(store: Store, shard: str) -> Rendered:
    """What is known; of no use where nothing is."""
    try:
        read = json.loads(gzip.decompress(store.read_bytes(paths.rendered(shard)) or b""))
        of, documents, stamps = read["of"], read["documents"], read["stamps"]
        for rel in documents.keys() | stamps.keys():
            store.url(rel)  # it stays below the root
        return Rendered(of, documents, stamps)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zlib.error, StoreError):
        return Rendered()


def is_up_to_date(store: Store, rendered: Rendered, of: str) -> bool:
    """Whether documents were rendered from just this, and are still there as they were written."""
    if rendered.of != of:
        return False
    return store.stamps(rendered.documents) in (None, rendered.stamps)


def write_rendered(store: Store, shard: str, of: str, documents: Mapping[str, bytes]) -> None:
    hashes = {rel: _hash(data) for rel, data in documents.items()}
    _write(store, shard, Rendered(of, hashes, store.stamps(documents) or {}))


def _write(store: Store, shard: str, known: Rendered) -> None:
    store.write_bytes(paths.rendered(shard), gzip.compress(json.dumps(asdict(known)).encode(), mtime=0))


def outdate_rendered(store: Store, shard: str) -> None:
    """Has the shard's documents rendered by the next who asks for it: to be called before findings are committed."""
    known = read_rendered(store, shard)
    if known.of:
        _write(store, shard, replace(known, of=""))


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()

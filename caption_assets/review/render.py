"""Pages as files below the output root: one a shard, and an index of them all."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, get_args
from urllib.parse import quote

import caption_assets
from caption_assets.dataset import shard_name
from caption_assets.names import written
from caption_assets.review import paths
from caption_assets.review.html import page
from caption_assets.review.views import ShardView, shard_view, summary
from caption_assets.settings import CaptionVariant
from caption_assets.store.snapshot import Looks, Stamps, look_at, look_at_findings, read_snapshot, stamps_of
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS


def known_shards(store: Store) -> list[str]:
    """The shards that have a table of windows, by their keys; one whose key is too long for a file's name, by that."""
    return store.shards(CLIP_WINDOWS)


def read_view(store: Store, shard: str, looks: Looks | None = None) -> ShardView:
    """What there is of a shard now; `looks` are those that `look_at` has just given."""
    clips = read_snapshot(store, shard, looks or look_at(store, shard), caption_keys=get_args(CaptionVariant))
    return shard_view(shard, clips)


def render_shard_page(store: Store, shard: str) -> dict[str, Any]:
    """Writes a shard's page unless it is of just these tables already; returns the shard's `views.summary`."""
    looks = look_at(store, shard)
    of = _depends_on({**stamps_of(looks), **look_at_findings(store, shard, looks)})
    known = _read_summary(store, shard)
    if known is not None and known["of"] == of:
        return known["summary"]
    view = read_view(store, shard, looks)
    store.write_if_changed(paths.page(shard), shard_page(view))
    found = summary(view)
    data = gzip.compress(json.dumps({"of": of, "summary": found}).encode(), mtime=0)
    store.write_if_changed(paths.summary(shard), data)
    return found


def shard_page(view: ShardView, *, live: bool = False) -> bytes:
    """A shard's page. One that is `live` takes verdicts, and wants the server."""
    return page("shard", {**_made(), "view": view, "name": _name(view.shard), "live": live})


def render_index(store: Store) -> None:
    """Writes the index of all shards that have a page."""
    store.write_if_changed(paths.INDEX, index_page(store.url(), read_summaries(store)))


def read_summaries(store: Store) -> list[dict[str, Any]]:
    """What is known of every shard that has a page, in the order of their keys."""
    rels = [f"{paths.SUMMARIES}/{name}" for name in store.names(paths.SUMMARIES)]
    found = (_summary_in(data) for data in store.each(store.read_bytes, rels))
    return sorted((known["summary"] for known in found if known), key=lambda of_shard: of_shard["shard"])


def index_page(output: str, summaries: Sequence[Mapping[str, Any]]) -> bytes:
    """The index of shards, by what is known of each: a summary, or its name and no keys."""
    shards = [
        {
            **of_shard,
            "name": _name(of_shard["shard"]),
            "page": quote(paths.page(of_shard["shard"]).rpartition("/")[2]),
        }
        for of_shard in summaries
    ]
    return page("index", {**_made(), "output": output, "shards": shards})


def _name(shard: str) -> str:
    return written(shard_name(shard))


def _made() -> dict[str, str]:
    return {"made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "version": caption_assets.__version__}


def _read_summary(store: Store, shard: str) -> dict[str, Any] | None:
    return _summary_in(store.read_bytes(paths.summary(shard)))


def _summary_in(data: bytes | None) -> dict[str, Any] | None:
    try:
        known = json.loads(gzip.decompress(data or b""))
        return known if isinstance(known["of"], str) and isinstance(known["summary"]["shard"], str) else None
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error):
        return None


def _depends_on(stamps: Stamps) -> str:
    tables = sorted([name, key or "", stamp] for (name, key), stamp in stamps.items())
    return hashlib.blake2b(json.dumps([_pages_hash(), tables]).encode(), digest_size=16).hexdigest()


@cache
def _pages_hash() -> str:
    """Changes whenever the pages' sources, or what they are given, do."""
    room = files("caption_assets.review")
    sources = [room / "views.py", room / "html.py", *sorted((room / "pages").iterdir(), key=lambda file: file.name)]
    return hashlib.blake2b(b"\0".join(source.read_bytes() for source in sources), digest_size=16).hexdigest()

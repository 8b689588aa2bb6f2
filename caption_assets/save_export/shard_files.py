"""The documents that a shard's clips touch, as files: each is read once at most, and written where it differs."""

import logging
from collections.abc import Collection, Iterable, Mapping

from caption_assets.save_export import paths
from caption_assets.save_export.documents import Document
from caption_assets.save_export.files import dump_document, parse_document
from caption_assets.save_export.foreign import Clean, usable
from caption_assets.save_export.rendered import Rendered
from caption_assets.store.conditions import md5
from caption_assets.store.snapshot import Stamps
from caption_assets.store.store import Store

log = logging.getLogger(__name__)


class ShardFiles:
    """The documents of one rendering. `known` is what is known of them from the last one.

    `rendered` and `written` are their paths so far; `own` has the MD5 of those that are this shard's alone, and `mixed`
    are those of clips that may have words of others, too.
    """

    def __init__(self, store: Store, shard: str, known: Rendered) -> None:
        self._store, self._shard, self._known = store, shard, known
        self._stamps = store.stamps(known.documents)
        self._raw: dict[str, bytes | None] = {}
        self.rendered: set[str] = set()
        self.written: set[str] = set()
        self.own: dict[str, str] = {}
        self.mixed: set[str] = set()

    def load(self, rels: Iterable[str]) -> None:
        """Reads many files at once."""
        missing = [rel for rel in rels if rel not in self._raw]
        self._raw |= dict(zip(missing, self._store.each(self._store.read_bytes, missing), strict=True))

    def raw_of(self, rel: str) -> bytes | None:
        if rel not in self._raw:
            self._raw[rel] = self._store.read_bytes(rel)
        return self._raw[rel]

    def read(self, rel: str, fields: Mapping[str, Clean]) -> Document | None:
        """What can be used of a document, of whose keys `fields` are; None where there is none or it is torn."""
        data = self.raw_of(rel)
        if data is None:
            return None
        document = parse_document(data)
        if document is None:
            self.warn(rel, "it is torn, or no document: it is replaced")
            return None
        document, wrong = usable(document, fields)
        if wrong:
            self.warn(rel, f"what it holds in {', '.join(wrong)} cannot be used, and is replaced")
        return document

    def warn(self, rel: str, wrong: str) -> None:
        log.warning("%s: %s", self._store.url(rel), wrong)

    def write_unread(self, made: Mapping[str, Document], tables: Stamps) -> dict[str, Document]:
        """Writes clips' documents that are `made`, by clip, from `tables` alone, and need not be read: there is none
        yet, or one that was made so. Returns those that are there now.

        Each is written on the condition that this is so, with one request; where it is not, it is left.
        """
        known = self._known
        rels = {clip_id: paths.clip_document(clip_id) for clip_id in made}
        if not known.tables.keys() <= tables.keys():
            # Captions of a table that is gone stay in the documents, which alone have them now.
            rels = {clip_id: rel for clip_id, rel in rels.items() if rel not in known.documents}
        data = {rel: self._dump(rel, made[clip_id]) for clip_id, rel in rels.items() if rel not in known.mixed}
        changed = [rel for rel in data if not known.holds(rel, data[rel], None)]
        good = data.keys() - set(changed)
        self._unknow(changed)
        # Where the first is refused, a splitter has written them all, or the store knows no conditions.
        for some in (changed[:1], changed[1:]):
            done = self._store.each(lambda rel: self._store.write_where(rel, data[rel], known.documents.get(rel)), some)
            written = [rel for rel, is_done in zip(some, done, strict=True) if is_done]
            good |= set(written)
            self.written |= set(written)
            if some and not written:
                break
        self._done(good, ())
        self.own |= {rel: md5(data[rel]) for rel in good}
        return {clip_id: made[clip_id] for clip_id, rel in rels.items() if rel in good}

    def write_own(self, made: Mapping[str, Document]) -> None:
        """Writes documents that no other shard has to do with, many at once."""
        data = {rel: self._dump(rel, document) for rel, document in made.items()}
        known = {rel for rel, dumped in data.items() if self._known.holds(rel, dumped, self._stamps)}
        # What was read, and what costs little to read: all but what an object store is sent unseen.
        seen = {rel for rel in data if rel not in known and (rel in self._raw or self._stamps is not None)}
        changed = [rel for rel in data if rel not in known and not (rel in seen and self.raw_of(rel) == data[rel])]
        self._unknow(changed)
        self._store.each(lambda rel: self._store.write_if_changed(rel, data[rel], known=None), changed)
        self._done(data, changed)
        self.own |= {rel: md5(dumped) for rel, dumped in data.items()}

    def write(self, rel: str, document: Document) -> bool:
        """Writes a document that other shards write, too."""
        data = self._dump(rel, document)
        changed = self._store.write_if_changed(rel, data, known=self._raw.get(rel, ...))
        self._done([rel], [rel] if changed else [])
        return changed

    def _dump(self, rel: str, document: Document) -> bytes:
        return dump_document(document, asked=f"write {self._store.url(rel)}")

    def _done(self, rendered: Iterable[str], written: Iterable[str]) -> None:
        self.rendered |= set(rendered)
        self.written |= set(written)
        for rel in rendered:
            self._raw.pop(rel, None)

    def _unknow(self, changed: Collection[str]) -> None:
        """Before a document is written, what is known of all goes: documents that are half rendered have none."""
        if changed and self._known.documents and not self.written:
            self._store.delete(paths.rendered(self._shard))

    def forget(self, rel: str) -> None:
        """Has a file read again: others may have written it."""
        self._raw.pop(rel, None)

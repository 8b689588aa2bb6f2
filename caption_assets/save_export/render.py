"""Render a shard's tables into the documents of the Save & Export layout.

There is no lock. A render writes, then looks whether a table was committed meanwhile, and if so renders again; and
whoever commits a table renders afterwards. So whichever of two writers comes last has seen both tables.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from caption_assets.errors import StoreError
from caption_assets.save_export import chunks, documents, paths
from caption_assets.save_export.documents import Document, clip_document, is_cut
from caption_assets.save_export.files import dump_document, parse_document
from caption_assets.save_export.foreign import Clean, usable
from caption_assets.save_export.rendered import Rendered, depends_on, is_up_to_date, read_rendered, write_rendered
from caption_assets.store.snapshot import ClipRows, read_finding_stamps, read_snapshot, read_stamps
from caption_assets.store.store import Store

log = logging.getLogger(__name__)

# More passes than writers that could plausibly meet; a writer that is still at work renders at its own end anyway.
_MOST_PASSES = 10
# Of a source video's path, how many are tried to find the splitter's documents.
_MOST_FOLDERS = 64
# What documents of other shards' clips say, by URL and stamp: a chunk of thousands is counted anew for every shard.
_SUMMARIES: dict[tuple[str, str | None], chunks.ClipSummary] = {}
_MOST_SUMMARIES = 20_000


@dataclass(frozen=True, slots=True)
class RenderSummary:
    """How many documents a render wrote, and how many it found to be right already."""

    written: int
    unchanged: int


def render_shard(
    store: Store,
    shard: str,
    *,
    caption_keys: Sequence[str] = (),
    text_keys: Sequence[str] = (),
    source_root: str | None = None,
) -> RenderSummary:
    """Bring all documents of a shard's clips up to its tables.

    `caption_keys` and `text_keys` give the order of the keys in a window, and with it whose caption stands in
    the chunk documents; keys with a table that they do not name follow in alphabetical order. `source_root` is the
    folder that the splitter read, for clips that one cut: their `processed_*` documents are named by the source
    below it. Without it, the splitter's own documents are looked for.

    Nothing is read but stamps where no table has changed since the last time, and every document is as it was left; on
    an object store, that nobody else has changed one is taken for granted. What another tool has put into a document
    and cannot be used is left or replaced, with a warning that names the file: a source video that does not lie below
    `source_root`, for one, whose `processed_*` documents are left.
    """
    asked = list(caption_keys), list(text_keys), source_root
    rendered = read_rendered(store, shard)
    written: set[str] = set()
    for turn in range(_MOST_PASSES):
        stamps = read_stamps(store, shard)
        of = depends_on(stamps, *asked)
        if turn == 0 and is_up_to_date(store, rendered, of):
            return RenderSummary(0, len(rendered.documents))
        findings = read_finding_stamps(store, shard, stamps)
        snapshot = read_snapshot(store, shard, stamps, caption_keys=caption_keys, text_keys=text_keys)
        # What is known is of before anything was written: by now, another writer may have been at the same documents.
        render = _Pass(store, shard, source_root, rendered if turn == 0 else Rendered())
        render.run(snapshot.clips)
        written |= render.written
        if read_stamps(store, shard) == stamps and read_finding_stamps(store, shard, stamps) == findings:
            if render.own or rendered.documents:
                write_rendered(store, shard, of, render.own)
            break
    return RenderSummary(written=len(written), unchanged=len(render.rendered - written))


class _Pass:
    """One reading of the documents that a shard's clips touch, and the writing of those that differ."""

    def __init__(self, store: Store, shard: str, source_root: str | None, known: Rendered) -> None:
        self._store, self._shard, self._source_root, self._known = store, shard, source_root, known
        self._stamps = store.stamps(known.documents)
        self._raw: dict[str, bytes | None] = {}
        self._listings: dict[str, list[str]] = {}
        self._source_rels: dict[str, str | None] = {}
        self.rendered: set[str] = set()
        self.written: set[str] = set()
        self.own: dict[str, bytes] = {}
        """What was rendered and is this shard's alone."""

    def run(self, clips: Sequence[ClipRows]) -> None:
        metas = {rows.clip.clip_id: paths.clip_document(rows.clip.clip_id) for rows in clips}
        self._load(metas.values())
        made: dict[str, Document] = {}
        own: list[ClipRows] = []
        cut: dict[str, list[str]] = defaultdict(list)
        for rows in clips:
            clip = rows.clip
            existing = self._read(metas[clip.clip_id], documents.FIELDS)
            made[clip.clip_id] = clip_document(rows, existing)
            if not is_cut(clip, existing):
                own.append(rows)
            elif (rel := self._source_rel(made[clip.clip_id]["source_video"], metas[clip.clip_id])) is not None:
                cut[rel].append(clip.clip_id)
        self._write_own({metas[clip_id]: document for clip_id, document in made.items()})
        processed: dict[str, Document] = {}
        for clip in (rows.clip for rows in own):
            summary = chunks.summarize(made[clip.clip_id])
            chunk = chunks.chunk_document(None, clip.location, 0, {clip.clip_id: summary}, (clip.clip_id,))
            processed[paths.processed_video(clip.relative_path)] = chunks.own_video_document(clip)
            processed[paths.processed_clip_chunk(clip.relative_path, 0)] = chunk
        self._write_own(processed)
        for source_rel, clip_ids in cut.items():
            self._write_cut(source_rel, {clip_id: made[clip_id] for clip_id in clip_ids})

    def _write_cut(self, source_rel: str, clips: dict[str, Document]) -> None:
        """The documents of one source video that a splitter cut, as far as this shard's clips are concerned."""
        video_rel = paths.processed_video(source_rel)
        video = self._read(video_rel, chunks.VIDEO_FIELDS)
        chunk_of = self._find_chunks(source_rel, set(clips))
        by_chunk: dict[int, dict[str, Document]] = defaultdict(dict)
        for clip_id, document in clips.items():
            by_chunk[chunk_of.get(clip_id, 0)][clip_id] = document
        first = next(iter(clips.values()))
        num_clips = len(clips.keys() | {clip for index in by_chunk for clip in self._listed(source_rel, index)})
        self._write(video_rel, chunks.cut_video_document(video, first, num_clips, max(by_chunk) + 1))
        for index, members in sorted(by_chunk.items()):
            self._write_chunk(source_rel, index, first["source_video"], members)

    def _write_chunk(self, source_rel: str, index: int, video: str, clips: dict[str, Document]) -> None:
        """One chunk of a splitter, counted from the documents of all its clips.

        Clips of other shards may be rendered at the same time by another process. So the chunk is made again from
        what is there after writing, until nothing changes.
        """
        rel = paths.processed_clip_chunk(source_rel, index)
        own = {clip_id: self._summarize(clip_id, document) for clip_id, document in clips.items()}
        for _ in range(_MOST_PASSES):
            existing = self._read(rel, chunks.CHUNK_FIELDS)
            listed = chunks.listed_clips(existing)
            new = tuple(clip_id for clip_id in clips if clip_id not in set(listed))
            others = {clip_id: meta for clip_id in listed if clip_id not in clips and (meta := _meta(clip_id))}
            summaries = self._summaries(others) | own
            changed = self._write(rel, chunks.chunk_document(existing, video, index, summaries, new))
            if not changed or not others:
                return
            for meta in others.values():
                self._raw.pop(meta, None)

    def _summaries(self, metas: Mapping[str, str]) -> dict[str, chunks.ClipSummary]:
        """What the documents of clips say, by clip; one that has not changed is not read again for the next shard."""
        stamps = self._store.stamps(metas.values()) or {}
        keys = {clip_id: (self._store.url(meta), stamps.get(meta)) for clip_id, meta in metas.items()}
        known = {clip_id: _SUMMARIES[key] for clip_id, key in keys.items() if key in _SUMMARIES}
        unknown = {clip_id: meta for clip_id, meta in metas.items() if clip_id not in known}
        self._load(unknown.values())
        for clip_id, meta in unknown.items():
            if (document := self._read(meta, documents.FIELDS)) is not None:
                known[clip_id] = chunks.summarize(document)
                if stamps.get(meta):
                    _SUMMARIES[keys[clip_id]] = known[clip_id]
        while len(_SUMMARIES) > _MOST_SUMMARIES:
            del _SUMMARIES[next(iter(_SUMMARIES))]
        return {clip_id: self._with_preview(clip_id, summary) for clip_id, summary in known.items()}

    def _summarize(self, clip_id: str, document: Document) -> chunks.ClipSummary:
        return self._with_preview(clip_id, chunks.summarize(document))

    def _with_preview(self, clip_id: str, summary: chunks.ClipSummary) -> chunks.ClipSummary:
        if summary.has_preview is None and summary.windows:
            # The original puts previews beside the document without a word in it.
            return replace(summary, has_preview=bool(self._store.names(paths.preview_folder(clip_id))))
        return summary

    def _find_chunks(self, source_rel: str, clip_ids: set[str]) -> dict[str, int]:
        """The chunk that lists each clip; clips that none lists are missing.

        A chunk that failed has left a gap. So the folder is listed where clips are still missing at the first gap.
        """
        found: dict[str, int] = {}
        index = 0
        while clip_ids - found.keys() and self._raw_of(paths.processed_clip_chunk(source_rel, index)) is not None:
            found |= {clip_id: index for clip_id in self._listed(source_rel, index) if clip_id in clip_ids}
            index += 1
        if clip_ids - found.keys():
            for later in self._chunks_from(source_rel, index + 1):
                found |= {clip_id: later for clip_id in self._listed(source_rel, later) if clip_id in clip_ids}
        return found

    def _chunks_from(self, source_rel: str, first: int) -> list[int]:
        folder = paths.processed_clip_chunk(source_rel, 0).rpartition("/")[0]
        if folder not in self._listings:
            self._listings[folder] = self._store.names(folder)
        ends = (name.removesuffix(".json").rpartition("_")[2] for name in self._listings[folder])
        numbers = sorted({int(end) for end in ends if end.isdecimal() and len(end) < 10 and int(end) >= first})
        names = set(self._listings[folder])
        return [n for n in numbers if paths.processed_clip_chunk(source_rel, n).rpartition("/")[2] in names]

    def _listed(self, source_rel: str, index: int) -> list[str]:
        return chunks.listed_clips(self._read(paths.processed_clip_chunk(source_rel, index), {}))

    def _source_rel(self, source: str, meta: str) -> str | None:
        """A source video below the splitter's input root; None where that cannot be said."""
        if source not in self._source_rels:
            wrong = ""
            if self._source_root is not None:
                rel = paths.source_relative(source, self._source_root)
                wrong = f"does not lie below the source root {self._source_root}"
            else:
                rel = self._find_source_rel(source)
                wrong = "names no file, or another source has a file of that name"
            if rel is None:
                self._warn(
                    meta,
                    f"its source video {source[:200]!r} {wrong}: its processed_* documents are left as they are. "
                    "Set the source root to the folder that the splitter read",
                )
            self._source_rels[source] = rel
        return self._source_rels[source]

    def _find_source_rel(self, source: str) -> str | None:
        _, *parts = paths.split(source)
        while ".." in parts:
            parts = parts[parts.index("..") + 1 :]
        for count in range(1, min(len(parts), _MOST_FOLDERS) + 1):
            rel = "/".join(parts[-count:])
            if (self._read(paths.processed_video(rel), chunks.VIDEO_FIELDS) or {}).get("video") == source:
                return rel
        taken = self._raw_of(paths.processed_video(parts[-1])) if parts else None
        # A document that is torn is nobody's.
        return parts[-1] if parts and (taken is None or parse_document(taken) is None) else None

    # Files

    def _load(self, rels: Iterable[str]) -> None:
        """Reads many files at once."""
        missing = [rel for rel in rels if rel not in self._raw]
        self._raw |= dict(zip(missing, self._store.each(self._store.read_bytes, missing), strict=True))

    def _raw_of(self, rel: str) -> bytes | None:
        if rel not in self._raw:
            self._raw[rel] = self._store.read_bytes(rel)
        return self._raw[rel]

    def _read(self, rel: str, fields: Mapping[str, Clean]) -> Document | None:
        """What can be used of a document, of whose keys `fields` are; None where there is none or it is torn."""
        data = self._raw_of(rel)
        if data is None:
            return None
        document = parse_document(data)
        if document is None:
            self._warn(rel, "it is torn, or no document: it is replaced")
            return None
        document, wrong = usable(document, fields)
        if wrong:
            self._warn(rel, f"what it holds in {', '.join(wrong)} cannot be used, and is replaced")
        return document

    def _warn(self, rel: str, wrong: str) -> None:
        log.warning("%s: %s", self._store.url(rel), wrong)

    def _write_own(self, made: Mapping[str, Document]) -> None:
        """Writes documents that no other shard has to do with, many at once."""
        data = {rel: self._dump(rel, document) for rel, document in made.items()}
        known = {rel for rel, dumped in data.items() if self._known.holds(rel, dumped, self._stamps)}
        # What was read, and what costs little to read: all but what an object store is sent unseen.
        seen = {rel for rel in data if rel not in known and (rel in self._raw or self._stamps is not None)}
        changed = [rel for rel in data if rel not in known and not (rel in seen and self._raw_of(rel) == data[rel])]
        if changed and self._known.documents and not self.written:
            self._store.delete(paths.rendered(self._shard))
        self._store.each(lambda rel: self._store.write_if_changed(rel, data[rel], known=None), changed)
        self._done(data, changed)
        self.own |= data

    def _write(self, rel: str, document: Document) -> bool:
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


def _meta(clip_id: str) -> str | None:
    """The path of a clip's document; None where another tool's word for a clip cannot name one."""
    try:
        rel = paths.clip_document(clip_id)
    except StoreError:
        return None
    return rel if paths.fitted(rel, "") == rel else None

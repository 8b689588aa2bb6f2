"""Render a shard's tables into the documents of the Save & Export layout.

There is no lock. A render writes, then looks whether a table was committed meanwhile, and if so renders again; and
whoever commits a table renders afterwards. So whichever of two writers comes last has seen both tables.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from caption_assets.errors import StoreError
from caption_assets.save_export import chunks, documents, paths
from caption_assets.save_export.documents import Document, clip_document, is_cut
from caption_assets.save_export.files import parse_document
from caption_assets.save_export.rendered import Rendered, are_as_written, asked_for, read_rendered, write_rendered
from caption_assets.save_export.shard_files import ShardFiles
from caption_assets.store.snapshot import ClipRows, Stamps, look_at, look_at_findings, read_snapshot, stamps_of
from caption_assets.store.store import Store
from caption_assets.store.tables import SHARD_REVIEW

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
    seen: Stamps | None = None,
) -> RenderSummary:
    """Bring all documents of a shard's clips up to its tables.

    `caption_keys` and `text_keys` give the order of the keys in a window, and with it whose caption stands in
    the chunk documents; keys with a table that they do not name follow in alphabetical order. `source_root` is the
    folder that the splitter read, for clips that one cut: their `processed_*` documents are named by the source
    below it. Without it, the splitter's own documents are looked for.

    Nothing is read but stamps where no table has changed since the last time, and every document is as it was left. On
    an object store, that nobody else has changed one is taken for granted; and where `seen` has the stamps of tables
    that the caller has just read and left as they are, so is that of the others: whoever writes them sees to that.

    What another tool has put into a document and cannot be used is left or replaced, with a warning that names the
    file: a source video that does not lie below `source_root`, for one, whose `processed_*` documents are left.
    """
    asked = asked_for(list(caption_keys), list(text_keys), source_root)
    rendered = read_rendered(store, shard)
    written: set[str] = set()
    if seen and rendered.asked == asked and not store.looks_cost_nothing:
        # Nobody renders verdicts but whoever comes by.
        reviewed = stamps_of(look_at(store, shard, [SHARD_REVIEW]))
        assets = {table: stamp for table, stamp in rendered.tables.items() if table[0] != SHARD_REVIEW.name}
        if seen.items() <= assets.items() and rendered.tables == assets | dict(reviewed):
            return RenderSummary(0, len(rendered.documents))
    for turn in range(_MOST_PASSES):
        looks = look_at(store, shard)
        stamps = stamps_of(looks)
        if turn == 0 and (rendered.asked, rendered.tables) == (asked, stamps) and are_as_written(store, rendered):
            return RenderSummary(0, len(rendered.documents))
        findings = look_at_findings(store, shard, looks)
        clips = read_snapshot(store, shard, looks, caption_keys=caption_keys, text_keys=text_keys)
        # What is known is of before anything was written: by now, another writer may have been at the same documents.
        files = ShardFiles(store, shard, rendered if turn == 0 else Rendered())
        _Pass(store, source_root, files).run(clips, stamps)
        written |= files.written
        if stamps_of(look_at(store, shard)) == stamps and look_at_findings(store, shard, looks) == findings:
            if files.own or rendered.documents:
                write_rendered(store, shard, Rendered(asked, stamps, files.own, frozenset(files.mixed)))
            break
    return RenderSummary(written=len(written), unchanged=len(files.rendered - written))


class _Pass:
    """One reading of the documents that a shard's clips touch, and the writing of those that differ."""

    def __init__(self, store: Store, source_root: str | None, files: ShardFiles) -> None:
        self._store, self._source_root, self._files = store, source_root, files
        self._listings: dict[str, list[str]] = {}
        self._source_rels: dict[str, str | None] = {}

    def run(self, clips: Sequence[ClipRows], tables: Stamps) -> None:
        # Without anything of others.
        pure = {} if self._store.looks_cost_nothing else {r.clip.clip_id: clip_document(r, None) for r in clips}
        made = self._files.write_unread(pure, tables)
        own = [rows for rows in clips if rows.clip.clip_id in made]
        cut: dict[str, list[str]] = defaultdict(list)
        left = {paths.clip_document(rows.clip.clip_id): rows for rows in clips if rows.clip.clip_id not in made}
        self._files.load(left)
        for rel, rows in left.items():
            clip = rows.clip
            existing = self._files.read(rel, documents.FIELDS)
            made[clip.clip_id] = clip_document(rows, existing)
            if existing is not None and made[clip.clip_id] != pure.get(clip.clip_id):
                self._files.mixed.add(rel)
            if not is_cut(clip, existing):
                own.append(rows)
            elif (source_rel := self._source_rel(made[clip.clip_id]["source_video"], rel)) is not None:
                cut[source_rel].append(clip.clip_id)
        self._files.write_own({rel: made[rows.clip.clip_id] for rel, rows in left.items()})
        processed: dict[str, Document] = {}
        for clip in (rows.clip for rows in own):
            summary = chunks.summarize(made[clip.clip_id])
            chunk = chunks.chunk_document(None, clip.location, 0, {clip.clip_id: summary}, (clip.clip_id,))
            processed[paths.processed_video(clip.relative_path)] = chunks.own_video_document(clip)
            processed[paths.processed_clip_chunk(clip.relative_path, 0)] = chunk
        self._files.write_own(processed)
        for source_rel, clip_ids in cut.items():
            self._write_cut(source_rel, {clip_id: made[clip_id] for clip_id in clip_ids})

    def _write_cut(self, source_rel: str, clips: dict[str, Document]) -> None:
        """The documents of one source video that a splitter cut, as far as this shard's clips are concerned."""
        video_rel = paths.processed_video(source_rel)
        video = self._files.read(video_rel, chunks.VIDEO_FIELDS)
        chunk_of = self._find_chunks(source_rel, set(clips))
        by_chunk: dict[int, dict[str, Document]] = defaultdict(dict)
        for clip_id, document in clips.items():
            by_chunk[chunk_of.get(clip_id, 0)][clip_id] = document
        first = next(iter(clips.values()))
        num_clips = len(clips.keys() | {clip for index in by_chunk for clip in self._listed(source_rel, index)})
        self._files.write(video_rel, chunks.cut_video_document(video, first, num_clips, max(by_chunk) + 1))
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
            existing = self._files.read(rel, chunks.CHUNK_FIELDS)
            listed = chunks.listed_clips(existing)
            new = tuple(clip_id for clip_id in clips if clip_id not in set(listed))
            others = {clip_id: meta for clip_id in listed if clip_id not in clips and (meta := _meta(clip_id))}
            summaries = self._summaries(others) | own
            changed = self._files.write(rel, chunks.chunk_document(existing, video, index, summaries, new))
            if not changed or not others:
                return
            for meta in others.values():
                self._files.forget(meta)

    def _summaries(self, metas: Mapping[str, str]) -> dict[str, chunks.ClipSummary]:
        """What the documents of clips say, by clip; one that has not changed is not read again for the next shard."""
        stamps = self._store.stamps(metas.values()) or {}
        keys = {clip_id: (self._store.url(meta), stamps.get(meta)) for clip_id, meta in metas.items()}
        known = {clip_id: _SUMMARIES[key] for clip_id, key in keys.items() if key in _SUMMARIES}
        unknown = {clip_id: meta for clip_id, meta in metas.items() if clip_id not in known}
        self._files.load(unknown.values())
        for clip_id, meta in unknown.items():
            if (document := self._files.read(meta, documents.FIELDS)) is not None:
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
        while clip_ids - found.keys() and self._files.raw_of(paths.processed_clip_chunk(source_rel, index)) is not None:
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
        return chunks.listed_clips(self._files.read(paths.processed_clip_chunk(source_rel, index), {}))

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
                self._files.warn(
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
            if (self._files.read(paths.processed_video(rel), chunks.VIDEO_FIELDS) or {}).get("video") == source:
                return rel
        taken = self._files.raw_of(paths.processed_video(parts[-1])) if parts else None
        # A document that is torn is nobody's.
        return parts[-1] if parts and (taken is None or parse_document(taken) is None) else None


def _meta(clip_id: str) -> str | None:
    """The path of a clip's document; None where another tool's word for a clip cannot name one."""
    try:
        rel = paths.clip_document(clip_id)
    except StoreError:
        return None
    return rel if paths.fitted(rel, "") == rel else None

"""Render a shard's tables into the documents of the Save & Export layout.

There is no lock. A render writes, then looks whether a table was committed meanwhile, and if so renders again; and
whoever commits a table renders afterwards. So whichever of two writers comes last has seen both tables.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from caption_assets.errors import ConfigError
from caption_assets.save_export import chunks, paths
from caption_assets.save_export.documents import Document, clip_document, is_cut
from caption_assets.save_export.files import parse_document, write_document
from caption_assets.store.rows import WindowRow
from caption_assets.store.snapshot import ClipRows, read_snapshot, read_stamps
from caption_assets.store.store import Store

# More passes than writers that could plausibly meet; a writer that is still at work renders at its own end anyway.
_MOST_PASSES = 10


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
    enhanced_keys: Sequence[str] = (),
    source_root: str | None = None,
) -> RenderSummary:
    """Bring all documents of a shard's clips up to its tables.

    `caption_keys` and `enhanced_keys` give the order of the keys in a window, and with it whose caption stands in
    the chunk documents; keys with a table that they do not name follow in alphabetical order. `source_root` is the
    folder that the splitter read, for clips that one cut: their `processed_*` documents are named by the source
    below it. Without it, the splitter's own documents are looked for.

    Raises ConfigError, before anything is written, where a source video does not lie below `source_root`.
    """
    written: set[str] = set()
    rendered: set[str] = set()
    for _ in range(_MOST_PASSES):
        snapshot = read_snapshot(store, shard, caption_keys=caption_keys, enhanced_keys=enhanced_keys)
        render = _Pass(store, source_root)
        render.run(snapshot.clips)
        written |= render.written
        rendered |= render.rendered
        if read_stamps(store, shard) == snapshot.stamps:
            break
    return RenderSummary(written=len(written), unchanged=len(rendered - written))


class _Pass:
    """One reading of the documents that a shard's clips touch, and the writing of those that differ."""

    def __init__(self, store: Store, source_root: str | None) -> None:
        self._store, self._source_root = store, source_root
        self._raw: dict[str, bytes | None] = {}
        self._source_rels: dict[str, str] = {}
        self.rendered: set[str] = set()
        self.written: set[str] = set()

    def run(self, clips: Sequence[ClipRows]) -> None:
        documents: dict[str, Document] = {}
        own: list[WindowRow] = []
        cut: dict[str, list[str]] = defaultdict(list)
        for rows in clips:
            clip = rows.clip
            existing = self._read(paths.clip_document(clip.clip_id))
            documents[clip.clip_id] = clip_document(rows, existing)
            if is_cut(clip, existing):
                cut[self._source_rel(documents[clip.clip_id]["source_video"])].append(clip.clip_id)
            else:
                own.append(clip)
        for clip_id, document in documents.items():
            self._write(paths.clip_document(clip_id), document)
        for clip in own:
            self._write(paths.processed_video(clip.relative_path), chunks.own_video_document(clip))
        for clip in own:
            summary = chunks.summarize(documents[clip.clip_id])
            chunk = chunks.chunk_document(None, clip.location, 0, {clip.clip_id: summary}, (clip.clip_id,))
            self._write(paths.processed_clip_chunk(clip.relative_path, 0), chunk)
        for source_rel, clip_ids in cut.items():
            self._write_cut(source_rel, {clip_id: documents[clip_id] for clip_id in clip_ids})

    def _write_cut(self, source_rel: str, documents: dict[str, Document]) -> None:
        """The documents of one source video that a splitter cut, as far as this shard's clips are concerned."""
        video_rel = paths.processed_video(source_rel)
        video = self._read(video_rel)
        chunk_of = self._find_chunks(source_rel, set(documents), (video or {}).get("num_clip_chunks"))
        by_chunk: dict[int, dict[str, Document]] = defaultdict(dict)
        for clip_id, document in documents.items():
            by_chunk[chunk_of.get(clip_id, 0)][clip_id] = document
        first = next(iter(documents.values()))
        num_clips = len(documents.keys() | {clip for index in by_chunk for clip in self._listed(source_rel, index)})
        self._write(video_rel, chunks.cut_video_document(video, first, num_clips, max(by_chunk) + 1))
        for index, clips in sorted(by_chunk.items()):
            self._write_chunk(source_rel, index, first["source_video"], clips)

    def _write_chunk(self, source_rel: str, index: int, video: str, documents: dict[str, Document]) -> None:
        """One chunk of a splitter, counted from the documents of all its clips.

        Clips of other shards may be rendered at the same time by another process. So the chunk is made again from
        what is there after writing, until nothing changes.
        """
        rel = paths.processed_clip_chunk(source_rel, index)
        for _ in range(_MOST_PASSES):
            existing = self._read(rel)
            listed = chunks.listed_clips(existing)
            new = tuple(clip_id for clip_id in documents if clip_id not in listed)
            others = [clip_id for clip_id in listed if clip_id not in documents]
            found = {clip_id: self._read(paths.clip_document(clip_id)) for clip_id in others}
            known = documents | {clip_id: document for clip_id, document in found.items() if document is not None}
            summaries = {clip_id: self._summarize(clip_id, document) for clip_id, document in known.items()}
            changed = self._write(rel, chunks.chunk_document(existing, video, index, summaries, new))
            if not changed or not others:
                return
            for clip_id in others:
                self._raw.pop(paths.clip_document(clip_id), None)

    def _summarize(self, clip_id: str, document: Document) -> chunks.ClipSummary:
        summary = chunks.summarize(document)
        if summary.has_preview is None and summary.windows:
            # The original puts previews beside the document without a word in it.
            return replace(summary, has_preview=bool(self._store.names(paths.preview_folder(clip_id))))
        return summary

    def _find_chunks(self, source_rel: str, clip_ids: set[str], num_chunks: Any) -> dict[str, int]:
        """The chunk that lists each clip; clips that none lists are missing."""
        found: dict[str, int] = {}
        index = 0
        while clip_ids - found.keys():
            # A chunk that failed has left a gap, so the splitter's count goes before the first one missing.
            counted = isinstance(num_chunks, int) and index < num_chunks
            if not counted and self._read(paths.processed_clip_chunk(source_rel, index)) is None:
                break
            found |= {clip_id: index for clip_id in self._listed(source_rel, index) if clip_id in clip_ids}
            index += 1
        return found

    def _listed(self, source_rel: str, index: int) -> list[str]:
        return chunks.listed_clips(self._read(paths.processed_clip_chunk(source_rel, index)))

    def _source_rel(self, source: str) -> str:
        """A source video below the splitter's input root."""
        if source not in self._source_rels:
            self._source_rels[source] = self._find_source_rel(source)
        return self._source_rels[source]

    def _find_source_rel(self, source: str) -> str:
        if self._source_root is not None:
            rel = paths.source_relative(source, self._source_root)
            if rel is None:
                raise ConfigError(
                    f"source video {source}",
                    f"it does not lie below the source root {self._source_root}",
                    "set the source root to the folder that the splitter read",
                )
            return rel
        _, *parts = paths.split(source)
        while ".." in parts:
            parts = parts[parts.index("..") + 1 :]
        for count in range(1, len(parts) + 1):
            rel = "/".join(parts[-count:])
            if (self._read(paths.processed_video(rel)) or {}).get("video") == source:
                return rel
        if not parts or self._read(paths.processed_video(parts[-1])) is not None:
            raise ConfigError(
                f"source video {source}",
                "it names no file, or another source has a file of that name",
                "set the source root to the folder that the splitter read",
            )
        return parts[-1]

    def _read(self, rel: str) -> Document | None:
        """A document, read at most once; None where there is none or it is torn."""
        if rel not in self._raw:
            self._raw[rel] = self._store.read_bytes(rel)
        data = self._raw[rel]
        return None if data is None else parse_document(data)

    def _write(self, rel: str, document: Document) -> bool:
        self.rendered.add(rel)
        changed = write_document(self._store, rel, document, known=self._raw.pop(rel, ...))
        if changed:
            self.written.add(rel)
        return changed

"""What cosmos-curate leaves for others: `metas/v0`, `metas_jsonl/v0` and `summary.json`, of the windows that go out.

cosmos-framework's `curator_to_sft_jsonl --curator-output` reads `metas_jsonl/v0/*.jsonl`; cosmos-curate's `shard
--input-clip-path` reads `summary.json`, and `metas/v0/<clip>.json` of the clips that it names.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from caption_assets.exports.base import Entry, ListFormat, Totals
from caption_assets.exports.columns import json_line
from caption_assets.exports.folder import FolderPart
from caption_assets.save_export.documents import clip_document
from caption_assets.save_export.files import dump_document, read_document
from caption_assets.save_export.paths import METAS_VERSION
from caption_assets.save_export.paths import clip_document as document_path
from caption_assets.settings import ExportVideos
from caption_assets.store.paths import component, fitted
from caption_assets.store.snapshot import ClipRows
from caption_assets.store.store import Store


class Cosmos(ListFormat):
    """A clip's document has the windows that go out, with the text that goes out and the caption it was made from."""

    name = "cosmos"
    videos = ("links", "clips")
    videos_folder = "clips"

    def takes_parts(self, videos: ExportVideos) -> bool:
        return True

    def add(self, entries: Sequence[Entry], part: FolderPart, store: Store) -> None:
        clips: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            clips[entry.sample.window.clip_id].append(entry)
        existing = store.each(lambda clip: read_document(store, document_path(clip)), clips)
        files = {}
        for of_clip, before in zip(clips.values(), existing, strict=True):
            first = of_clip[0]
            document = _document(of_clip, before or {})
            files[first.split + document_path(first.sample.window.clip_id)] = dump_document(document)
            part.own_lines(first.split + _lines_file(first.sample.shard), json_line(document))
            part.lines(f"{first.split}summary.json", _summary(first, document))
        part.write(files)

    def head(self) -> str:
        return "{\n"

    def tail(self, totals: Totals) -> str:
        """Counts, by the names that cosmos-curate has for them."""
        videos = ("num_input_videos", "num_input_videos_selected", "num_processed_videos")
        clips = ("total_num_clips_passed", "total_num_clips_transcoded", "total_num_clips_with_caption")
        return json.dumps(dict.fromkeys((*videos, *clips), totals.clips), indent=4)[2:] + "\n"


def _lines_file(shard: str) -> str:
    return f"metas_jsonl/{METAS_VERSION}/{fitted(component(shard, 'shard'), '.jsonl')}"


def _document(entries: Sequence[Entry], before: dict[str, Any]) -> dict[str, Any]:
    """The clip's document as the layout has it, but of the windows and texts that go out only."""
    samples = [entry.sample for entry in entries]
    enhanced = {sample.frames: of for sample in samples if (of := sample.enhanced)}
    rows = ClipRows(
        windows=tuple(sample.window for sample in samples),
        captions={samples[0].caption.key: {sample.frames: sample.caption for sample in samples}},
        enhanced={(of.key, of.caption_key): enhanced for of in enhanced.values()},
    )
    document = clip_document(rows, {key: value for key, value in before.items() if key != "windows"})
    return document | {"clip_location": entries[0].location}


def _summary(entry: Entry, document: dict[str, Any]) -> str:
    row = entry.sample.window
    of_video = {
        "source_video": document["source_video"],
        "num_total_clips": 1,
        "num_clips_passed": 1,
        "num_clips_with_caption": 1,
        "clips": [row.clip_id],
        "filtered_clips": [],
    }
    return f"{json.dumps(row.relative_path)}: {json.dumps(of_video)},\n"

"""Hugging Face VideoFolder: `metadata.jsonl` beside the videos. finetrainers reads `caption` and the video of it."""

from typing import Any

from caption_assets.exports.base import Entry
from caption_assets.exports.columns import fields
from caption_assets.exports.formats.json_lines import JsonLinesFormat


class VideoFolder(JsonLinesFormat):
    """`file_name` is the path below the folder of the file, which is that of `datasets.load_dataset("videofolder")`."""

    name = "videofolder"
    needs_files = True

    def row(self, entry: Entry) -> dict[str, Any]:
        return {"file_name": entry.path, **fields(entry)}

    def data_files(self, split: str) -> list[str]:
        return [f"{split}{self.file}", f"{split}{self.videos_folder}/*"]

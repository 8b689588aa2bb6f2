"""Hugging Face VideoFolder: `metadata.jsonl` beside the videos. finetrainers reads `caption` and the video of it."""

from typing import Any

from caption_assets.exports.base import Entry
from caption_assets.exports.columns import fields
from caption_assets.exports.formats.json_lines import JsonLinesFormat


class VideoFolder(JsonLinesFormat):
    """`file_name` is the path below the folder of the file, which is that of `datasets.load_dataset("videofolder")`.

    That takes no types from the card, and fails where a column is null in all rows of one split and not in another's:
    the only column that may be null is left out.
    """

    name = "videofolder"
    needs_files = True

    def row(self, entry: Entry) -> dict[str, Any]:
        return {"file_name": entry.path, **{name: of for name, of in fields(entry).items() if name != "mean_logprob"}}

    def data_files(self, split: str) -> list[str]:
        return [f"{split}{self.file}", f"{split}{self.videos_folder}/*"]

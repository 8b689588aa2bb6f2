"""A text file beside each video, of the same name: directories of diffusion-pipe, musubi-tuner and finetrainers."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from caption_assets.exports.base import Entry, ListFormat
from caption_assets.exports.folder import FolderPart
from caption_assets.store.store import Store


class TextFiles(ListFormat):
    """`videos/` holds nothing else: diffusion-pipe takes every other file for a video."""

    name = "txt"
    needs_files = True

    def add(self, entries: Sequence[Entry], part: FolderPart, store: Store) -> None:
        texts = {
            entry.split + str(PurePosixPath(entry.path).with_suffix(".txt")): entry.sample.text for entry in entries
        }
        part.write({rel: text.encode() for rel, text in texts.items()})

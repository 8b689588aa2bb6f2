"""An export as a whole: shard by shard into its folder, then what is about all of them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from caption_assets.errors import ConfigError
from caption_assets.exports.base import Format, ListFormat, PackFormat, Totals
from caption_assets.exports.card import CARD, card
from caption_assets.exports.contents import Contents, contents_of
from caption_assets.exports.folder import Changes, ExportFolder, FolderPart
from caption_assets.exports.formats import FORMATS
from caption_assets.exports.manifests import Manifest
from caption_assets.exports.samples import Keys, choose_keys, select
from caption_assets.exports.shard import ShardWriter, write_list, write_packs
from caption_assets.exports.videos import VideoSource
from caption_assets.names import actual
from caption_assets.settings import ExportFormatName, ExportSettings, ExportVideos
from caption_assets.store.store import Store
from caption_assets.workers.base import ClipWorkers


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a shard: what is in the export and what stays by reason (`card.REASONS`), what was done to files,
    why videos could not be made, and a version that changes whenever the export's files of the shard do."""

    shard: str
    contents: Contents
    changes: Changes
    failed: tuple[str, ...] = ()
    version: str = ""

    @property
    def samples(self) -> int:
        return self.contents.samples

    @property
    def left_out(self) -> Counter[str]:
        return self.contents.left_out


def folder_name(keys: Keys) -> str:
    """What the folder of an export of these texts is called, where nothing else is said."""
    return keys.caption if keys.text is None else f"{keys.caption}_by_{keys.text}"


def default_folder(store: Store, called: str, keys: Keys) -> str:
    """Where the export of that name goes, below the output, where nothing else is said."""
    return actual(f"{store.url()}/exports/{called}/{folder_name(keys)}")


class Export:
    """One export: the tables of a store, in one format, in one folder."""

    def __init__(
        self,
        store: Store,
        to: str,
        form: ExportFormatName,
        settings: ExportSettings,
        workers: ClipWorkers,
        progress: Callable[[int], None] = lambda windows: None,
    ) -> None:
        """`to` is a folder or URL; `progress` is told whenever some windows have been dealt with.

        Raises ConfigError where the settings fit neither the format nor the tables, or `to` holds something else, and
        StoreError where it cannot be written.
        """
        self._format: Format = FORMATS[form]
        self._videos: ExportVideos = self._format.videos[0] if settings.videos == "auto" else settings.videos
        if self._videos not in self._format.videos:
            fix = f"choose {' or '.join(self._format.videos)}"
            raise ConfigError(f"export {form} with {self._videos}", "the format cannot have them", fix)
        self._store, self._settings = store, settings
        self._workers, self._progress = workers, progress
        self._shard_of: dict[str, str] = {}
        self.twice: Counter[tuple[str, str]] = Counter()
        """How many clips have gone out of both of two shards."""
        self._keys = choose_keys(store, settings)
        self._folder = ExportFolder(to, form)
        self._folder.claim()

    @property
    def url(self) -> str:
        """Absolute path or URL of the folder."""
        return self._folder.store.url()

    def shard(self, shard: str) -> Exported:
        """Writes what the export has of a shard; `finish` writes what is about all of them. Raises StoreError."""
        with self._folder.shard(shard) as part:
            selection = select(self._store, shard, self._keys, self._settings)
            for clip in {sample.window.clip_id for sample in selection.samples}:
                if (first := self._shard_of.setdefault(clip, shard)) != shard:
                    self.twice[first, shard] += 1
            writer = ShardWriter(
                shard,
                selection,
                self._videos,
                VideoSource(self._store, self._workers, self._videos, self._folder.store),
                part,
                self._store,
                self._progress,
            )
            if isinstance(self._format, ListFormat):
                write_list(writer, self._format)
            elif isinstance(self._format, PackFormat):
                write_packs(writer, self._format, self._settings.max_file_mib << 20)
            changes = part.commit(writer.contents.summary())
        return Exported(shard, writer.contents, changes, tuple(dict.fromkeys(writer.failed)), part.version)

    def finish(self, shards: Iterable[str]) -> tuple[Contents, Changes]:
        """Writes what is about all shards, and removes what the export holds no more.

        `shards` are all that there are: what the export has of others goes. Returns what it holds now.
        """
        contents = Contents()

        def render(part: FolderPart, manifests: Iterator[Manifest]) -> None:
            nonlocal contents
            contents = self._render(part, manifests)

        changes = self._folder.finish(render, shards)
        return contents, changes

    def _render(self, part: FolderPart, manifests: Iterator[Manifest]) -> Contents:
        """Writes the files about all shards, a shard's lines at a time, and the card."""
        contents = Contents()
        files: dict[str, BinaryIO] = {}
        try:
            for manifest in manifests:
                contents.add(contents_of(manifest.summary))
                for rel, lines in manifest.lines.items():
                    if rel not in files:
                        files[rel] = part.draft()
                        files[rel].write(self._list_format.head().encode())
                    files[rel].write(lines.encode())
            for rel, file in files.items():
                split = rel.partition("/")[0] if "/" in rel else ""
                file.write(self._list_format.tail(contents.splits.get(split, Totals())).encode())
        finally:
            for file in files.values():
                file.close()
        part.place({rel: str(file.name) for rel, file in files.items()}, {})
        part.write({CARD: card(self._format, self._videos, self._settings, contents).encode()})
        return contents

    @property
    def _list_format(self) -> ListFormat:
        assert isinstance(self._format, ListFormat)
        return self._format

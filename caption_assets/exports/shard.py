"""One shard of an export: its samples, their videos, and what the format has of them."""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.exports.base import Entry, Format, ListFormat, PackFormat
from caption_assets.exports.contents import Contents
from caption_assets.exports.folder import FolderPart
from caption_assets.exports.samples import Sample, Selection
from caption_assets.exports.videos import VideoSource, video_of
from caption_assets.names import is_remote, part_of
from caption_assets.settings import ExportVideos
from caption_assets.store.paths import component, fitted
from caption_assets.store.store import Store

log = logging.getLogger(__name__)
# Samples whose videos are made before those of the next.
_BATCH = 256
# What a file has of a sample besides its video counts as a multiple of this, so that a text that changes seldom moves
# other samples into other files.
_ROUND = 8 << 10


@dataclass(slots=True)
class ShardWriter:
    """Writes the samples of a shard. `contents` and `failed` tell what became of them."""

    shard: str
    selection: Selection
    videos: ExportVideos
    source: VideoSource
    part: FolderPart
    store: Store
    progress: Callable[[int], None]
    contents: Contents = field(default_factory=Contents)
    failed: list[str] = field(default_factory=list)

    def samples(self, form: Format) -> list[Sample]:
        """Those that the format can hold; what it cannot is counted, as is what was not selected. Raises ConfigError
        for links that cannot be."""
        self.contents.left_out = self.selection.left_out.copy()
        samples = [sample for sample in self.selection.samples if not self._counted(self._misfit(sample, form))]
        for sample in samples if self.videos == "links" else ():
            self._check_link(sample.window.location, form)
        return samples

    def _check_link(self, location: str, form: Format) -> None:
        """Raises ConfigError where no link of the format can lead to a clip."""
        wrong = ""
        if part_of(location):
            wrong = "the clip lies inside of a larger file, which readers of links do not open"
        elif isinstance(form, ListFormat) and form.needs_files:
            folder = self.part.store
            if is_remote(location) or not folder.looks_cost_nothing:
                wrong = f"its files are links, and these lead from a folder of this machine to another ({folder.url()})"
        if wrong:
            others = " or ".join(f"--videos {each}" for each in form.videos if each != "links")
            raise ConfigError(f"export {form.name} with links to {location}", wrong, f"ask for {others}")

    def _misfit(self, sample: Sample, form: Format) -> str:
        whole = sample.frames == (0, (sample.window.clip_frames or 0) - 1)
        return "part_of_clip" if not whole and not form.takes_parts(self.videos) else form.cannot_hold(sample.text)

    def _counted(self, reason: str) -> bool:
        if reason:
            self.contents.left_out[reason] += 1
            self.progress(1)
        return bool(reason)

    def drafts(self, entries: Iterable[Entry]) -> dict[str, str]:
        """Makes the videos of entries, one entry a video: drafts' paths, by the videos' names. One that cannot be made
        is told, and missing."""
        samples = {entry.sample.name: entry for entry in entries}
        drafts = {}
        for sample, made in self.source.make([entry.sample for entry in samples.values()], self.selection.probed):
            if isinstance(made, CaptionAssetsError):
                log.warning("shard %s: %s", self.shard, made)
                self.failed.append(str(made))
            else:
                drafts[samples[sample.name].video.name] = made
        return drafts

    def done(self, entries: Sequence[Entry], asked: int) -> None:
        """Counts entries that are in the export, of so many; the others have no video."""
        self.contents.add_entries(entries)
        if lost := asked - len(entries):
            self.contents.left_out["no_video"] += lost
        self.progress(asked)


def write_list(writer: ShardWriter, form: ListFormat) -> None:
    """A shard of a format whose videos are files, or stay where they are. Raises StoreError."""
    part, has_files = writer.part, writer.videos != "links" or form.needs_files
    entries = [_listed(writer, sample, form if has_files else None) for sample in writer.samples(form)]
    if has_files:
        part.announce(entry.rel for entry in entries)
    for batch in _batches(entries):
        good = _with_files(writer, batch) if has_files else batch
        form.add(good, part, writer.store)
        writer.done(good, len(batch))


def _listed(writer: ShardWriter, sample: Sample, form: ListFormat | None) -> Entry:
    """Of a sample whose video is to be a file of the format, or without one stays where it is."""
    video, location = video_of(sample, writer.videos), sample.window.location
    if form is None:
        return Entry(sample, video, location, location)
    entry = Entry(sample, video, f"{form.videos_folder}/{video.name}", "")
    return replace(entry, location=writer.part.store.url(entry.rel))


def _with_files(writer: ShardWriter, batch: Sequence[Entry]) -> list[Entry]:
    """The entries whose videos are in their places, made where they were not there."""
    made_from = {entry.rel: entry.video.made_from for entry in batch}
    there = writer.part.keep(made_from)
    missing = {entry.rel: entry for entry in batch if entry.rel not in there}
    drafts = writer.drafts(missing.values())
    made = {rel: drafts[entry.video.name] for rel, entry in missing.items() if entry.video.name in drafts}
    writer.part.place(made, made_from)
    return [entry for entry in batch if entry.rel in there or entry.rel in made]


@dataclass(slots=True)
class _Pack:
    """A file that is being filled: entries with what is known of their videos, by draft where there is one."""

    entries: list[Entry] = field(default_factory=list)
    drafts: dict[str, str] = field(default_factory=dict)
    num_bytes: int = 0
    number: int = 0


def write_packs(writer: ShardWriter, form: PackFormat, max_file_bytes: int) -> None:
    """A shard of a format whose videos are inside of its files, in order, as many in each as fit. Raises StoreError."""
    packs: dict[str, _Pack] = {}
    entries = [_packed(sample, writer.videos) for sample in writer.samples(form)]
    for batch in _batches(entries):
        sizes = {entry.video.name: _known_size(writer, entry) for entry in batch}
        drafts = writer.drafts(entry for entry in batch if sizes[entry.video.name] is None)
        sizes |= {name: os.path.getsize(path) for name, path in drafts.items()}
        for entry in batch:
            size = sizes[entry.video.name]
            if size is None:
                writer.done([], 1)
                continue
            pack = packs.setdefault(entry.split, _Pack())
            room = size + math.ceil(len(form.about(entry)) / _ROUND) * _ROUND
            if pack.entries and pack.num_bytes + room > max_file_bytes:
                _write_pack(writer, form, pack)
                pack = packs[entry.split] = _Pack(number=pack.number + 1)
            pack.entries.append(entry)
            pack.num_bytes += room
            writer.part.note_video(entry.video.name, entry.video.made_from, size)
            if path := drafts.get(entry.video.name):
                pack.drafts[entry.video.name] = path
    for pack in packs.values():
        _write_pack(writer, form, pack)


def _packed(sample: Sample, videos: ExportVideos) -> Entry:
    video = video_of(sample, videos)
    path = sample.window.location if videos == "links" else video.name
    return Entry(sample, video, path, path)


def _known_size(writer: ShardWriter, entry: Entry) -> int | None:
    """Bytes of a video, where they are known without making it."""
    return 0 if writer.videos == "links" else writer.part.known_size(entry.video.name, entry.video.made_from)


def _write_pack(writer: ShardWriter, form: PackFormat, pack: _Pack) -> None:
    """Writes a file, unless it is there with just these samples."""
    first, part = pack.entries[0], writer.part
    name = fitted(component(writer.shard, "shard"), f"-{pack.number:05d}{form.suffix}")
    rel = (first.split or form.folder) + name
    made_from = _digest(form, pack.entries)
    entries = pack.entries
    if not part.keep({rel: made_from}):
        drafts = pack.drafts
        if writer.videos != "links":
            drafts |= writer.drafts(entry for entry in entries if entry.video.name not in drafts)
            entries = [entry for entry in entries if entry.video.name in drafts]
        if entries:
            part.announce([rel])
            with part.draft() as file:
                form.pack(entries, [drafts[entry.video.name] for entry in entries if drafts], file)
            part.place({rel: str(file.name)}, {rel: _digest(form, entries)})
    for path in pack.drafts.values():
        os.unlink(path)
    writer.done(entries, len(pack.entries))


def _digest(form: PackFormat, entries: Sequence[Entry]) -> str:
    """Changes whenever a file of these samples would be another one."""
    digest = hashlib.sha256(f"{form.name} {form.version}".encode())
    for entry in entries:
        for data in (entry.video.name.encode(), entry.video.made_from.encode(), form.about(entry)):
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Entries in order, some at a time; those of a clip together."""
    batch: list[Entry] = []
    for _, of_clip in groupby(entries, lambda entry: entry.sample.window.clip_id):
        batch += of_clip
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch

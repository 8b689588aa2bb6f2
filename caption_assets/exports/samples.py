"""Which windows of a shard go out, and with which text: read from the tables, and what stays is counted by reason."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caption_assets.errors import ConfigError
from caption_assets.records import text_hash
from caption_assets.settings import ExportSettings
from caption_assets.store.rows import CaptionRow, EnhancedRow, WindowRow, window_key
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose texts go out: the caption key, and the text model's key where its enhanced captions do."""

    caption: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One window that goes out, with the text that goes with it. `split` is empty where there are no splits."""

    shard: str
    window: WindowRow
    caption: CaptionRow
    enhanced: EnhancedRow | None = None
    split: str = ""

    @property
    def written(self) -> CaptionRow | EnhancedRow:
        """The row whose text goes out."""
        return self.enhanced or self.caption

    @property
    def text(self) -> str:
        return self.written.text or ""

    @property
    def frames(self) -> tuple[int, int]:
        """First and last frame in the clip, inclusive."""
        return window_key(self.window)[1:]

    @property
    def name(self) -> str:
        """Tells it apart from all others; a file can have it."""
        return f"{self.window.clip_id}_{self.frames[0]}_{self.frames[1]}"


@dataclass(frozen=True, slots=True)
class Selection:
    """A shard's samples, ordered by clip and start frame; how many windows stay, by reason; and what was found out
    about the clips when they were planned (see `media.packed`), by location."""

    samples: tuple[Sample, ...]
    left_out: Counter[str] = field(default_factory=Counter)
    probed: Mapping[str, bytes] = field(default_factory=dict)


def choose_keys(store: Store, settings: ExportSettings) -> Keys:
    """The keys that the settings name, or the only ones. Raises ConfigError where there are none, or several."""
    captions = store.every_key(WINDOW_CAPTIONS)
    key = _choose(f"captions of {store.url()}", captions, settings.key, "--key")
    if settings.text == "caption":
        return Keys(key)
    pairs = [pair.split("/") for pair in store.every_key(ENHANCED_CAPTIONS)]
    texts = [text for of, text in pairs if of == key]
    return Keys(key, _choose(f"enhanced captions of {key} in {store.url()}", texts, settings.text_key, "--text-key"))


def _choose(what: str, there: Sequence[str], asked: str | None, flag: str) -> str:
    if not there:
        raise ConfigError(f"export {what}", "there are none", "make them first")
    if asked is None and len(there) > 1:
        raise ConfigError(f"export {what}", f"there are several: {', '.join(there)}", f"choose with {flag}")
    if asked is not None and asked not in there:
        raise ConfigError(f"export {what}, {flag} {asked}", "there are none of that key", f"choose: {', '.join(there)}")
    return asked or there[0]


def select(store: Store, shard: str, keys: Keys, settings: ExportSettings) -> Selection:
    """The windows of a shard that go out. Raises StoreError where a table cannot be read."""
    windows = store.read_rows(CLIP_WINDOWS, shard)
    captions = {window_key(row): row for row in store.read_rows(WINDOW_CAPTIONS, shard, keys.caption)}
    rewritten = store.read_rows(ENHANCED_CAPTIONS, shard, f"{keys.caption}/{keys.text}") if keys.text else []
    enhanced = {window_key(row): row for row in rewritten}
    samples, left_out = [], Counter[str]()
    for window in windows:
        if window.start_frame is None:
            continue  # a clip without windows, or what is wrong with the rest of one
        caption = captions.get(window_key(window))
        text = enhanced.get(window_key(window)) if keys.text else caption
        if reason := _wrong_rows(window, caption, text) or _filtered(window, text, settings):
            left_out[reason] += 1
        elif caption is not None:
            of = text if isinstance(text, EnhancedRow) else None
            samples.append(Sample(shard, window, caption, of, split_of(window, settings)))
    return Selection(tuple(samples), left_out, {row.location: row.probed for row in windows if row.probed})


def split_of(window: WindowRow, settings: ExportSettings) -> str:
    """The split of a window's clip: by the hash of its bytes alone, so that no other clip and no name moves it, and
    equal clips are in one split. Empty where no splits are asked for."""
    if not settings.validation and not settings.test:
        return ""
    digest = hashlib.sha256((window.content_hash or window.clip_id).encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return TEST if place < settings.test else VALIDATION if place < settings.test + settings.validation else TRAIN


def _wrong_rows(window: WindowRow, caption: CaptionRow | None, text: CaptionRow | EnhancedRow | None) -> str:
    """Why a window has no text that could go out; empty where it has one."""
    if window.status != "ok":
        return "failed"
    if caption is None or text is None:
        return "no_text"
    if caption.content_hash != window.content_hash:
        return "changed"
    if isinstance(text, EnhancedRow) and (caption.text is None or text_hash(caption.text) != text.caption_hash):
        return "changed"
    if caption.status != "ok" or text.status != "ok" or text.text is None:
        return "failed"
    return "" if text.text.strip() else "blank"


def _filtered(window: WindowRow, text: CaptionRow | EnhancedRow | None, settings: ExportSettings) -> str:
    """The setting that keeps a window; empty where none does."""
    assert text is not None
    characters, seconds = len(text.text or ""), (window.end_s or 0.0) - (window.start_s or 0.0)
    confidence = text.mean_logprob
    kept = {
        "min_characters": settings.min_characters is not None and characters < settings.min_characters,
        "max_characters": settings.max_characters is not None and characters > settings.max_characters,
        "min_seconds": settings.min_seconds is not None and seconds < settings.min_seconds,
        "max_seconds": settings.max_seconds is not None and seconds > settings.max_seconds,
        "min_confidence": settings.min_confidence is not None
        and (confidence is None or confidence < settings.min_confidence),
    }
    return next((name for name, applies in kept.items() if applies), "")

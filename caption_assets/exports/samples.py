"""Which windows of a shard go out, and with which text: read from the tables, and what stays is counted by reason."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from caption_assets.errors import ConfigError
from caption_assets.models.schemas import edited as edited_json
from caption_assets.records import text_hash
from caption_assets.settings import ExportSettings
from caption_assets.store.rows import (
    FLAGGED,
    CaptionRow,
    EnhancedRow,
    FindingRow,
    WindowKey,
    WindowRow,
    key_of_text,
    window_key,
)
from caption_assets.store.store import Store
from caption_assets.store.tables import (
    CAPTION_FINDINGS,
    CLIP_WINDOWS,
    ENHANCED_CAPTIONS,
    ENHANCED_FINDINGS,
    SHARD_REVIEW,
    WINDOW_CAPTIONS,
)
from caption_assets.store.verdicts import Opinion, Standing, TextId, standing

TRAIN, VALIDATION, TEST = SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Keys:
    """Whose texts go out: the caption key, and the text model's key where its enhanced captions do."""

    caption: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One window that goes out, with the text that goes with it.

    The text is that of `enhanced` where there is one, else that of `caption`; where a person has edited it, as the
    person would have it. `opinion` is what people say of it, empty where nobody has looked; `split` is empty where
    there are no splits.
    """

    shard: str
    window: WindowRow
    caption: CaptionRow
    enhanced: EnhancedRow | None = None
    opinion: Opinion | Literal[""] = ""
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
    enhanced = {window_key(row): row for row in _enhanced(store, shard, keys)}
    judges = _Judges.read(store, shard, keys)
    samples, left_out = [], Counter[str]()
    for window in windows:
        if window.start_frame is None:
            continue  # a clip without windows, or what is wrong with the rest of one
        caption, rewritten = captions.get(window_key(window)), enhanced.get(window_key(window))
        found = _sample(shard, window, caption, rewritten if keys.text else caption, judges, settings)
        if isinstance(found, Sample):
            samples.append(found)
        else:
            left_out[found] += 1
    return Selection(tuple(samples), left_out, {row.location: row.probed for row in windows if row.probed})


def _sample(
    shard: str,
    window: WindowRow,
    caption: CaptionRow | None,
    text: CaptionRow | EnhancedRow | None,
    judges: "_Judges",
    settings: ExportSettings,
) -> Sample | str:
    """The sample of a window, whose text is the caption's or of what it was rewritten to; or why it stays."""
    if caption is None or text is None:
        return "no_text" if window.status == "ok" else "failed"
    if reason := _unusable(window, caption, text):
        return reason
    opinion, edited = judges.opinion(text) if settings.reviewed != "ignore" else ("", None)
    if reason := judges.against(text, caption, opinion, settings):
        return reason
    if edited is not None and isinstance(text, CaptionRow) and text.is_json:
        try:
            edited = edited_json(edited, text.json_schema)
        except ValueError:  # edits were not held against schemas in earlier versions
            return "invalid_json"
    if edited is not None:
        text = replace(text, text=edited, mean_logprob=None)
    if reason := _filtered(window, text, bool(opinion), settings):
        return reason
    split = split_of(window, settings)
    if isinstance(text, CaptionRow):
        return Sample(shard, window, text, None, opinion, split)
    return Sample(shard, window, caption, text, opinion, split)


@dataclass(frozen=True, slots=True)
class _Judges:
    """What rules and people say of a shard's texts, and rules of the captions that these are or were made of."""

    findings: Mapping[WindowKey, FindingRow]
    of_captions: Mapping[WindowKey, FindingRow]
    standing: Mapping[TextId, Standing]

    @classmethod
    def read(cls, store: Store, shard: str, keys: Keys) -> Self:
        of_captions = {window_key(row): row for row in store.read_committed(CAPTION_FINDINGS, shard, keys.caption)}
        findings = of_captions
        if keys.text:
            rows = store.read_committed(ENHANCED_FINDINGS, shard, f"{keys.caption}/{keys.text}")
            findings = {window_key(row): row for row in rows}
        return cls(findings, of_captions, standing(store.read_rows(SHARD_REVIEW, shard)))

    def opinion(self, row: CaptionRow | EnhancedRow) -> tuple[Opinion | Literal[""], str | None]:
        """What people say of a text, and the text as one of them would have it, if any."""
        found = self.standing.get((*window_key(row), key_of_text(row), text_hash(row.text or "")))
        if found is None:
            return "", None
        return found.opinion, found.edit.edited if found.opinion == "edited" and found.edit else None

    def against(
        self, row: CaptionRow | EnhancedRow, caption: CaptionRow, opinion: str, settings: ExportSettings
    ) -> str:
        """Why a text is to stay; empty where nobody has anything against it, nor rules against the caption that it was
        made of. People come before rules."""
        if opinion in ("wrong", "disputed"):
            return opinion
        if settings.reviewed == "only" and not opinion:
            return "not_reviewed"
        before = _of(self.of_captions, caption)
        if before and before.severity == "error" and not opinion and not settings.include_flagged:
            return "flagged"
        found = _of(self.findings, row)
        if found is None or opinion == "edited":
            return ""
        if found.severity == "error" and not settings.include_flagged:
            return "flagged"
        return "finding" if set(found.rules) & set(settings.left_out_findings) else ""


def _of(findings: Mapping[WindowKey, FindingRow], row: CaptionRow | EnhancedRow) -> FindingRow | None:
    """What rules found in this very text."""
    found = findings.get(window_key(row))
    return found if found is not None and found.text_hash == text_hash(row.text or "") else None


def split_of(window: WindowRow, settings: ExportSettings) -> str:
    """The split of a window's clip: by the hash of its bytes alone, so that no other clip and no name moves it, and
    equal clips are in one split. Empty where no splits are asked for."""
    if not settings.validation and not settings.test:
        return ""
    digest = hashlib.sha256((window.content_hash or window.clip_id).encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    return TEST if place < settings.test else VALIDATION if place < settings.test + settings.validation else TRAIN


def _enhanced(store: Store, shard: str, keys: Keys) -> list[EnhancedRow]:
    return store.read_rows(ENHANCED_CAPTIONS, shard, f"{keys.caption}/{keys.text}") if keys.text else []


def _unusable(window: WindowRow, caption: CaptionRow, text: CaptionRow | EnhancedRow) -> str:
    """Why a window's text cannot go out; empty where it can."""
    if window.status != "ok":
        return "failed"
    if caption.content_hash != window.content_hash:
        return "changed"
    if isinstance(text, EnhancedRow) and (caption.text is None or text_hash(caption.text) != text.caption_hash):
        return "changed"
    if text.status != "ok" and text.error_kind == FLAGGED:
        return "flagged"
    if caption.status != "ok" or text.status != "ok" or text.text is None:
        return "failed"
    return "" if text.text.strip() else "blank"


def _filtered(window: WindowRow, text: CaptionRow | EnhancedRow, reviewed: bool, settings: ExportSettings) -> str:
    """The setting that keeps a window; empty where none does. How sure the model was of a text that people stand by is
    of no account."""
    characters, seconds = len(text.text or ""), (window.end_s or 0.0) - (window.start_s or 0.0)
    confidence = text.mean_logprob
    kept = {
        "min_characters": settings.min_characters is not None and characters < settings.min_characters,
        "max_characters": settings.max_characters is not None and characters > settings.max_characters,
        "min_seconds": settings.min_seconds is not None and seconds < settings.min_seconds,
        "max_seconds": settings.max_seconds is not None and seconds > settings.max_seconds,
        "min_confidence": settings.min_confidence is not None
        and not reviewed
        and (confidence is None or confidence < settings.min_confidence),
    }
    return next((name for name, applies in kept.items() if applies), "")

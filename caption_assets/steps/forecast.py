"""What a run would do, by looking alone: the dataset is listed, tables are read, and nothing is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from caption_assets.dataset import Dataset, split_duplicates
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import enhance_prompt
from caption_assets.save_export import paths
from caption_assets.settings import EnhanceSettings, PreviewSettings, WindowSettings
from caption_assets.steps.answers import author_of
from caption_assets.steps.asked import Ask
from caption_assets.steps.caption_stream import caption_fingerprint, check_is_ours, windows_before
from caption_assets.steps.enhance import EnhancePrompts, enhanced_fingerprints
from caption_assets.steps.findings import flagged
from caption_assets.steps.previews import preview_fingerprint
from caption_assets.steps.sidecars import Sidecars, UnsaidError
from caption_assets.steps.trial import Trial
from caption_assets.steps.windows import reusable_rows
from caption_assets.store.rows import CaptionRow, EnhancedRow, PreviewRow, WindowKey, WindowRow, window_key
from caption_assets.store.store import Store
from caption_assets.store.tables import (
    CAPTION_FINDINGS,
    CLIP_WINDOWS,
    ENHANCED_CAPTIONS,
    WINDOW_CAPTIONS,
    WINDOW_PREVIEWS,
)

R = TypeVar("R", PreviewRow, CaptionRow, EnhancedRow)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is asked to make. A session that has not been started stands for a model, with what it is asked, by
    key, or its settings and the key of the captions that it enhances."""

    windows: WindowSettings
    previews: PreviewSettings | None = None
    captions: tuple[EngineSession, Mapping[str, Ask]] | None = None
    enhanced: tuple[EngineSession, EnhanceSettings, str] | None = None
    trial: Trial = field(default_factory=Trial)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What there is to do of one shard. `to_plan` of its `clips` have to be read; how many windows those have that are
    new or have changed is not known, so that the rest is about the `windows` of the others. `missing` says how many of
    these have no preview, caption or enhanced caption as it would be made now, by what it is called."""

    shard: str
    clips: int
    to_plan: int
    windows: int
    missing: Mapping[str, int]


def forecast(store: Store, dataset: Dataset, shard: str, wanted: Wanted) -> Forecast:
    """Looks at one shard. Raises DatasetError, StoreError, and ModelError where a server does not say who it is."""
    clips, duplicates = split_duplicates(dataset.listing(shard).clips)
    clips = wanted.trial.first(clips)
    good = [clip for clip in clips if clip.clip_id not in duplicates]
    rows = reusable_rows(store, store.read_rows(CLIP_WINDOWS, shard), good, wanted.windows)
    windows = [row for row in rows if row.status == "ok"]
    missing: dict[str, int] = {}
    if wanted.previews is not None:
        missing["previews"] = _previews(store, shard, windows, wanted.previews)
    captioned: dict[WindowKey, CaptionRow] = {}
    if wanted.captions is not None:
        session, asks = wanted.captions
        for key, ask in asks.items():
            made = _captioned(store, shard, windows, session, key, ask)
            captioned = made if key == session.variant.name else captioned
            missing[f"{key}_caption"] = len(windows) - len(made)
    if wanted.enhanced is not None:
        text_session, text_settings, of = wanted.enhanced
        if wanted.captions is None:
            captions = store.read_rows(WINDOW_CAPTIONS, shard, of)
            captioned = {window_key(row): row for row in captions if row.status == "ok" and row.text}
        done = _enhanced(store, shard, windows, captioned, text_session, text_settings, of)
        missing[f"{text_session.variant.name}_enhanced_caption"] = sum(window_key(row) not in done for row in windows)
    to_plan = len(good) - (0 if wanted.trial.verify else len({row.clip_id for row in rows}))
    return Forecast(shard, len(clips), to_plan, len(windows), missing)


def _previews(store: Store, shard: str, windows: list[WindowRow], settings: PreviewSettings) -> int:
    known = _good(store.read_rows(WINDOW_PREVIEWS, shard))
    rels = {window_key(row): paths.preview(*window_key(row)) for row in windows}
    sizes = store.sizes(rels.values()) if store.looks_cost_nothing else None
    missing = 0
    for row in windows:
        at = window_key(row)
        made = known.get(at)
        is_made = made is not None and made.fingerprint == preview_fingerprint(row, settings)
        missing += not (is_made and made is not None and (sizes is None or sizes[rels[at]] == made.num_bytes))
    return missing


def _captioned(
    store: Store, shard: str, windows: list[WindowRow], session: EngineSession, key: str, ask: Ask
) -> dict[WindowKey, CaptionRow]:
    rows = store.read_rows(WINDOW_CAPTIONS, shard, key)
    check_is_ours(rows, key, session)
    if not (known := _good(rows)):
        return {}
    author, before = author_of(session), windows_before(windows) if ask.follows else {}
    sidecars = Sidecars(windows, ask.names)
    made: dict[WindowKey, CaptionRow] = {}
    for window in windows:
        at = window_key(window)
        row, earlier = known.get(at), before.get(at)
        if row is None or (earlier is not None and earlier not in made):
            continue  # or what it is asked depends on an answer that is not there yet
        try:
            asked = ask.about(window, sidecars, (made[earlier].text or "") if earlier is not None else "")
            made_as: str | None = row.fingerprint
        except UnsaidError:
            asked, made_as = ask, row.template_fingerprint  # it stays
        if made_as == caption_fingerprint(session, asked, window, author):
            made[at] = row
    return made


def _enhanced(
    store: Store,
    shard: str,
    windows: list[WindowRow],
    captioned: Mapping[WindowKey, CaptionRow],
    session: EngineSession,
    settings: EnhanceSettings,
    of: str,
) -> set[WindowKey]:
    """The windows whose caption is enhanced, or is not to be."""
    findings = {window_key(row): row for row in store.read_committed(CAPTION_FINDINGS, shard, of)}
    known = _good(store.read_rows(ENHANCED_CAPTIONS, shard, f"{of}/{session.variant.name}"))
    done = {at for at, row in captioned.items() if flagged(row, findings)}
    if not known:
        return done
    prompt, author = enhance_prompt(settings.prompt_variant, settings.prompt_text), author_of(session)
    prompts = EnhancePrompts(prompt, windows, captioned.values())
    for at, row in captioned.items():
        if (made := known.get(at)) is None:
            continue
        asked = prompts.about(row)
        made_by, kept = (asked, made.fingerprint) if isinstance(asked, str) else (prompt, made.template_fingerprint)
        if kept in enhanced_fingerprints(session, settings, made_by, row, author):
            done.add(at)
    return done


def _good(rows: list[R]) -> dict[WindowKey, R]:
    return {window_key(row): row for row in rows if row.status == "ok"}

"""Caption windows: decode ahead, ask the engine, keep what it answers; and preview them on the way, where asked for."""

from collections.abc import Mapping, Sequence
from functools import partial

from caption_assets.errors import ConfigError
from caption_assets.media.previews import check_ffmpeg
from caption_assets.models.choice import prompt_key
from caption_assets.models.engines.session import EngineSession
from caption_assets.settings import CaptionSettings, PreviewSettings
from caption_assets.steps.asked import Ask, check_schemas
from caption_assets.steps.beside import PreviewsBeside
from caption_assets.steps.caption_stream import STEP, Captions
from caption_assets.steps.context import StepContext
from caption_assets.steps.costs import charged
from caption_assets.steps.preparing import Preparers
from caption_assets.steps.previews import STEP as PREVIEWS
from caption_assets.steps.previews import ShardPreviews
from caption_assets.steps.report import Outcomes
from caption_assets.steps.shards import is_empty
from caption_assets.steps.streams import ShardStreams
from caption_assets.steps.visits import Visits
from caption_assets.store.tables import CLIP_WINDOWS


def caption_shards(
    context: StepContext,
    shards: Sequence[str],
    session: EngineSession,
    settings: CaptionSettings | Mapping[str, CaptionSettings],
    previews: PreviewSettings | None = None,
) -> Outcomes:
    """Captions the windows that have no caption of this model, prompt and sampling yet; yields how each shard ended.

    With several `settings`, by the names of their prompts, all of them are asked in one visit to each window, and each
    shard has an outcome for each: that of "" stands under the variant's key, the others under `<key>-<name>`. A window
    is asked only what it lacks. Such a session is one for `several` questions.

    Reads the shards' `clip_windows`; writes the tables of the keys and the layout's documents. Captions of
    other variants stay. A window that cannot be decoded or captioned is a row with its reason. With `previews`, the
    shards' previews are made as `preview_shard` makes them, from the same decoding, and each shard has an outcome for
    both. A shard's error is a ShardError where no window has a caption, or a StoreError. Raises ConfigError for no
    settings at all, a prompt text that is blank, a schema that cannot be kept and previews without an ffmpeg,
    ModelError where the engine does not start.
    """
    by_name = {"": settings} if isinstance(settings, CaptionSettings) else settings
    if not by_name:
        raise ConfigError("captions of windows", "there is no prompt to ask by", "give settings by name")
    named = {name: Ask.of(each, name) for name, each in by_name.items()}
    check_schemas(named, session)
    asks = {prompt_key(session.variant.name, name): ask for name, ask in named.items()}
    batch_size = max(each.batch_size for each in by_name.values())
    preparers = Preparers(context.workers.processes, session)
    if previews is not None:
        check_ffmpeg()

    def open_shard(shard: str) -> Visits:
        windows = context.store.read_table(CLIP_WINDOWS, shard)
        if not any(row.status == "ok" for row in windows.rows) and not is_empty(windows):
            raise STEP.not_ready(shard, "it has no windows")
        beside = None if previews is None else PreviewsBeside(ShardPreviews(context, shard, windows, previews))
        captions = [Captions(context, shard, windows.rows, session, key, ask) for key, ask in asks.items()]
        for each in captions:
            each.unchanged.append({(CLIP_WINDOWS.name, None): windows.looked.stamp})
        return Visits(captions, windows.rows, preparers, batch_size, beside)

    session.when_ready.append(partial(context.progress.ready, STEP.name))
    fails_with = () if previews is None else (PREVIEWS,)
    streams = ShardStreams(STEP, shards, open_shard, session, fails_with, context.shards_at_once)
    yield from charged(context, STEP, streams.outcomes(), session)

"""The model that a step asks, from what the user has chosen."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from caption_assets.media.cores import usable_cores
from caption_assets.media.mp4 import sampled_mp4
from caption_assets.models.choice import ModelChoice
from caption_assets.models.engines.session import EngineSession
from caption_assets.settings import CaptionModelSettings, TextModelSettings, part
from caption_assets.workers.engines.pool import EnginePool


@contextmanager
def model_session(
    settings: CaptionModelSettings | TextModelSettings, batch_size: int = 8, *, several: bool = False
) -> Iterator[EngineSession]:
    """A session of the chosen model, closed with the block. No weights are loaded before they are needed.

    It has an engine in this process, or one for each of the GPUs in processes of their own, where `settings.gpus` asks
    for several. `batch_size` is how many windows or captions are in flight in an engine that works in batches;
    `several` says that more than one thing is asked about each window. Raises ConfigError for a choice that is invalid,
    ModelError for a model that is unavailable.
    """
    # Settings alone: they go to other processes.
    plain: TextModelSettings | CaptionModelSettings
    if isinstance(settings, TextModelSettings):
        plain = part(settings, TextModelSettings)
    else:
        plain = part(settings, CaptionModelSettings)
    choice = ModelChoice(plain)
    variant, checkpoint = choice.model()
    options, seats = choice.options(batch_size, sampled_mp4, several=several), choice.seats(usable_cores())
    engine = choice.engine(options)
    session = EngineSession(variant, checkpoint, engine, settings.gpu_hour_price)
    if seats.count > 1:
        pool = EnginePool(partial(choice.engine, options), seats.count, options, seats.environment)
        session = EngineSession(variant, checkpoint, pool, settings.gpu_hour_price, lambda: pool.restarts)
    try:
        yield session
    finally:
        session.close()

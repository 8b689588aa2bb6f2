"""The model that a step asks, from what the user has chosen."""

from contextlib import AbstractContextManager

from caption_assets.media.mp4 import sampled_mp4
from caption_assets.models.choice import ModelChoice
from caption_assets.models.engines.session import EngineSession
from caption_assets.settings import CaptionModelSettings, TextModelSettings


def model_session(
    settings: CaptionModelSettings | TextModelSettings, batch_size: int = 8
) -> AbstractContextManager[EngineSession]:
    """A session of the chosen model, closed with the block. No weights are loaded before they are needed.

    `batch_size` is how many windows or captions are in flight in an engine that works in batches. Raises ConfigError
    for a choice that is invalid, ModelError for a model that is unavailable.
    """
    return ModelChoice(settings).session(batch_size, encode_mp4=sampled_mp4)

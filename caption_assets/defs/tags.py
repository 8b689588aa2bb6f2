"""Tags of a run that say what it makes, so that runs can be filtered by it."""

from collections.abc import Mapping

import dagster as dg

from caption_assets.errors import ConfigError
from caption_assets.steps.choices import OWN_TEXT, Choice
from caption_assets.steps.trial import Trial

_PREFIX = "caption_assets/"
LIMIT_TAG, VERIFY_TAG = f"{_PREFIX}limit", f"{_PREFIX}verify"
"""On runs that are about the first clips of each shard, and on those that read clips again: see `Trial`."""
_LONGEST = 80


def tag_run(context: dg.AssetExecutionContext, asset: dg.AssetKey, choice: Choice) -> None:
    """Adds what a step of the run makes to the run's tags.

    The asset that it makes has a tag of its own, with the prompt; of the others, those in which steps differ name all.
    """
    run = context.instance.get_run_by_id(context.run.run_id)
    have = run.tags if run else {}
    tags = {}
    for name, value in _tags(choice).items():
        before = have.get(name, "")
        tags[name] = ", ".join(dict.fromkeys([*(before.split(", ") if before else []), value]))
    tags[_PREFIX + asset.path[-1]] = _prompt(choice) or choice.version
    context.instance.add_run_tags(context.run.run_id, tags)


def trial_tags(trial: Trial) -> dict[str, str]:
    """The tags that have a run be about this much."""
    tags = {} if trial.limit is None else {LIMIT_TAG: str(trial.limit)}
    return tags | ({VERIFY_TAG: "true"} if trial.verify else {})


def trial_of(tags: Mapping[str, str]) -> Trial:
    """What a run is about by its tags. Raises ConfigError."""
    limit = tags.get(LIMIT_TAG)
    if limit is not None and not (limit.isdecimal() and int(limit) > 0):
        raise ConfigError(f"run tag {LIMIT_TAG}={limit!r}", "it is no number of clips", "give one above 0")
    return Trial(int(limit) if limit else None, tags.get(VERIFY_TAG) == "true")


def _tags(choice: Choice) -> dict[str, str]:
    """By name: the keys, and the variant and the prompt of the last one."""
    named = dict(zip(("caption_key", "text_key"), choice.keys, strict=False))
    if choice.words:
        of = "text_" if len(choice.keys) > 1 else ""
        named |= {f"{of}variant": choice.words["variant"], f"{of}prompt": _prompt(choice)}
    return {f"{_PREFIX}{name}": value for name, value in {**named, "version": choice.version}.items()}


def _prompt(choice: Choice) -> str:
    """Its name, or the beginning of a text of the user's own."""
    name = choice.words.get("prompt", "")
    if name != OWN_TEXT:
        return name
    text = " ".join(choice.words["prompt_text"].replace(",", " ").split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

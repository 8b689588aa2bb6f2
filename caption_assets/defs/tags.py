"""Tags of a run that say what it makes, so that runs can be filtered by it."""

import dagster as dg

from caption_assets.steps.choices import OWN_TEXT, Choice

_PREFIX = "caption_assets/"
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

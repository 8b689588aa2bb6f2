"""The dataset card: `README.md` of an export, with what it holds, who wrote the texts, and what is to be known of the
licence. `datasets` and the Hugging Face Hub read its head."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from caption_assets.exports.base import Format
from caption_assets.exports.contents import Contents
from caption_assets.models.prompts import CAPTION_PROMPTS, ENHANCE_PROMPTS
from caption_assets.records import text_hash
from caption_assets.settings import ExportSettings, ExportVideos

CARD = "README.md"
_VIDEOS: Mapping[ExportVideos, str] = {
    "windows": "each window cut out of its clip, frame by frame",
    "clips": "copies of whole clips",
    "links": "clips that stay where they are",
}
REASONS: Mapping[str, str] = {
    "failed": "the window or its text failed",
    "no_text": "there is no such text",
    "changed": "the clip, or the caption that was enhanced, has changed since",
    "blank": "the text is blank",
    "wrong": "a person judged the text wrong",
    "disputed": "people disagree about the text",
    "not_reviewed": "no person has looked at the text",
    "flagged": "a rule found an error in the text, or in the caption that it is or was to be made of",
    "invalid_json": "a person has made the JSON something that does not fit its schema",
    "finding": "a rule has found something that was to be left out",
    "min_characters": "the text is too short",
    "max_characters": "the text is too long",
    "min_seconds": "the window is too short",
    "max_seconds": "the window is too long",
    "min_confidence": "the confidence is too low, or not known",
    "part_of_clip": "the window is only a part of its clip, and the format has no place to say which",
    "reads_as_missing": "readers of the format take the text for a missing value",
    "no_video": "its video could not be made",
}
"""Why windows stay, in words."""


def card(form: Format, videos: ExportVideos, settings: ExportSettings, contents: Contents) -> str:
    """The card as Markdown."""
    return "\n".join([*_head(form, settings, contents), *_body(form, videos, contents), *_license(settings)]) + "\n"


def _head(form: Format, settings: ExportSettings, contents: Contents) -> Iterator[str]:
    """YAML, in which JSON's strings are strings."""
    yield "---"
    if settings.license:
        yield f"license: {json.dumps(settings.license)}"
    yield "task_categories:\n- text-to-video"
    splits = sorted(contents.splits, key=_ORDER.index)
    if form.data_files("") and splits:
        yield "configs:\n- config_name: default\n  data_files:"
        for split in splits:
            yield f"  - split: {split or 'train'}\n    path:"
            yield from (f"    - {json.dumps(path)}" for path in form.data_files(f"{split}/" if split else ""))
    if splits and (features := form.features(contents.suffixes)):
        yield "dataset_info:\n  features:"
        yield from _features(features, "  ")
    yield "---"


def _features(features: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, of in features.items():
        yield f"{indent}- name: {json.dumps(name)}"
        if isinstance(of, str):
            yield f"{indent}  dtype: {of}"
        else:
            yield f"{indent}  struct:"
            yield from _features(of, f"{indent}  ")


_ORDER = ("", "train", "validation", "test")


def _body(form: Format, videos: ExportVideos, contents: Contents) -> Iterator[str]:
    yield f"# Videos with captions\n\nFormat: `{form.name}`. Videos: {_VIDEOS[videos]}.\n"
    yield "| split | samples | clips | hours |\n|---|---:|---:|---:|"
    for split in sorted(contents.splits, key=_ORDER.index):
        of = contents.splits[split]
        yield f"| {split or 'all'} | {of.samples:,} | {of.clips:,} | {of.seconds / 3600:.2f} |"
    checked = ", ".join(f"{number:,} {opinion}" for opinion, number in sorted(contents.opinions.items()))
    people = f"People looked at some of them: {checked}." if checked else "No person has checked them."
    yield f"\n## Texts\n\nWritten by models. {people}\n"
    yield "| key | model | prompt | samples |\n|---|---|---|---:|"
    for (key, model, revision, prompt), times in sorted(contents.authors.items()):
        yield f"| `{key}` | {_cell(f'{model}@{revision}'.removesuffix('@'))} | {_prompt_name(prompt)} | {times:,} |"
    for prompt in sorted({prompt for _, _, _, prompt in contents.authors} & set(_PROMPTS)):
        yield f"\n{_prompt_name(prompt)}: {_PROMPTS[prompt][1]}"
    if left_out := +contents.left_out:
        yield "\n## Left out\n\n| windows | because |\n|---:|---|"
        yield from (f"| {number:,} | {REASONS.get(reason, reason)} |" for reason, number in sorted(left_out.items()))


def _license(settings: ExportSettings) -> Iterator[str]:
    yield "\n## Licence\n"
    if settings.license:
        yield f"As whoever made this export says: {settings.license}.\n"
    yield (
        "The videos are their owners', on the terms on which they were got; making this export gives no right to them. "
        "For texts, the licence of the model that wrote them may set terms, too."
    )


_PROMPTS: Mapping[str, tuple[str, str]] = {
    text_hash(text): (f"{kind}, {name}", text)
    for kind, prompts in (("captions", CAPTION_PROMPTS), ("enhanced captions", ENHANCE_PROMPTS))
    for name, text in prompts.items()
}
"""The prompts that have a name, by their hashes: name and text."""


def _prompt_name(prompt_hash: str) -> str:
    name, _ = _PROMPTS.get(prompt_hash, ("", ""))
    return f"{name} (`{prompt_hash}`)" if name else f"`{prompt_hash}`" if prompt_hash else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

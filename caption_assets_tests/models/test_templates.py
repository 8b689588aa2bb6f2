"""What a prompt names is filled in as the dataset has it, and a name that is written wrongly reaches no model."""

import pytest

from caption_assets.errors import ConfigError
from caption_assets.models.templates import filled, places


def test_values_are_shown_as_the_dataset_has_them_and_seconds_to_the_millisecond():
    values = {
        "columns.main topic": 'a "race"',
        "columns.small": 0.00012,
        "columns.long": 47.1234567,
        "columns.of 32 bits": 0.10000000149011612,
        "columns.large": 3e20,
        "columns.whole": 2.0,
        "columns.said": True,
        "columns.unknown": None,
        "sidecar.json.a b": ["é", 1.5],
        "clip.duration_s": 4.170833333,
    }
    prompt = " | ".join(f"{{{name}}}" for name in values) + ' {"a": { clip art } {b: c}}'
    assert places(prompt) == tuple(values)
    shown = 'a "race" | 0.00012 | 47.1234567 | 0.1 | 300000000000000000000 | 2 | true |  | ["é", 1.5] | 4.171'
    assert filled(prompt, values) == shown + ' {"a": { clip art } {b: c}}'


@pytest.mark.parametrize(
    "name",
    ["nope", " clip.id ", "window.start_s:.1f", "clip.nope", "previous_caption ", "sidecar.srt", "columns.", "b.c"],
)
def test_what_was_meant_for_a_name_and_is_none_is_refused(name):
    with pytest.raises(ConfigError, match="nothing of that name"):
        places(f"Say {{{name}}}")

"""A caption as an object: the fields of Cosmos 3's structured captions that the frames of a window can tell.

Left out is what frames do not show (sound), and what the tables know better: resolution, aspect ratio, length and rate.
Fields and names are those of NVIDIA's cosmos-framework; every array and text is bounded, so that each answer ends.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

_SHORT, _LONG = 160, 480
_ANY_TIME = "[0-9]:[0-5][0-9]"
_TIMES = f"^{_ANY_TIME}-{_ANY_TIME}$"
_MINUTE = 60


def _text(letters: int = _SHORT) -> dict[str, Any]:
    return {"type": "string", "maxLength": letters}


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _list(item: dict[str, Any], most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least, "maxItems": most}


def _texts(*names: str) -> dict[str, Any]:
    return _object(**{name: _text() for name in names})


_TIME = {"type": "string", "pattern": _TIMES}
STRUCTURED: Mapping[str, Any] = _object(
    subjects=_list(
        _texts("description", "appearance_details", "relationship", "location", "orientation", "pose", "action"), 6
    ),
    background_setting=_text(_LONG),
    lighting=_texts("conditions", "direction", "shadows", "illumination_effect"),
    aesthetics=_texts("composition", "color_scheme", "mood_atmosphere", "patterns"),
    cinematography=_texts("camera_motion", "framing", "camera_angle", "depth_of_field", "focus", "lens_focal_length"),
    style_medium=_text(),
    artistic_style=_text(),
    context=_text(),
    actions=_list(_object(time=_TIME, description=_text()), 6, 1),
    text_and_signage_elements=_list(_text(), 6),
    segments=_list(
        _object(
            segment_index={"type": "integer", "minimum": 0, "maximum": 9},
            time_range=_TIME,
            description=_text(),
            key_changes=_text(),
            camera=_text(),
        ),
        4,
        1,
    ),
    transitions=_list(_text(), 4),
    temporal_caption=_text(1200),
)


def within(schema: str, seconds: float) -> str:
    """The schema, as text, for a window of so many seconds: its times as M:SS-M:SS end by then, in whole seconds.

    In windows of less than a minute none ends before it begins; in longer ones a grammar of that would be too large.
    """
    last = max(1, math.ceil(seconds))
    if last < _MINUTE:
        times = "|".join(f"0:{first:02d}-0:{_seconds(first, last)}" for first in range(last + 1))
    else:
        minutes, rest = min(divmod(last, _MINUTE), (9, _MINUTE - 1))
        time = f"([0-{minutes - 1}]:[0-5][0-9]|{minutes}:{_seconds(0, rest)})"
        times = f"{time}-{time}"
    return schema.replace(json.dumps(_TIMES), json.dumps(f"^({times})$"))


def _seconds(first: int, last: int) -> str:
    """The pattern of two digits for a number from `first` to `last`, below 60."""
    tens = range(first // 10, last // 10 + 1)
    digits = ((ten, max(first - 10 * ten, 0), min(last - 10 * ten, 9)) for ten in tens)
    return "(" + "|".join(f"{ten}[{least}-{most}]" for ten, least, most in digits) + ")"

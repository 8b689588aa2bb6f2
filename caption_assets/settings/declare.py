"""How a setting is declared: its default, words and bounds, with its flag and its environment variable beside them."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "CAPTION_ASSETS_"
S = TypeVar("S", bound="Settings")
_FORMS: dict[str, str] = {}


def setting(
    default: Any,
    description: str,
    *,
    flag: str,
    env: str,
    shared: bool = False,
    meanings: Mapping[str, str] | None = None,
    **bounds: Any,
) -> Any:
    """A field that a user can set: by its name in Dagster, by `flag`, or by CAPTION_ASSETS_`env`.

    Of a model's settings, the text model's flag and variable are those of the captioning model with "text" put in:
    `--model-id` and `--text-model-id`. One that is `shared` is of the machine rather than of a model: one flag sets it
    for both, and the text model takes the captioning model's variable where it has none of its own. `meanings` say what
    the words of a choice stand for, where they do not say it themselves.
    """
    how: JsonDict = {"flag": flag, "env": env, "shared": shared, "meanings": dict(meanings or {})}
    return Field(default=default, description=description, json_schema_extra={"setting": how}, **bounds)


def form(pattern: str, words: str) -> str:
    """The pattern of a text, which `words` are said for where a text does not have it."""
    _FORMS[pattern] = words
    return pattern


def in_words(error: ErrorDetails) -> str:
    """What is wrong with a value, by one of a ValidationError's."""
    words = _FORMS.get(error.get("ctx", {}).get("pattern", ""))
    return f"it has to be {words}" if words else error["msg"].removeprefix("Value error, ")


class Settings(BaseModel):
    """Base of all settings; one that is unknown is refused.

    `prefixed` are the fields whose flags and variables have "text" put in.
    """

    model_config = ConfigDict(extra="forbid")

    prefixed: ClassVar[frozenset[str]] = frozenset()


def part(settings: Settings, of: type[S]) -> S:
    """The settings of one class among those of a class that has them, too."""
    return of(**{name: getattr(settings, name) for name in of.model_fields})


def flags_of(settings: type[Settings]) -> dict[str, str]:
    """The flag of every field of a settings class."""
    return {
        name: _declared(field)["flag"].replace("--", "--text-", 1)
        if name in settings.prefixed and not is_shared(field)
        else _declared(field)["flag"]
        for name, field in settings.model_fields.items()
    }


def variables_of(settings: type[Settings]) -> dict[str, tuple[str, ...]]:
    """The environment variables of every field of a settings class; the first that is there counts."""
    found: dict[str, tuple[str, ...]] = {}
    for name, field in settings.model_fields.items():
        own, plain = (f"{ENVIRONMENT_PREFIX}{prefix}{_declared(field)['env']}" for prefix in ("TEXT_", ""))
        if name not in settings.prefixed:
            found[name] = (plain,)
        else:
            found[name] = (own, plain) if is_shared(field) else (own,)
    return found


def is_shared(field: FieldInfo) -> bool:
    """Whether one value of a model's setting is for both models."""
    return bool(_declared(field)["shared"])


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The words that a field takes; none where it is no choice."""
    for annotation in (field.annotation, *get_args(field.annotation)):
        words = get_args(annotation)
        if words and all(isinstance(word, str) for word in words):
            return words
    return ()


def meanings_of(field: FieldInfo) -> Mapping[str, str]:
    """What the words of a choice stand for, as far as that is to be said."""
    extra = field.json_schema_extra
    return extra["setting"]["meanings"] if isinstance(extra, dict) and "setting" in extra else {}  # type: ignore


def is_mapping(field: FieldInfo) -> bool:
    """Whether a field takes names with values, which text has as JSON."""
    return any(get_origin(annotation) is dict for annotation in (field.annotation, *get_args(field.annotation)))


def _declared(field: FieldInfo) -> Any:
    extra = field.json_schema_extra
    assert isinstance(extra, dict), "a setting is declared by `setting`"
    return extra["setting"]

"""The config of assets and resources: their settings, with the pipeline's as defaults, which the launchpad then shows.

A choice is an enum with the meanings of its words, which the launchpad refuses while one types. Dagster checks a number
against its bounds when it plans a run, which is before the run is launched: its schemas know no bounds.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import dagster as dg
from dagster._config import (
    ConfigScalar,
    ConfigScalarKind,
    ConfigType,
    Enum,
    EnumValue,
    Noneable,
    PostProcessingError,
    ScalarUnion,
)
from dagster._config.pythonic_config.config import infer_schema_from_config_class
from dagster._config.source import IntSourceType, StringSourceType
from pydantic import TypeAdapter, ValidationError, create_model
from pydantic.fields import FieldInfo

from caption_assets.errors import ConfigError
from caption_assets.settings import Settings, choices_of, in_words, meanings_of
from caption_assets.settings.file import problems


def config_class(settings: Settings) -> type[Any]:
    """A config class with the fields of `settings`, and their values for defaults."""
    of = type(settings)
    chosen: type[Any] = create_model(f"{of.__name__}Config", __base__=(dg.Config, of), __doc__=of.__doc__)
    for name, field in chosen.model_fields.items():
        field.default = getattr(settings, name)
    chosen.model_rebuild(force=True)
    return chosen


def config_schema(
    settings: Settings, check: Callable[[Any], object] = lambda settings: None, version: str = ""
) -> dg.Field:
    """The schema of that class, which refuses what the settings do, and what `check` raises a ConfigError for. Where
    two schemas have the same fields, `version` tells them apart."""
    of = type(settings)

    def whole(values: Mapping[str, Any]) -> None:
        try:
            check(of(**values))
        except ValidationError as error:
            raise PostProcessingError(f"{problems(error)}.") from None
        except ConfigError as error:
            raise PostProcessingError(str(error)) from None

    return checked(infer_schema_from_config_class(config_class(settings)), of.model_fields, (version, whole))


def checked(
    schema: dg.Field,
    settings: Mapping[str, FieldInfo],
    whole: tuple[str, Callable[[Mapping[str, Any]], None]] | None = None,
) -> dg.Field:
    """The schema that Dagster has made of a class with these fields, with their choices and bounds; `whole`, by a
    version of it, raises PostProcessingError for values that do not go together."""
    fields: dict[str, dg.Field] = {}
    for name, field in schema.config_type.fields.items():  # type: ignore[attr-defined]
        info = settings.get(name)
        fields[name] = field if info is None else _checked_field(field, info)
    return _like(schema, dg.Shape(fields) if whole is None else _CheckedShape(fields, *whole), schema.description)


class _CheckedShape(dg.Shape):
    """Fields whose values, with the defaults among them, are looked at together."""

    # Dagster keeps one shape of equal fields, and that of what holds it.
    def __new__(cls, fields: Any, version: str, whole: Any) -> Any:
        return object.__new__(cls)

    def __init__(
        self, fields: Mapping[str, dg.Field], version: str, whole: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._initialized = False
        super().__init__(fields)
        self.key, self._whole = f"{self.key}.{version}", whole

    def post_process(self, value: Any) -> Any:
        self._whole(value)
        return value


def _checked_field(field: dg.Field, info: FieldInfo) -> dg.Field:
    words = "; ".join(f"{word}: {meaning}" for word, meaning in meanings_of(info).items())
    return _like(
        field, _checked_type(field.config_type, info), f"{field.description} ({words})" if words else field.description
    )


def _like(field: dg.Field, config_type: ConfigType, description: str | None) -> dg.Field:
    default = {"default_value": field.default_value} if field.default_provided else {}
    return dg.Field(config_type, description=description, is_required=field.is_required, **default)


def _checked_type(config_type: ConfigType, info: FieldInfo) -> ConfigType:
    if isinstance(config_type, Noneable):
        return Noneable(_checked_type(config_type.inner_type, info))
    if isinstance(config_type, Enum):
        meanings = meanings_of(info)
        return Enum(config_type.key, [EnumValue(w, description=meanings.get(w)) for w in choices_of(info)])
    if not info.metadata:
        return config_type
    if isinstance(config_type, IntSourceType):
        return _BoundedInt(info)
    if isinstance(config_type, StringSourceType):
        return _BoundedText(info)
    if isinstance(config_type, ConfigScalar) and config_type.scalar_kind == ConfigScalarKind.FLOAT:
        return _BoundedFloat(info)
    return config_type


class _BoundedInt(IntSourceType):
    """A whole number within a setting's bounds, or the environment variable that has it."""

    def __init__(self, info: FieldInfo) -> None:
        self._info = info
        ScalarUnion.__init__(self, int, dg.Selector({"env": str}), _key=f"Int[{_bounds(info)}]")

    def post_process(self, value: Any) -> int:
        return _within(self._info, int, super().post_process(value))


class _BoundedText(StringSourceType):
    """A text of the form that a setting has, or the environment variable that has it."""

    def __init__(self, info: FieldInfo) -> None:
        self._info = info
        ScalarUnion.__init__(self, str, dg.Selector({"env": str}), _key=f"String[{_bounds(info)}]")

    def post_process(self, value: Any) -> str:
        return _within(self._info, str, super().post_process(value))


class _BoundedFloat(ConfigScalar):
    """A number within a setting's bounds."""

    def __init__(self, info: FieldInfo) -> None:
        self._info = info
        name = f"Float[{_bounds(info)}]"
        super().__init__(name, name, ConfigScalarKind.FLOAT)

    def post_process(self, value: Any) -> float:
        return _within(self._info, float, float(value))


def _within(info: FieldInfo, of: type[Any], value: Any) -> Any:
    try:
        bounded: Any = Annotated[of, *info.metadata]
        return TypeAdapter(bounded).validate_python(value)
    except ValidationError as error:
        words = (info.description or "").rstrip(".")
        raise PostProcessingError(f"{in_words(error.errors()[0])}, not {value} ({words}).") from None


def _bounds(info: FieldInfo) -> str:
    return ", ".join(map(repr, info.metadata))

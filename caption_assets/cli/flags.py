"""Command-line flags made from the settings' fields, under the names that NeMo Curator's example script has."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import annotated_types
import click
from click.core import ParameterSource
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from caption_assets.settings import (
    ALL_SETTINGS,
    CaptionModelSettings,
    Captions,
    Settings,
    TextModelSettings,
    choices_of,
    flags_of,
    is_mapping,
    variables_of,
)
from caption_assets.settings.file import problem_within, read_prompts, unambiguous

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=Settings)

# Other spellings of a flag.
_ALIASES = {"--enhance-captioning-prompt-variant": "--enhance-captions-prompt-variant"}
# The original's switches that stand for one word of a choice.
_SWITCHES: Mapping[str, tuple[type[Settings], str, str]] = {
    "--captioning-use-fp8-weights": (CaptionModelSettings, "precision", "fp8"),
    "--enhance-captions-use-fp8-weights": (TextModelSettings, "precision", "fp8"),
}
# Defaults that depend on the machine, or on another flag.
_DEPENDS = {
    "--captioning-algorithm": "Model variant for captions; by default qwen where there is a GPU, else demo.",
    "--enhance-captions-algorithm": "Text model for enhanced captions; by default demo_lm with demo, else qwen_lm.",
}


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag, and the settings' field that it sets."""

    name: str
    settings: type[Settings]
    field: str

    @property
    def info(self) -> FieldInfo:
        return self.settings.model_fields[self.field]


def flags(classes: Sequence[type[Settings]] = ALL_SETTINGS) -> Iterator[Flag]:
    """Every flag of settings, by default of all; one that is shared by both models comes twice."""
    for settings in classes:
        for name, flag in flags_of(settings).items():
            yield Flag(flag, settings, name)


def settings_flags(command: F, classes: Sequence[type[Settings]] = ALL_SETTINGS) -> F:
    """Adds the flags of settings, by default of all, to a click command."""
    # Of a shared one, the captioning model's words.
    by_name = {flag.name: flag for flag in reversed(list(flags(classes)))}
    for switch, (settings, name, word) in reversed(list(_SWITCHES.items())):
        if settings not in classes:
            continue
        words = f"The same as {flags_of(settings)[name]} {word}."
        command = click.option(switch, parameter(switch), is_flag=True, help=words)(command)
    for name, flag in by_name.items():
        alias = (_ALIASES[name],) if name in _ALIASES else ()
        command = click.option(name, *alias, parameter(name), **_options(flag))(command)
    return command


def settings_from(values: Mapping[str, Any], settings: type[S]) -> S:
    """The settings of one class that the parsed flags ask for."""
    return parsed_as(settings, given_fields(values, settings))


def given_fields(values: Mapping[str, Any], settings: type[Settings]) -> dict[str, Any]:
    """The fields that flags set, of those flags whose `values` there are."""
    chosen = {name: values[parameter(flag)] for name, flag in flags_of(settings).items() if parameter(flag) in values}
    for switch, (owner, name, word) in _SWITCHES.items():
        if issubclass(settings, owner) and values.get(parameter(switch)):
            chosen[name] = word
    return chosen


def parsed_as(settings: type[S], chosen: Mapping[str, Any]) -> S:
    """Settings with these fields. Raises click.UsageError with the flag of what cannot be."""
    try:
        return settings(**chosen)
    except ValidationError as error:  # of what click cannot check by itself
        of_field = error.errors()[0]["loc"][:1]  # none: of several together
        flag = "".join(f" for '{flags_of(settings)[str(name)]}'" for name in of_field)
        raise click.UsageError(f"Invalid value{flag}: {problem_within(error)}.") from None


def variables_from(context: click.Context) -> dict[str, str]:
    """The environment variables that say what the flags say that were given."""
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    switched = [(owner, name, word) for switch, (owner, name, word) in _SWITCHES.items() if parameter(switch) in given]
    chosen = [(f.settings, f.field, context.params[parameter(f.name)]) for f in flags() if parameter(f.name) in given]
    if parameter("--caption") in given:
        chosen.append((Captions, "prompts", context.params[parameter("--caption")]))
    variables: dict[str, str] = {}
    for settings, name, value in [*switched, *chosen]:
        text = str(value) if isinstance(value, str) else json.dumps(value)
        variables[variables_of(settings)[name][-1]] = text
    return variables


def _prompts(given: Sequence[str]) -> dict[str, Any]:
    """Further prompts by their names: each with its text, none where it is ready-made, or all that a file has."""
    prompts: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        is_file = not equals and name.endswith((".yaml", ".yml", ".json"))
        named = read_prompts(Path(name)) if is_file else {name: text if equals else None}
        if twice := next(iter(prompts.keys() & named.keys()), None):
            raise click.UsageError(f"Invalid value for '--caption': {twice!r} is given twice.")
        prompts |= named
    return prompts


caption_option = click.option(
    "--caption",
    multiple=True,
    metavar="NAME[=TEXT]|FILE",
    callback=lambda _ctx, _param, values: _prompts(values),
    help="Ask every window this, too, in the same visit: its caption stands under <variant>-<NAME>. Without a text, a "
    "ready-made prompt: short, dense, camera or structured. A YAML or JSON file has several by name, each a text or a "
    "prompt's settings. May be repeated.",
)
"""The flag of a setting that is given piece by piece."""


def parameter(flag: str) -> str:
    """The name under which click hands on what a flag was given."""
    return flag.removeprefix("--").replace("-", "_")


class _Json(click.ParamType):
    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            parsed = json.loads(value, object_pairs_hook=unambiguous) if isinstance(value, str) else value
        except ValueError as error:
            self.fail(f"{value!r} is not JSON ({error}).", param, ctx)
        if not isinstance(parsed, dict):
            self.fail(f'{value!r} is not of the form {{"name": value}}.', param, ctx)
        return parsed


def _options(flag: Flag) -> dict[str, Any]:
    field = flag.info
    about: dict[str, Any] = {"help": field.description, "default": field.default}
    if flag.name in _DEPENDS:
        about |= {"help": _DEPENDS[flag.name], "default": None}
    if is_mapping(field):
        return about | {"type": _Json(), "metavar": "JSON"}
    base = _base_type(field)
    if base is bool:
        return about | {"is_flag": True}
    return about | {"type": _click_type(field, base), "show_default": about["default"] is not None}


def _base_type(field: FieldInfo) -> type:
    annotations = (field.annotation, *get_args(field.annotation))
    return next((t for t in annotations if t in (bool, int, float, str)), str)


def _click_type(field: FieldInfo, base: type) -> click.ParamType:
    if words := choices_of(field):
        return click.Choice(words)
    if base is str:
        return click.STRING
    low: Any = None
    high: Any = None
    low_open = False
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            low = bound.ge
        elif isinstance(bound, annotated_types.Gt):
            low, low_open = bound.gt, True
        elif isinstance(bound, annotated_types.Le):
            high = bound.le
    number = click.IntRange if base is int else click.FloatRange
    return number(low, high, min_open=low_open)

"""A pipeline's settings in a YAML file, as a deployment has them, and prompts in one."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from caption_assets.errors import ConfigError, first_line
from caption_assets.names import absolute
from caption_assets.settings.declare import in_words
from caption_assets.settings.pipeline import PipelineSettings

# Whatever is a path, at any depth.
_PATHS = frozenset({"dataset", "output", "source_root", "model_path", "model_dir", "to"})


def read_settings(path: Path) -> dict[str, Any]:
    """What a file sets, by the names of `PipelineSettings`; paths in it are relative to its folder.

    Raises ConfigError for a file that cannot be read, and for what in it is no setting.
    """
    asked = f"settings file {path}"
    found = _read(path, asked, like="dataset: /data/clips")
    try:
        PipelineSettings.model_validate(found)
    except ValidationError as error:
        raise ConfigError(asked, problems(error), "see docs/reference.md for names and values") from None
    return found


def read_prompts(path: Path) -> dict[str, Any]:
    """What a file asks of every window: by name a prompt's text, its settings, or nothing for a ready-made one.

    Raises ConfigError for a file that cannot be read; what is in it is for the settings to judge.
    """
    return _read(path, f"file of prompts {path}", like="mood: Describe the mood of this video.")


def _read(path: Path, asked: str, like: str) -> dict[str, Any]:
    try:
        given = yaml.load(path.read_text("utf-8-sig"), _Unambiguous)
    except OSError as error:
        raise ConfigError(asked, f"it cannot be read ({error.strerror})", "name one that is there") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(asked, f"it is no YAML ({first_line(error)})") from None
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ConfigError(asked, "it holds no names with values", f"write it like `{like}`")
    found: dict[str, Any] = _below(given, path.absolute().parent)
    return found


class _Unambiguous(yaml.SafeLoader):
    """YAML's data alone, and no name twice: which of the two is meant nobody knows."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for name, _ in node.value:
            if name.value in names and isinstance(name, yaml.ScalarNode):
                line = name.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"{name.value!r} is there again in line {line}")
            names.add(str(name.value))
        return super().construct_mapping(node, deep)


def unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The same of JSON, for its `object_pairs_hook`. Raises ValueError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def problems(error: ValidationError) -> str:
    """What is wrong with settings, each with the place where it stands."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {in_words(each)}" for each in error.errors())


def problem_within(error: ValidationError) -> str:
    """What is wrong first with a setting that is known, with the place in it."""
    first = error.errors()[0]
    within = ".".join(str(step) for step in first["loc"][1:] if step != "[key]")
    said = in_words(first)
    return f"{within}: {said}" if within else said


def _below(value: Any, folder: Path, name: object = None) -> Any:
    if isinstance(value, dict):
        return {key: _below(each, folder, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_below(each, folder, name) for each in value]
    # A schema may also be a model in a module, which may stand beside the file.
    if name == "json_schema" and isinstance(value, str):
        module, colon, model = value.partition(":")
        beside = folder / Path(*module.split(".")).with_suffix(".py") if colon and module else folder / value
        if not beside.is_file():
            return value
        return f"{beside}:{model}" if colon else str(beside)
    if isinstance(value, str) and name in _PATHS:
        return absolute(value, str(folder))
    return value

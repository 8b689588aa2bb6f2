"""What is asked of every window for one caption: prompt, bounds, sampling and schema, from its settings."""

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from caption_assets.errors import ConfigError, first_line
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import caption_prompt, stage2_prompt
from caption_assets.models.requests import Question
from caption_assets.models.schemas import bounded
from caption_assets.models.structured import STRUCTURED, within
from caption_assets.models.templates import PREVIOUS_CAPTION, places
from caption_assets.models.variants import Sampling
from caption_assets.settings import CaptionSettings
from caption_assets.steps.filling import fill, known_of
from caption_assets.steps.sidecars import Sidecars
from caption_assets.store.rows import WindowRow

_SAMPLING = {field.name: field.type for field in fields(Sampling)}


@dataclass(frozen=True, slots=True)
class Ask:
    """One caption of every window: `refine` is the instruction of its second pass, where there is one; `sampling` what
    is drawn otherwise than the model does by default."""

    prompt: str
    refine: str | None
    max_tokens: int
    sampling: dict[str, Any]
    schema: str | None

    @classmethod
    def of(cls, settings: CaptionSettings, name: str = "") -> "Ask":
        """Of the prompt of this `name`. Raises ConfigError for a prompt, a sampling or a schema that cannot be."""
        refine = stage2_prompt(settings.stage2_prompt_text) if settings.generate_stage2_caption else None
        if refine is None and settings.stage2_prompt_text is not None:
            wrong = "there is no second pass that it could instruct"
            fix = "ask for one (generate_stage2_caption, --captioning-stage2-caption), or leave the text out"
            raise ConfigError("stage2_prompt_text", wrong, fix)
        prompt = caption_prompt(settings.prompt_variant, settings.prompt_text)
        return cls(
            prompt,
            refine,
            settings.most_output_tokens,
            _sampling(settings),
            _schema(settings, name),
        )

    @property
    def decides(self) -> dict[str, Any]:
        """What else than the prompt and the bound decides the text, for versions and fingerprints."""
        chosen = {"stage2_prompt_text": self.refine, "sampling": self.sampling, "json_schema": self.schema}
        return {name: value for name, value in chosen.items() if value}

    @property
    def is_one(self) -> bool:
        """Whether a window is asked one question for it, as a rule."""
        return self.refine is None

    @property
    def all_prompts(self) -> str:
        return "\n\n".join(filter(None, (self.prompt, self.refine)))

    @property
    def names(self) -> tuple[str, ...]:
        """What its prompts name, to be filled in for each window."""
        return places(self.all_prompts)

    @property
    def follows(self) -> bool:
        """Whether a window's prompts have the caption of the window before it."""
        return PREVIOUS_CAPTION in self.names

    def about(self, row: WindowRow, sidecars: Sidecars, previous: str = "") -> "Ask":
        """As it is asked about the window: its prompts filled in, and the times of `structured` kept to the window's.

        `previous` is the caption of the window before, "" where there is none.

        Raises ColumnError for a column that says nothing of the clip, SidecarError for a file beside it that is not
        there or cannot be used.
        """
        schema = self.schema
        if schema and row.start_s is not None and row.end_s is not None:
            schema = within(schema, row.end_s - row.start_s)
        if not self.names:
            return replace(self, schema=schema)
        known = known_of(row, self.names, sidecars, previous)
        refine = None if self.refine is None else fill(self.refine, known)
        return replace(self, prompt=fill(self.prompt, known), refine=refine, schema=schema)

    def sampled(self, default: Sampling) -> Sampling | None:
        """The sampling, None where it is the model's `default`."""
        return replace(default, **self.sampling) if self.sampling else None

    def questions(self, name: str, default: Sampling) -> list[Question]:
        """It and, where there is one, its second pass, as questions of a visit; the first of them is named so."""
        sampling = self.sampled(default)
        # A second pass keeps to the schema; the first need not.
        last = Question(name, self.prompt, self.max_tokens, sampling, self.schema)
        if self.refine is None:
            return [last]
        again = Question(f"{name}/again", self.refine, self.max_tokens, sampling, self.schema, of=name)
        return [replace(last, schema=None), again]


def check_schemas(asks: Mapping[str, Ask], session: EngineSession) -> None:
    """Raises ConfigError for the schema of a prompt, by its name, that the session's engine cannot keep answers to."""
    for name, ask in asks.items():
        if ask.schema is not None:
            session.check_schema(ask.schema, f"JSON schema of prompt {name!r}" if name else "JSON schema of captions")


def asks_several(settings: Mapping[str, CaptionSettings]) -> bool:
    """Whether more than one thing is asked about each window, as a rule. Raises as `Ask.of`."""
    return len(settings) > 1 or not all(Ask.of(each).is_one for each in settings.values())


def _sampling(settings: CaptionSettings) -> dict[str, Any]:
    given = settings.prompt_sampling
    if unknown := sorted(given.keys() - _SAMPLING.keys()):
        fix = f"choose of {', '.join(_SAMPLING)}"
        raise ConfigError(f"sampling {unknown[0]!r} of a prompt", "it is unknown", fix)
    whole = {"top_k", "seed"}
    return {name: int(value) if name in whole else value for name, value in given.items()}


def _schema(settings: CaptionSettings, name: str) -> str | None:
    if settings.json_schema is None:
        if settings.prompt_variant != "structured":
            return None
        if settings.prompt_text is not None:
            wrong = "its schema goes with its own text, and would be dropped"
            raise ConfigError("prompt variant 'structured' with another text", wrong, "give that a json_schema")
        return bounded(dict(STRUCTURED), "prompt variant 'structured'")
    asked = f"JSON schema {settings.json_schema!r}{f' of prompt {name!r}' if name else ''}"
    try:
        return bounded(_read(settings.json_schema), asked)
    except ConfigError:
        raise
    except Exception as error:  # of files and of users' modules
        fix = "name a file with a JSON schema, or a pydantic model as module:name"
        raise ConfigError(asked, f"it cannot be read ({first_line(error)})", fix) from None


def _read(named: str) -> dict[str, Any]:
    module, _, name = named.rpartition(":")
    if module and not Path(named).exists():
        model = getattr(_imported(module), name)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            raise TypeError(f"{name} is no pydantic model")
        return model.model_json_schema()
    schema: dict[str, Any] = json.loads(Path(named).expanduser().read_text("utf-8-sig"))
    return schema


def _imported(module: str) -> Any:
    """A module by its name or its file; the one, as with `python -m`, also of the folder that this was called in."""
    path = Path(module)
    folder, name = (path.parent, path.stem) if path.suffix == ".py" else (Path(), module)
    with _first_on_path(str(folder.absolute())):
        return importlib.import_module(name)


@contextmanager
def _first_on_path(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)

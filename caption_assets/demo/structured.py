"""What a demo clip shows as an object: what the demo model is asked for, and how it is held against the facts."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from caption_assets.demo.facts import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Facts, Subject

FACTS_PROMPT = (
    "Write what this video shows as JSON: its objects with their colour, shape and motions, whether they act in turn, "
    "and the background."
)


class Seen(BaseModel):
    """An object of the video, and its motions in their order."""

    colour: Annotated[str, Field(json_schema_extra={"enum": list(COLOURS)})]
    shape: Annotated[str, Field(json_schema_extra={"enum": list(SHAPES)})]
    motions: list[Annotated[str, Field(json_schema_extra={"enum": list(MOTIONS)})]] = Field(min_length=1, max_length=2)


class Shown(BaseModel):
    """Facts as JSON has them; `caption_assets.demo.structured:Shown` is a prompt's `json_schema`."""

    objects: list[Seen] = Field(min_length=1, max_length=2)
    in_turn: bool
    background: Annotated[str, Field(json_schema_extra={"enum": list(BACKGROUNDS)})]


def as_json(facts: Facts) -> str:
    """The facts as compact JSON, things that act together in naming order.

    >>> as_json(Facts("black", (Subject("red", "circle", ("growing",)),)))
    '{"objects":[{"colour":"red","shape":"circle","motions":["growing"]}],"in_turn":false,"background":"black"}'
    """
    facts = facts.canonical()
    objects = [{"colour": s.colour, "shape": s.shape, "motions": list(s.motions)} for s in facts.subjects]
    shown = {"objects": objects, "in_turn": facts.in_turn, "background": facts.background}
    return json.dumps(shown, separators=(",", ":"))


def from_json(shown: Mapping[str, Any]) -> Facts:
    """The facts of an answer. Raises ValueError for what is none."""
    answer = Shown.model_validate(shown)
    subjects = (Subject(seen.colour, seen.shape, tuple(seen.motions)) for seen in answer.objects)
    return Facts(answer.background, tuple(subjects), answer.in_turn).canonical()

"""What answers by a schema may be, whatever a model has written."""

import json
import re
from datetime import date
from enum import StrEnum
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from caption_assets.errors import ConfigError
from caption_assets.models.engines.visits import Visit
from caption_assets.models.requests import Question, Result, caption_request
from caption_assets.models.schemas import InvalidAnswerError, bounded, checked, tightened, unkept

SCHEMA = bounded({"type": "object", "properties": {"what": {"type": "string", "maxLength": 2}}}, "the test's schema")


def test_bytes_that_are_no_letter_count_as_grammars_count_them():
    assert checked('{"what":"a\ufffd\ufffd\ufffd"}', "stop", SCHEMA) == '{"what":"a\ufffd"}'
    with pytest.raises(InvalidAnswerError, match="too long"):
        checked('{"what":"a\ufffdbc"}', "stop", SCHEMA)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity"])
def test_a_number_that_no_document_can_hold_is_no_answer(number):
    with pytest.raises(InvalidAnswerError, match="no number that can be kept"):
        checked(f'{{"x": {number}}}', "stop", '{"properties": {"x": {"type": "number"}}}')


def test_an_answer_can_be_stored_whatever_it_escapes():
    checked('{"what":"\\ud800\\u0000"}', "stop", SCHEMA).encode()


@pytest.mark.parametrize("elsewhere", ["#/$defs/nope", "http://127.0.0.1:1/x.json"])
def test_a_schema_that_refers_to_what_is_not_in_it_is_refused_and_nothing_is_fetched(elsewhere):
    parts = {"seen": {"type": "boolean", "not": {"$ref": elsewhere}}, "more": {"$ref": "#"}}
    with pytest.raises(ConfigError, match=f"it refers to {re.escape(elsewhere)}, which is not in it"):
        bounded({"type": "object", "properties": parts}, "the test's schema")


class Node(BaseModel):
    kids: list["Node"] = []


class Side(StrEnum):
    LEFT = "a"
    RIGHT = "b"


class Tagged(BaseModel):
    day: date
    tags: set[str]
    shares: dict[Side, Annotated[float, Field(ge=0, le=1, multiple_of=0.1)]]


_YES = {"type": "boolean"}
_A, _B = ({"type": "object", "properties": {name: _YES}, "required": [name]} for name in "ab")


@pytest.mark.parametrize(
    ("schema", "fits", "fits_not"),
    [
        ({**_A, "allOf": [_B]}, ['{"a":true,"b":true}'], ['{"a":true}', '{"a":true,"b":true,"c":true}']),
        (
            {**_A, "oneOf": [{"$ref": "#/$defs/b"}, {"properties": {"c": _YES}}], "$defs": {"b": _B}},
            ['{"a":true,"b":true}', '{"a":true}'],
            ['{"b":true}', '{"a":true,"b":true,"c":true}'],
        ),
        ({**_A, "required": ["a", "more"]}, ['{"a":true,"more":1}'], ['{"a":true}']),
        ({**_A, "if": {}, "then": _B}, ['{"a":true,"b":true}'], ['{"a":true}']),
        (Node.model_json_schema(), ['{"kids":[{"kids":[]}]}'], ["[]", '{"kids":[{"b":1}]}']),
        (
            {"allOf": [{"$ref": "#a"}], "$defs": {"A": {"$anchor": "a", "required": ["b"], "minProperties": 1}}},
            ['{"b":1}'],
            ["{}", '{"b":1,"c":1}'],
        ),
        (
            {
                "$id": "https://x.org/s",
                "properties": {"a": {"$ref": "/s#/$defs/the%20~1"}, "b": {"$ref": "#/more/0"}},
                "$defs": {"the /": {"minLength": 2}},
                "more": [{"$ref": "#/$defs/the%20~1"}],
            },
            ['{"a":"xx","b":"xx"}'],
            ['{"a":"x"}', '{"b":"x"}', '{"a":1}'],
        ),
        ({"properties": {"a": {"enum": [1, 2, "3"], "minimum": 2, "type": "integer"}}}, ['{"a":2}'], ['{"a":1}']),
        (
            Tagged.model_json_schema(),
            ['{"day":"2026-02-28","tags":["x","y"],"shares":{"a":0.3,"b":1.0}}'],
            [
                '{"day":"2026-02-31","tags":[],"shares":{"a":0.3,"b":1.0}}',
                '{"day":"2026-02-28","tags":[],"shares":{"a":0.35,"b":1.0}}',
                '{"day":"2026-02-28","tags":[],"shares":{"c":0.3}}',
            ],
        ),
        ({"properties": {"a": {"type": "number", "multipleOf": 0.1}}}, ['{"a":0.3}'], ['{"a":0.35}']),
    ],
    ids=["all-of", "one-of", "required", "if", "itself", "anchor", "id", "enum", "pydantic", "steps"],
)
def test_a_schema_that_is_bounded_takes_what_it_took(schema, fits, fits_not):
    """And where it is put together, nothing that it does not name."""
    schema = bounded(schema, "the test's schema")
    assert [checked(answer, "stop", schema) for answer in fits] == fits
    for answer in fits_not:
        with pytest.raises(InvalidAnswerError):
            checked(answer, "stop", schema)


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({**_A, "allOf": [{**_B, "additionalProperties": False}]}, "which another excludes"),
        ({**_A, "required": ["b"], "additionalProperties": False}, "'b', which is required and excluded"),
        ({"properties": {"a": {"const": 5, "minimum": 7}}}, r"an enumeration of \[5\], none of which fits"),
        ({"type": ["object", "null"]}, "its answers need not be objects"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}}, "leads back to itself"),
        ({"anyOf": [_A, {"$ref": "#"}]}, "its answers need not be objects"),
        (
            {"$dynamicAnchor": "a", "properties": {"a": {"$dynamicRef": "#a"}}},
            r'#a by "\$dynamicRef", which is not in it',
        ),
    ],
)
def test_a_schema_of_which_nobody_can_make_an_object_is_refused(schema, wrong):
    with pytest.raises(ConfigError, match=wrong):
        bounded(schema, "the test's schema")


def test_an_array_that_is_to_have_no_repeats_loses_them():
    """No grammar keeps them out."""
    sets = {"type": "array", "uniqueItems": True, "minItems": 2, "items": {"type": "integer"}}
    schema = bounded({"properties": {"a": {"anyOf": [sets, {"type": "null"}]}}}, "the test's schema")
    assert checked('{"a":[3,1,3,1]}', "stop", schema) == '{"a":[3,1]}'
    with pytest.raises(InvalidAnswerError, match=r"\.a: \[1\]"):
        checked('{"a":[1,1]}', "stop", schema)


UNKEPT = {
    "steps": {"type": "integer", "multipleOf": 7},
    "set": {"type": "array", "uniqueItems": True},
    "some": {"type": ["array", "null"], "items": {"type": "string", "format": "binary"}, "contains": {"const": "x"}},
    "code": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
    "mail": {"type": "string", "format": "email", "minLength": 3},
    "other": {"type": "string", "format": "password", "maxLength": 3},
    "names": {"propertyNames": {"pattern": "^a", "maxLength": 2}, "additionalProperties": _YES},
    "two": {"patternProperties": {"^a": _YES, "^b": {"not": {"const": 1}}}},
    "one": {"patternProperties": {"^a": _YES}, "properties": {"b": _YES}},
}
"""Properties with words that no grammar keeps answers to."""


def test_what_answers_are_not_kept_to_is_said_with_its_place():
    assert unkept(bounded({"properties": UNKEPT}, "the test's schema")) == [
        "'multipleOf' of .steps",
        "'contains' of .some",
        "'maxLength' of .code",
        "'minLength' of .mail",
        "'propertyNames' of .names",
        "'maxLength' of .names",
        "'not' of .two.^b",
    ]


def test_what_goes_wrong_with_one_answer_is_the_outcome_of_its_question():
    """Also what none of ours goes wrong with: here, a schema that `bounded` would have refused."""
    outside = '{"type":"object","not":{"$ref":"http://127.0.0.1:1/x.json"}}'
    visit = Visit(caption_request("0", "What?", None, 9, then=(Question("json", "As JSON.", 9, schema=outside),)))
    (further,) = visit.beside
    assert visit.answered(visit.first, Result("0", text="A plain answer.")) == []
    assert visit.answered(further, Result("0", text="{}", finish_reason="stop")) == []
    assert visit.result.outcome.ok
    assert (visit.result.then[0].outcome.kind, visit.result.then[0].text) == ("engine", None)


def test_another_try_has_tighter_bounds_and_is_to_fit_the_first_ones():
    code = {"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}$", "maxLength": 5}
    schema = bounded({"type": "object", "properties": {"at": code}, "required": ["at"]}, "the test's schema")
    visit = Visit(caption_request("0", "When?", None, 9, schema=schema))
    (again,) = visit.answered(visit.first, Result("0", text='{"at":"0', finish_reason="length"))
    assert again.request.schema == tightened(schema) != schema
    assert visit.answered(again, Result("0", text='{"at":"02:47"}', finish_reason="stop")) == []
    assert visit.result.text == '{"at":"02:47"}'


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("maxProperties", {"type": "object", "required": ["a", "b", "c"], "maxProperties": 4}),
        ("maxItems", {"type": "array", "prefixItems": [{}, {}, {}], "maxItems": 4}),
        ("maxLength", {"type": "string", "minLength": 3, "maxLength": 4}),
    ],
)
def test_tighter_bounds_leave_room_for_what_has_to_be_there(word, part):
    assert json.loads(tightened(json.dumps(part)))[word] == 3


def test_integers_are_numbers():
    both = {"allOf": [{"type": "number"}, {"type": "integer", "maximum": 3}]}
    schema = json.loads(bounded({"type": "object", "properties": {"n": both}}, "the test's schema"))
    assert schema["properties"]["n"]["type"] == "integer"


def test_an_answer_is_no_deeper_than_what_reads_it_can_go():
    schema = bounded({"type": "object", "properties": {"a": {}}}, "the test's schema")
    for levels in (63, 64, 100_000):
        answer = f'{{"a":{"[" * levels}{"]" * levels}}}'
        if levels == 63:
            assert checked(answer, "stop", schema) == answer
        else:
            with pytest.raises(InvalidAnswerError, match="deep in each other"):
                checked(answer, "stop", schema)

"""What answers by a schema may be, whatever a model has written."""

import re

import pytest

from caption_assets.errors import ConfigError
from caption_assets.models.engines.visits import Visit
from caption_assets.models.requests import Question, Result, caption_request
from caption_assets.models.schemas import InvalidAnswerError, bounded, checked

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
    ],
    ids=["all-of", "one-of", "required-alone", "if"],
)
def test_a_schema_that_is_bounded_takes_what_it_took(schema, fits, fits_not):
    """And where it is put together, nothing that it does not name."""
    schema = bounded({"type": "object", **schema}, "the test's schema")
    assert [checked(answer, "stop", schema) for answer in fits] == fits
    for answer in fits_not:
        with pytest.raises(InvalidAnswerError):
            checked(answer, "stop", schema)


@pytest.mark.parametrize(
    ("schema", "wrong"),
    [
        ({**_A, "allOf": [{**_B, "additionalProperties": False}]}, "which another excludes"),
        ({**_A, "required": ["b"], "additionalProperties": False}, "'b', which is required and excluded"),
    ],
)
def test_a_schema_that_no_answer_fits_is_refused(schema, wrong):
    with pytest.raises(ConfigError, match=wrong):
        bounded(schema, "the test's schema")


def test_what_goes_wrong_with_one_answer_is_the_outcome_of_its_question():
    """Also what none of ours goes wrong with: here, a schema that `bounded` would have refused."""
    outside = '{"type":"object","not":{"$ref":"http://127.0.0.1:1/x.json"}}'
    visit = Visit(caption_request("0", "What?", None, 9, then=(Question("json", "As JSON.", 9, schema=outside),)))
    (further,) = visit.beside
    assert visit.answered(visit.first, Result("0", text="A plain answer.")) == []
    assert visit.answered(further, Result("0", text="{}", finish_reason="stop")) == []
    assert visit.result.outcome.ok
    assert (visit.result.then[0].outcome.kind, visit.result.then[0].text) == ("engine", None)


def test_an_answer_is_no_deeper_than_what_reads_it_can_go():
    schema = bounded({"type": "object", "properties": {"a": {}}}, "the test's schema")
    for levels in (63, 64, 100_000):
        answer = f'{{"a":{"[" * levels}{"]" * levels}}}'
        if levels == 63:
            assert checked(answer, "stop", schema) == answer
        else:
            with pytest.raises(InvalidAnswerError, match="deep in each other"):
                checked(answer, "stop", schema)

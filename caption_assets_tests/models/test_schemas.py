"""What answers by a schema may be, whatever a model has written."""

import pytest

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

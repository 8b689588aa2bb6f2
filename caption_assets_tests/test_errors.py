import pydantic
import pytest

from caption_assets.errors import first_line


class Model(pydantic.BaseModel):
    width: int
    height: int


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("it is bad\nby far"), "it is bad"),
        (ValueError("\n  it is bad  \n"), "it is bad"),
        (
            ValueError("Validation error for field 'a':\n    TypeError: expected int"),
            "Validation error for field 'a': TypeError: expected int",
        ),
        (ValueError("it ends so:"), "it ends so:"),
        (ValueError(), "ValueError"),
        (KeyError("layers"), "KeyError: 'layers'"),
        (KeyError(), "KeyError"),
    ],
)
def test_an_error_of_another_library_is_one_line_that_gives_the_reason(error, said):
    assert first_line(error) == said


def test_a_failed_validation_names_the_field_and_the_fault_and_not_the_input():
    with pytest.raises(pydantic.ValidationError) as caught:
        Model(width="very", height="high")
    assert first_line(caught.value) == (
        "2 validation errors for Model: width: Input should be a valid integer, unable to parse string as an integer"
    )

import pytest

from swiftdiffusion.errors import (
    Cancelled,
    Internal,
    InvalidArgument,
    NotFound,
    Unavailable,
    describe,
    from_description,
)


@pytest.mark.parametrize("family", [InvalidArgument, NotFound, Unavailable, Cancelled, Internal])
def test_an_error_survives_the_way_through_text(family):
    error = from_description(describe(family("steps is 0; allowed: 1 to 100")))
    assert type(error) is family
    assert str(error) == "steps is 0; allowed: 1 to 100"


def test_an_unexpected_error_gives_no_internals_away():
    text = describe(FileNotFoundError("/secret/place"))
    assert text.startswith("INTERNAL: FileNotFoundError")
    assert "secret" not in text


def test_foreign_text_becomes_internal_unchanged():
    error = from_description("Model 'x': something Triton said")
    assert type(error) is Internal
    assert str(error) == "Model 'x': something Triton said"

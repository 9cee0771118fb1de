"""What a constraint expects, in words, also of kinds that no order request has."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
import pytest
from msgspec import Meta

from pulse.domain.constraints import expected_of, field_fault_of


class Inner(msgspec.Struct):
    name: Annotated[str, Meta(description="a name")]
    count: Annotated[int, Meta(ge=0)] = 0


class Example(msgspec.Struct, forbid_unknown_fields=True):
    after: Annotated[int, Meta(ge=0, description="a position")]
    state: Literal["A", "B", "C"] | None = None
    at: Annotated[datetime, Meta(tz=True, description="a time with its zone")] | None = None
    inner: Inner | None = None
    id: Annotated[UUID, Meta(description="an id")] | None = None
    ratio: float = 0.0
    note: Annotated[str, Meta(max_length=1_000)] = ""


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", "a JSON object"),
        ("after", "a whole number of at least 0"),
        ("state", "A or B or C"),
        ("at", "a time with its zone"),
        ("id", "an id"),
        ("note", "a string of at most 1,000 characters"),
        ("inner", "an object with name and optionally count"),
    ],
)
def test_a_constraint_is_put_in_words(field: str, expected: str) -> None:
    assert expected_of(field, Example) == expected


def test_a_constraint_that_cannot_be_put_in_words_raises_type_error() -> None:
    with pytest.raises(TypeError, match="FloatType"):
        expected_of("ratio", Example)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"after": -1}, ("after", "is out of range", "a whole number of at least 0", True)),
        ({"after": 0, "state": "D"}, ("state", "is not allowed", "A or B or C", True)),
        ({"after": 0, "at": "now"}, ("at", "is not a valid time", "a time with its zone", True)),
        (
            {"after": 0, "at": "2026-03-02T09:15:00"},
            ("at", "has no offset from UTC", "a time with its zone", True),
        ),
        ({}, ("after", "is missing", "this required field", False)),
        (
            {"after": 0, "b": 1},
            ("b", "is unknown", "only after, state, at, inner, id, ratio, note", False),
        ),
    ],
)
def test_a_fault_names_the_field_and_what_it_expects(
    values: dict[str, object], said: tuple[object, ...]
) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(values, Example)
    assert field_fault_of(caught.value, Example) == said

"""The line of every value in a JSON text."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pulse.market_calendar.places import Path, lines_of, path_text, places

texts = st.text(alphabet='ab"\\{}[],: \né', max_size=5)
scalars = st.none() | st.booleans() | st.integers() | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def below(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    entries: Any = ()
    if isinstance(value, list):
        entries = enumerate(value)
    elif isinstance(value, dict):
        entries = value.items()
    for key, entry in entries:
        yield (*path, key), entry
        yield from below(entry, (*path, key))


@given(values)
def test_every_value_is_found_on_its_line(value: Any) -> None:
    text = json.dumps(value, indent=1)
    found = [(place.path, place.line) for place in places(text)]
    expected = list(below(value))
    assert [path for path, _ in found] == [path for path, _ in expected]
    lines = text.split("\n")
    for (_, line), (_, entry) in zip(found, expected, strict=True):
        assert json.dumps(entry, indent=1).split("\n")[0] in lines[line - 1]


@given(values)
def test_white_space_does_not_matter(value: Any) -> None:
    compact = [place.path for place in places(json.dumps(value, separators=(",", ":")))]
    assert compact == [path for path, _ in below(value)]


def test_a_repeated_name_is_marked_and_its_last_line_counts() -> None:
    text = '{"a": 1,\n"b": {"a": 2},\n"\\u0061": 3}'
    assert [place.repeated for place in places(text)] == [False, False, False, True]
    assert lines_of(text, {("a",), ("b", "a"), ("c",)}) == {("a",): 3, ("b", "a"): 2}


def test_a_path_is_written_as_in_code() -> None:
    assert (
        path_text(("exchanges", "NSE", "holidays", 3, "date")) == "exchanges.NSE.holidays[3].date"
    )

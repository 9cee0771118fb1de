"""Whatever a file contains, it is a calendar or is refused with errors that can be printed."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pulse.market_calendar import MarketCalendarInvalid
from pulse.market_calendar.reading import parse
from tests.support.calendars import (
    NAME,
    calendar_file,
    exchange,
    holiday,
    mapping,
    special,
    text_of,
)

VALID = text_of(
    calendar_file(
        exchange(
            coverage={"from": "2026-03-01", "before": "2026-03-20", "source": "a test"},
            holidays=[holiday("2026-03-03")],
            special_sessions=[special("2026-03-08", ("18:15", "19:15"), segments=("EQUITY",))],
            instruments=[mapping("EQUITY", "TCS")],
        )
    )
)
texts = st.sampled_from(
    ["", "A", "\x1b[31m", "\u202e", "9" * 600, "0001-01-01", "9999-12-31", "2026-03-10", "09:15"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_a_file_with_any_changes_is_read_or_refused(data: st.DataObject) -> None:
    file = json.loads(VALID)
    for _ in range(data.draw(st.integers(1, 3))):
        changed(file, data)
    check(json.dumps(file, indent=data.draw(st.sampled_from([None, 2]))).encode())


@given(junk)
def test_any_json_is_read_or_refused(value: Any) -> None:
    check(json.dumps(value).encode())


@given(st.binary(max_size=100), st.integers(0, len(VALID)))
def test_any_bytes_are_read_or_refused(inserted: bytes, position: int) -> None:
    text = VALID.encode()
    check(text[:position] + inserted + text[position + len(inserted) :])


def changed(file: Any, data: st.DataObject) -> None:
    """Replace, add or remove one value somewhere."""
    inner = file
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(inner[key], dict | list) and inner[key] and data.draw(st.integers(0, 4)):
            inner = inner[key]
            continue
        if isinstance(inner, dict) and data.draw(st.booleans()):
            inner[data.draw(texts)] = data.draw(junk)
        elif data.draw(st.booleans()):
            inner[key] = data.draw(junk)
        else:
            del inner[key]
        return


def check(text: bytes) -> None:
    refused: MarketCalendarInvalid | None = None
    try:
        assert len(parse(text, NAME).digest) == 64
    except MarketCalendarInvalid as error:
        refused = error
    if refused is not None:
        assert refused.faults
        assert all(fault.isprintable() for fault in refused.faults)
        assert str(refused).count("\n") == len(refused.faults)

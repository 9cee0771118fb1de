"""The CSV of the log: RFC 4180, no formula, no changed value, and everything that an event has."""

import csv
import io
import json
import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pulse.application.event_view import event_view
from pulse.application.log_formats import EVENT_COLUMNS, csv_events, ndjson, text_cell
from pulse.domain import EVENT_TYPES, DomainEvent, Event
from pulse.eventstore import RecordedEvent
from tests.support.events import (
    MAPPER,
    foreign_event,
    order_cancelled,
    order_created,
    slices_expired,
    slices_released,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.histories import histories, lives

AT = datetime(2026, 3, 2, 3, 45, tzinfo=UTC)
NUMBER = re.compile(r"\s*[-+]?[0-9][0-9,]*(\.[0-9]*)?([eE][-+]?[0-9]+)?%?\s*\Z")
MONTH = "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|january|march|june|december)"
DATE = re.compile(
    r"\s*([0-9]{1,4}[-/.:][0-9]{1,4}([-/.:][0-9]{1,4})?"
    rf"|[0-9]{{1,2}}[ -]?{MONTH}([ -]?[0-9]{{2,4}})?|{MONTH}[- .]?[0-9]{{1,4}})\s*\Z",
    re.IGNORECASE,
)


def read_by_a_spreadsheet(cell: str) -> object:
    """What a spreadsheet makes of a cell: a formula, a number, a date or the text itself."""
    if cell[:1] in {"=", "+", "-", "@", "\t", "\r"} and not NUMBER.match(cell):
        return ("formula", cell)
    if NUMBER.match(cell):
        digits = len(re.sub(r"\D", "", cell))
        return ("number", float(cell.replace(",", "").rstrip("% \t\r\n")), digits)
    return ("date", cell) if DATE.match(cell) else cell


def record_of(event: Event, position: int = 1) -> RecordedEvent:
    (form,) = stored([event])
    stream = event.originator_id
    return RecordedEvent(position, stream, form.originator_version, form.topic, form.state, AT)


def rows_of(*records: RecordedEvent) -> list[dict[str, str]]:
    text = csv_events(records, MAPPER).decode()
    return [
        dict(zip(EVENT_COLUMNS, row, strict=True))
        for row in csv.reader(io.StringIO(text, newline=""), strict=True)
    ]


def unguarded(cell: str) -> str:
    return cell.removeprefix("'")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.from_regex(
    r"[=+\-@\t\r'\"]?[0-9]{0,20}[-/.:,e ]?[0-9]{0,8}[a-z\n]{0,3}", fullmatch=True
)


@given(text=texts)
@example('=HYPERLINK("http://elsewhere")')
@example("+1")
@example("-1+2")
@example("@SUM(A1)")
@example("\t=1")
@example("\r=1")
@example("00123")
@example("1e5")
@example("1-2")
@example("MAR1")
@example("1-Dec-2026")
@example("3 march")
@example("12345678901234567890")
@example("'quoted")
@example("true")
@example('a "quoted", text\r\nin lines')
def test_a_spreadsheet_shows_each_text_as_it_is(text: str) -> None:
    (row,) = rows_of(record_of(order_created("key", placed_by=text)))
    cell = row["placed_by"]
    assert unguarded(cell) == text
    assert read_by_a_spreadsheet(cell) == cell


@pytest.mark.parametrize(
    "text",
    [
        "ouk_first",
        "marketing",
        "mar",
        "june",
        "dec_1",
        "NSE:RELIANCE",
        "2026-03-02T03:45:00.250000Z",
        "00000000000000ff",
        "a=b",
    ],
)
def test_ordinary_text_has_no_apostrophe(text: str) -> None:
    assert text_cell(text) == text


@given(number=st.integers(-(10**18), 2**63 - 1))
@example(999_999_999_999_999)
@example(1_000_000_000_000_000)
def test_no_whole_number_is_rounded(number: int) -> None:
    (form,) = stored([order_created()])
    fields = json.loads(form.state) | {"total_quantity": number}
    record = RecordedEvent(1, UUID(int=7), 1, form.topic, json.dumps(fields).encode(), AT)
    cell = rows_of(record)[0]["total_quantity"]
    assert int(unguarded(cell)) == number
    assert cell.startswith("'") == (len(str(abs(number))) > 15)


@given(history=histories() | lives())
def test_a_row_has_everything_that_its_event_has(history: tuple[Event, ...]) -> None:
    records = [record_of(event, position) for position, event in enumerate(history, 1)]
    lines = [json.loads(line) for line in ndjson(records, MAPPER).splitlines()]
    for record, row, line in zip(records, rows_of(*records), lines, strict=True):
        assert line == json.loads(msgspec.json.encode(event_view(record, MAPPER)))
        assert event_in(row, line["data"]) == line


def event_in(row: dict[str, str], data: dict[str, Any]) -> dict[str, Any]:
    """The event that a row has; `data` gives the types of its fields."""
    found = {
        name: json.loads(row[name]) if name in {"position", "version"} else row[name]
        for name in ("position", "order_id", "version", "type", "occurred_at", "recorded_at")
    }
    assert row["other"] == ""
    fields = {name: cell_value(row[name], value) for name, value in data.items() if name in row}
    for name in ("trace", "recorded_by"):
        fields[name] = {inner: unguarded(row[inner]) for inner in data[name]}
    return found | {"data": fields}


def cell_value(cell: str, like: object) -> object:
    if isinstance(like, str):
        return unguarded(cell)
    return None if like is None and not cell else json.loads(unguarded(cell))


def test_every_field_of_every_event_has_a_column() -> None:
    for kind in EVENT_TYPES:
        own = set(kind.__struct_fields__) - set(DomainEvent.__struct_fields__)
        assert own <= set(EVENT_COLUMNS), kind
    assert len(set(EVENT_COLUMNS)) == len(EVENT_COLUMNS)


def test_events_that_are_not_pulses_or_cannot_be_read_are_shown_as_stored() -> None:
    foreign = foreign_event(state=b'{"quantity":7,"note":"=1"}')
    record = RecordedEvent(1, UUID(int=7), 1, foreign.topic, foreign.state, AT)
    (row,) = rows_of(record)
    assert (row["type"], row["quantity"]) == ("elsewhere:Happened", "")
    assert json.loads(row["other"]) == {"quantity": 7, "note": "=1"}
    created = record_of(order_created())
    (row,) = rows_of(msgspec.structs.replace(created, state=b"\xff"))
    assert json.loads(row["other"]) == {"state_hex": "ff"}
    odd = b'{"trace":7,"recorded_by":{"component":"x"},"price":null,"duration_minutes":1.5}'
    (row,) = rows_of(msgspec.structs.replace(created, state=odd))
    assert json.loads(row["other"]) == json.loads(odd)
    assert (row["type"], row["trace_id"], row["quantity"]) == ("OrderCreated", "", "")


def test_rows_end_as_rfc_4180_says() -> None:
    created = order_created(placed_by="a,b")
    history: list[Event] = [created, slices_scheduled(created)]
    history += [slices_released(*history)]
    history += [slices_expired(*history)]
    history += [order_cancelled(*history, reason="two\nlines")]
    history += [splitting_failed(created), timed_out(created)]
    content = csv_events([record_of(event) for event in history], MAPPER)
    assert content.endswith(b"\r\n")
    assert content.count(b"\r\n") == len(history)
    assert b'"a,b"' in content
    assert b'"two\nlines"' in content

"""The log as NDJSON or CSV: an event a line, or a slice a line.

A spreadsheet opens the CSV without changing a value: text that it would read as a formula, a number
or a date begins with an apostrophe, and so do whole numbers of more than 15 digits, which it would
round. Without one leading apostrophe each cell has exactly the value of the event.
"""

import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET

from pulse.application.event_view import event_view
from pulse.application.log_reader import Admission, LogRange, LogReader
from pulse.domain import (
    EVENT_TYPES,
    HALTS_STREAM_ID,
    DomainEvent,
    Event,
    HistoryBroken,
    Order,
    RecordedBy,
    Trace,
    evolve,
)
from pulse.eventstore import EventMapper, EventUnreadable, RecordedEvent
from pulse.rfc3339 import format_time

LogForm = Literal["ndjson", "csv", "csv-slices"]

_FIRST_ROUNDED: Final = 10**15
"""Spreadsheets round whole numbers of more than 15 digits."""
_MONTH: Final = (
    "(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|"
    "oct(ober)?|nov(ember)?|dec(ember)?)"
)
_READ_DIFFERENTLY: Final = re.compile(
    r"[=+\-@\t\r\n']"  # a formula; and an apostrophe, so that one apostrophe is always removed
    r"|[\s0-9.,:/%+\-eE]++\Z"  # a number, a time or a date
    rf"|\s*+[0-9]++[\s./-]*+{_MONTH}[\s0-9./-]*+\Z|\s*+{_MONTH}[\s./-]*+[0-9][\s0-9./-]*+\Z"
    r"|(true|false)\Z",
    re.IGNORECASE,
)
_OWN_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z\Z")
_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]')
_ENVELOPE: Final = ("position", "order_id", "version", "type", "occurred_at", "recorded_at")
_AUTHOR: Final = RecordedBy.__struct_fields__
_TRACE: Final = Trace.__struct_fields__
_DATA: Final = tuple(
    dict.fromkeys(
        field
        for kind in EVENT_TYPES
        for field in kind.__struct_fields__
        if field not in DomainEvent.__struct_fields__
    )
)
EVENT_COLUMNS: Final = (*_ENVELOPE, *_TRACE, *_AUTHOR, "class_version", *_DATA, "other")
"""The columns of events. Lists are JSON; `other` is what has no column, as JSON."""

_COLUMN_OF: Final = {name: EVENT_COLUMNS.index(name) for name in ("class_version", *_DATA)}
_TRACE_AT: Final = slice(len(_ENVELOPE), len(_ENVELOPE) + len(_TRACE))
_AUTHOR_AT: Final = slice(_TRACE_AT.stop, _TRACE_AT.stop + len(_AUTHOR))
_BLANK: Final = [""] * len(EVENT_COLUMNS)

SLICE_COLUMNS: Final = (
    *("created_position", "order_id", "order_unique_key", "placed_by", "instrument", "side"),
    *("release", "created_at", "split_completed_at", "sequence_number", "quantity"),
    *("scheduled_at", "state", "settled_at", "settled_recorded_at", "settled_position"),
    "unreadable_from_version",
)
"""The columns of slices. `settled_*` are empty while the slice is SCHEDULED."""


class _ExactTrace(Trace, frozen=True, forbid_unknown_fields=True):
    pass


class _ExactAuthor(RecordedBy, frozen=True, forbid_unknown_fields=True):
    pass


_raw_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_traces = msgspec.json.Decoder(_ExactTrace)
_authors = msgspec.json.Decoder(_ExactAuthor)


class Chunk(msgspec.Struct, frozen=True):
    """A part of an export: whole lines, how many, and the position up to which the log was read."""

    position: int
    lines: int
    content: bytes


async def export(
    log: LogReader,
    wanted: LogRange,
    form: LogForm,
    admission: Admission | None = None,
    *,
    header: bool = True,
) -> AsyncGenerator[Chunk]:
    """The range in this form, in chunks of at most about a MiB; some may be empty.

    Raises:
        DatabaseUnavailable, LogReplaced: the export is incomplete.
        EventTooNew: newer code must export slices.
    """
    if form != "ndjson" and header:
        columns = EVENT_COLUMNS if form == "csv" else SLICE_COLUMNS
        yield Chunk(wanted.after, 0, _lines([columns]))
    if form == "csv-slices":
        async for position, streams in log.order_streams(wanted, admission):
            rows = [row for stream in streams for row in _slice_rows(stream, log.mapper)]
            yield Chunk(position, len(rows), _lines(rows))
        return
    encode = ndjson if form == "ndjson" else csv_events
    async for page in log.pages(wanted, admission):
        yield Chunk(page.next_after, len(page.records), encode(page.records, log.mapper))


def ndjson(records: Iterable[RecordedEvent], mapper: EventMapper) -> bytes:
    """One event a line, the same objects as in a page."""
    encode = msgspec.json.encode
    return b"".join([encode(event_view(record, mapper)) + b"\n" for record in records])


def csv_events(records: Iterable[RecordedEvent], mapper: EventMapper) -> bytes:
    """One event a row, without a header."""
    return _lines([_event_row(record, mapper) for record in records])


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Rows of encoded cells as RFC 4180 has them, each ending in CRLF."""
    return "".join([",".join(row) + "\r\n" for row in rows]).encode()


def _event_row(record: RecordedEvent, mapper: EventMapper) -> list[str]:
    """The cells of an event. Only the columns that it has are filled.

    Lists are copied as they are stored, since decoding and encoding them takes longer.
    """
    row = _BLANK.copy()
    halts = record.originator_id == HALTS_STREAM_ID
    row[0] = _int_cell(record.position)
    row[1] = "" if halts else str(record.originator_id)
    row[2] = _int_cell(record.originator_version)
    row[5] = format_time(record.recorded_at)
    if not (mapper.knows(record.topic) and _fill(row, record.state)):
        view = event_view(record, mapper)
        row[4] = "" if view.occurred_at is None else _text_cell(view.occurred_at)
        row[6:] = [""] * (len(row) - 7) + [_json_cell(view.data)]
    row[3] = text_cell(
        record.topic.rpartition(":")[2] if mapper.owns(record.topic) else record.topic
    )
    return row


def _fill(row: list[str], state: bytes) -> bool:
    """Fill in the fields of an event of Pulse; False if the state cannot be read."""
    other: dict[str, msgspec.Raw] = {}
    try:
        for name, value in _raw_fields.decode(state).items():
            column = _COLUMN_OF.get(name)
            if column is not None:
                row[column] = _raw_cell(bytes(value))
            elif name == "trace" and (trace := _trace_cells(bytes(value))):
                row[_TRACE_AT] = trace
            elif name == "recorded_by" and (author := _author_cells(bytes(value))):
                row[_AUTHOR_AT] = author
            elif name == "timestamp" and bytes(value)[:1] == b'"':
                row[4] = _occurred_cell(msgspec.json.decode(value, type=str))
            else:
                other[name] = value
        if other:
            row[-1] = _json_cell(other)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _raw_cell(value: bytes) -> str:
    """The cell of a JSON value."""
    return _quoted(value.decode()) if value[:1] in b"[{" else _scalar_cell(value)


@lru_cache(maxsize=4096)
def _scalar_cell(value: bytes) -> str:
    return _cell(msgspec.json.decode(value))


@lru_cache(maxsize=256)
def _author_cells(value: bytes) -> list[str]:
    return _text_cells(_authors, value)


def _trace_cells(value: bytes) -> list[str]:
    return _text_cells(_traces, value)


def _text_cells(decoder: "msgspec.json.Decoder[Any]", value: bytes) -> list[str]:
    """The cells of a struct of texts; empty if the value is anything else."""
    try:
        texts = msgspec.structs.astuple(decoder.decode(value))
        return ["" if text is UNSET else text_cell(text) for text in texts]
    except msgspec.ValidationError:
        return []


def _slice_rows(records: Sequence[RecordedEvent], mapper: EventMapper) -> Iterator[list[str]]:
    """The slices of an order after its events, as far as they can be applied."""
    order, settled, unreadable = _folded(records, mapper)
    if order is None or not order.slices:
        return
    spec = order.spec
    of_order = [
        _cell(records[0].position),
        str(order.id),
        _cell(spec.order_unique_key),
        _cell(order.placed_by),
        _cell(spec.instrument),
        spec.side,
        _cell(order.release),
        format_time(order.created_at),
        "" if order.split_completed_at is None else format_time(order.split_completed_at),
    ]
    for number, (piece, state) in enumerate(zip(order.slices, order.slice_states, strict=True)):
        times = ["", "", ""]
        if number < len(settled):
            event, record = settled[number]
            times = [format_time(event.timestamp), format_time(record.recorded_at)]
            times.append(_cell(record.position))
        yield [
            *of_order,
            _cell(piece.sequence_number),
            _cell(piece.quantity),
            format_time(piece.scheduled_at),
            state,
            *times,
            _cell(unreadable),
        ]


def _folded(
    records: Sequence[RecordedEvent], mapper: EventMapper
) -> tuple[Order | None, list[tuple[Event, RecordedEvent]], int | None]:
    """The order, the event that settled each settled slice, and the first version not applied."""
    order: Order | None = None
    settled: list[tuple[Event, RecordedEvent]] = []
    for record in records:
        if not mapper.owns(record.topic):
            continue
        try:
            event = mapper.event_of(record)
            order = evolve(order, event)
        except (EventUnreadable, HistoryBroken):
            return order, settled, record.originator_version
        settled += [(event, record)] * (len(order.settled) - len(settled))
    return order, settled, None


def _cell(value: Any) -> str:  # noqa: ANN401 - any JSON
    """The text of a cell, encoded."""
    match value:
        case str():
            return text_cell(value)
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int():
            return _int_cell(value)
        case float():
            return repr(value)
        case _:
            return _json_cell(value)


def _occurred_cell(text: str | None) -> str:
    """The cell of a time as it is stored: of Pulse's own form nearly always, and never the same."""
    if text is None:
        return ""
    return text if _OWN_TIME.match(text) else _text_cell(text)


def _int_cell(value: int) -> str:
    return str(value) if -_FIRST_ROUNDED < value < _FIRST_ROUNDED else f"'{value}"


def _text_cell(text: str) -> str:
    if _READ_DIFFERENTLY.match(text):
        text = f"'{text}"
    return _quoted(text) if _NEEDS_QUOTES.search(text) else text


@lru_cache(maxsize=4096)
def text_cell(text: str) -> str:
    """The cell with this text, after an apostrophe if a spreadsheet would read it differently."""
    return _text_cell(text)


def _json_cell(value: object) -> str:
    return _quoted(msgspec.json.encode(value).decode())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'

"""The log as NDJSON or CSV: one event or one slice per line.

A spreadsheet opens the CSV without changing a value: text that it would read as a formula, a number
or a date begins with an apostrophe, and so do whole numbers of more than 15 digits, which it would
round. If one leading apostrophe is removed, each cell has exactly the value of the event.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from msgspec import UnsetType

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

LogFormat = Literal["ndjson", "csv", "csv-slices"]

_RECORDS_AT_ONCE: Final = 100
"""How many events are formatted before the event loop runs other tasks."""

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
_HARMLESS_FIRST: Final = frozenset("BCGHIKLPQRUVWXYZbcghiklpqruvwxyz_")
"""A text that begins with one of these is never changed by a spreadsheet."""

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


_TEXTS: Final = (msgspec.inspect.StrType, msgspec.inspect.LiteralType, msgspec.inspect.UUIDType)
_authors = msgspec.json.Decoder(_ExactAuthor)
_encode_json = msgspec.json.Encoder().encode
_BLANK_TRACE: Final = "," * (len(Trace.__struct_fields__) - 1)
_BLANK_AUTHOR: Final = "," * (len(RecordedBy.__struct_fields__) - 1)


class Chunk(msgspec.Struct, frozen=True):
    """A part of an export: whole lines, how many, and the position up to which the log was read."""

    position: int
    lines: int
    content: bytes


async def export(
    log: LogReader,
    wanted: LogRange,
    log_format: LogFormat,
    admission: Admission | None = None,
    *,
    header: bool = True,
) -> AsyncGenerator[Chunk]:
    """The range in this format, in chunks: up to 100 events, or the slices of 100 orders, or empty.

    Raises:
        DatabaseUnavailable, LogReplaced: the export is incomplete.
        EventTooNew: newer code must export slices.
    """
    if log_format != "ndjson" and header:
        columns = EVENT_COLUMNS if log_format == "csv" else SLICE_COLUMNS
        yield Chunk(wanted.after, 0, _lines([columns]))
    if log_format == "csv-slices":
        async for position, streams in log.order_streams(wanted, admission):
            rows = [row for stream in streams for row in _slice_rows(stream, log.mapper)]
            yield Chunk(position, len(rows), _lines(rows))
        return
    encode = ndjson if log_format == "ndjson" else csv_events
    async for page in log.pages(wanted, admission):
        for start in range(0, len(page.records), _RECORDS_AT_ONCE):
            records = page.records[start : start + _RECORDS_AT_ONCE]
            yield Chunk(records[-1].position, len(records), encode(records, log.mapper))
            await asyncio.sleep(0)  # so that the next page is received meanwhile
        yield Chunk(page.next_after, 0, b"")


def ndjson(records: Iterable[RecordedEvent], mapper: EventMapper) -> bytes:
    """One event per line, the same objects as in a page."""
    encode = msgspec.json.encode
    return b"".join([encode(event_view(record, mapper)) + b"\n" for record in records])


def csv_events(records: Iterable[RecordedEvent], mapper: EventMapper) -> bytes:
    """One event per row, without a header."""
    return "".join([_event_row(record, mapper) for record in records]).encode()


def _lines(rows: Iterable[Iterable[str]]) -> bytes:
    """Rows of encoded cells in the format of RFC 4180, each ending in CRLF."""
    return "".join([",".join(row) + "\r\n" for row in rows]).encode()


def _event_row(record: RecordedEvent, mapper: EventMapper) -> str:
    """The row of an event. A state without exactly the fields of its type is in `other`."""
    position, order_id, version, recorded_at = _envelope(record)
    row_format = _ROW_FORMATS.get(record.topic)
    if row_format is not None:
        try:
            occurred_at, *cells = row_format.cells(record.state)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return row_format.row % (position, order_id, version, occurred_at, recorded_at, *cells)
    view = event_view(record, mapper)
    kind, occurred_at = text_cell(view.type), _time_cell(view.occurred_at)
    blank = "," * (len(EVENT_COLUMNS) - len(_ENVELOPE))
    other = _json_cell(view.data)
    return f"{position},{order_id},{version},{kind},{occurred_at},{recorded_at}{blank}{other}\r\n"


def _envelope(record: RecordedEvent) -> tuple[str, str, str, str]:
    """The cells of position, order id, version and recorded time.

    msgspec formats the id and the time three times as fast as `str` and `isoformat`.
    """
    text = _encode_json((record.originator_id, record.recorded_at)).decode()
    order_id, recorded_at = text[2:-2].split('","')
    if record.originator_id == HALTS_STREAM_ID:
        order_id = ""
    version = _int_cell(record.originator_version)
    return _int_cell(record.position), order_id, version, recorded_at


class _RowFormat:
    """How the events of one type become rows: a template, and a formatter for each cell.

    States are decoded only as far as the cells need: times stay text, lists stay JSON.
    """

    def __init__(self, kind: type[Event]) -> None:
        fields: dict[str, tuple[Any, Callable[[Any], str]]] = {
            "timestamp": (str | None, _time_cell),
            "trace": (_ExactTrace, _trace_cells),
            "recorded_by": (msgspec.Raw, _author_cells),
            "class_version": (int | None, _scalar_cell),
        }
        types = {field.name: field.type for field in msgspec.structs.fields(kind)}
        fields |= {name: _column_of(types[name]) for name in _DATA if name in types}
        state = msgspec.defstruct(
            kind.__name__,
            [(name, stored, None) for name, (stored, _) in fields.items()],
            forbid_unknown_fields=True,
            gc=False,
        )
        self._decode = msgspec.json.Decoder(state).decode
        self._formatters = [formatter for _, formatter in fields.values()]
        columns = ["%s" if name in fields else "" for name in ("class_version", *_DATA, "other")]
        envelope = ["%s", "%s", "%s", kind.__name__, "%s", "%s"]
        self.row = ",".join([*envelope, "%s", "%s", *columns]) + "\r\n"

    def cells(self, state: bytes) -> list[str]:
        """The cells of a state, in the order of the columns; trace and author are one text each.

        Raises:
            msgspec.MsgspecError, UnicodeDecodeError, RecursionError: it is not of this type.
        """
        values = msgspec.structs.astuple(self._decode(state))
        return [formatter(value) for formatter, value in zip(self._formatters, values, strict=True)]


def _column_of(kind: Any) -> tuple[Any, Callable[[Any], str]]:  # noqa: ANN401 - an annotation
    """What a field of this type is decoded into, and what formats its cell."""
    info = msgspec.inspect.type_info(kind)
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    if any(isinstance(kind, msgspec.inspect.VarTupleType) for kind in kinds):
        return msgspec.Raw, _list_cell
    if any(isinstance(kind, msgspec.inspect.DateTimeType) for kind in kinds):
        return str | None, _time_cell
    if any(isinstance(kind, _TEXTS) for kind in kinds):
        return str | None, text_cell
    return int | float | bool | None, _scalar_cell


def _list_cell(value: msgspec.Raw | None) -> str:
    return "" if value is None else _quoted(bytes(value).decode())


@lru_cache(maxsize=4096, typed=True)
def _scalar_cell(value: float | None) -> str:
    return _cell(value)


def _trace_cells(trace: _ExactTrace | None) -> str:
    if trace is None:
        return _BLANK_TRACE
    return ",".join([text_cell(text) for text in msgspec.structs.astuple(trace)])


def _author_cells(value: msgspec.Raw | None) -> str:
    return _BLANK_AUTHOR if value is None else _cells_of_author(bytes(value))


@lru_cache(maxsize=256)
def _cells_of_author(value: bytes) -> str:
    return ",".join([text_cell(text) for text in msgspec.structs.astuple(_authors.decode(value))])


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


def _time_cell(text: str | None) -> str:
    """The cell of a stored time. Few times are equal, so a cache would not help."""
    if text is None:
        return ""
    return text if _OWN_TIME.match(text) else _text_cell(text)


def _int_cell(value: int) -> str:
    return str(value) if -_FIRST_ROUNDED < value < _FIRST_ROUNDED else f"'{value}"


def _text_cell(text: str) -> str:
    if text[:1] not in _HARMLESS_FIRST and _READ_DIFFERENTLY.match(text):
        text = f"'{text}"
    return _quoted(text) if _NEEDS_QUOTES.search(text) else text


@lru_cache(maxsize=4096)
def text_cell(text: str | UnsetType | None) -> str:
    """The cell with this text, after an apostrophe if a spreadsheet would change it."""
    return _text_cell(text) if isinstance(text, str) else ""


def _json_cell(value: object) -> str:
    return _quoted(msgspec.json.encode(value).decode())


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


_ROW_FORMATS: Final = {kind.TOPIC: _RowFormat(kind) for kind in EVENT_TYPES}

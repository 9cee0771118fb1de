"""Reads a market calendar file, and reports its errors with their lines."""

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, NoReturn, get_args, get_origin, get_type_hints

import msgspec

from pulse.errors import PulseError
from pulse.market_calendar.calendar import MarketCalendar
from pulse.market_calendar.file_format import EXPECTED, CalendarFile
from pulse.market_calendar.places import Path, line_at, lines_of, path_text, places
from pulse.market_calendar.rules import Fault, clock_faults_in, faults_in
from pulse.printable import printable

MAX_BYTES: Final = 1_048_576
MAX_FAULTS: Final = 100
SHIPPED: Final = "the shipped market calendar"
_SHIPPED_FILE: Final = "nse-bse.json"
_AT_BYTE: Final = re.compile(r"(.*) \(byte (\d+)\)", re.DOTALL)
_AT_PATH: Final = re.compile(r".* - at `\$(.*)`", re.DOTALL)
_STEP: Final = re.compile(r"\.([A-Za-z_]+)|\[(\d+)\]")


class MarketCalendarInvalid(PulseError):
    """The file cannot be used. `faults` has a line of text for each error, in the file's order."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self.name = printable(name)
        self.faults = tuple(map(printable, faults))
        lines = [f"{self.name} cannot be used:", *(f"  {fault}" for fault in self.faults)]
        super().__init__("\n".join(lines))


def load(path: FilePath | None) -> MarketCalendar:
    """The calendar of this file; without a path the one that is shipped with Pulse.

    Raises:
        MarketCalendarInvalid: the file cannot be read or has errors.
    """
    if path is None:
        return _shipped()
    name = f"the market calendar {path}"
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MarketCalendarInvalid(name, [f"it cannot be read: {error.strerror}"]) from error
    return parse(data, name)


@cache  # it is immutable, and the file does not change while the process runs
def _shipped() -> MarketCalendar:
    shipped = resources.files("pulse.market_calendar") / _SHIPPED_FILE
    return parse(shipped.read_bytes(), SHIPPED)


def parse(data: bytes, name: str) -> MarketCalendar:
    """The calendar of this file content. Errors use `name` for the file.

    Raises:
        MarketCalendarInvalid: there are errors. At most 100 are listed.
    """
    if len(data) > MAX_BYTES:
        raise MarketCalendarInvalid(name, [f"it is larger than {MAX_BYTES // 1024:,} KiB"])
    text = _text(data, name)
    decoded = _json(data, name)
    repeated = [place for place in places(text) if place.repeated]
    if repeated:
        faults = [Fault(one.path, "the name appears twice in its object") for one in repeated]
        _refuse(name, text, faults, {one.path: one.line for one in repeated})
    try:
        file = msgspec.convert(decoded, CalendarFile)
    except msgspec.ValidationError as error:
        found = list(_type_faults(decoded, CalendarFile, ()))
        _refuse(name, text, found or [_fault_of(error, ())])
    faults = list(faults_in(file)) or list(clock_faults_in(file))
    if faults:
        _refuse(name, text, faults)
    return MarketCalendar(file)


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        fault = f"line {line_at(data, error.start)}: not UTF-8"
        raise MarketCalendarInvalid(name, [fault]) from error


def _json(data: bytes, name: str) -> Any:  # noqa: ANN401 - any JSON
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        at_byte = _AT_BYTE.fullmatch(str(error))
        line = line_at(data, int(at_byte[2]) if at_byte else len(data))
        fault = f"line {line}: not JSON: {at_byte[1] if at_byte else error}"
        raise MarketCalendarInvalid(name, [fault]) from error
    except RecursionError:
        raise MarketCalendarInvalid(name, ["it is nested too deeply"]) from None


def _refuse(
    name: str, text: str, faults: list[Fault], lines: dict[Path, int] | None = None
) -> NoReturn:
    """Raise the error for these faults, each with the line of its value or of the one around it."""
    shown = faults[:MAX_FAULTS]
    if lines is None:
        wanted = {fault.path[:end] for fault in shown for end in range(1, len(fault.path) + 1)}
        lines = lines_of(text, wanted)

    def line_of(path: Path) -> int:
        found = (lines.get(path[:end]) for end in range(len(path), 0, -1))
        return next((line for line in found if line is not None), 1)

    ordered = sorted(shown, key=lambda fault: line_of(fault.path))
    messages = [
        f"line {line_of(fault.path)}: {path_text(fault.path) or 'the file'}: {fault.problem}"
        for fault in ordered
    ]
    if len(faults) > MAX_FAULTS:
        messages.append(f"and {len(faults) - MAX_FAULTS:,} more errors")
    raise MarketCalendarInvalid(name, messages)


def _type_faults(value: object, expected: Any, path: Path) -> Iterator[Fault]:  # noqa: ANN401
    """Every fault below this path: each field and each entry is converted separately."""
    struct, is_array = _struct_of(expected)
    if is_array and isinstance(value, list):
        for number, entry in enumerate(value):
            yield from _type_faults(entry, struct, (*path, number))
    elif struct is not None and isinstance(value, dict) and not is_array:
        yield from _field_faults(value, struct, path)
    else:
        try:
            msgspec.convert(value, expected)
        except msgspec.ValidationError as error:
            yield _fault_of(error, path)


def _field_faults(value: dict[str, object], struct: Any, path: Path) -> Iterator[Fault]:  # noqa: ANN401
    hints = get_type_hints(struct, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in (name for name in value if name not in fields):
        yield Fault((*path, name), f"is unknown: expected only {', '.join(fields)}")
    missing = [name for name, field in fields.items() if field.required and name not in value]
    if missing:
        yield Fault(path, f"lacks {', '.join(missing)}")
    for name in (name for name in value if name in fields):
        yield from _type_faults(value[name], hints[fields[name].name], (*path, name))


def _struct_of(expected: Any) -> tuple[Any, bool]:  # noqa: ANN401 - a type
    """The struct that this type is, or is an array of; and whether it is an array."""
    if get_origin(expected) is Annotated:
        expected = get_args(expected)[0]
    is_array = get_origin(expected) is tuple
    inner = get_args(expected)[0] if is_array else expected
    is_struct = isinstance(inner, type(msgspec.Struct))
    return (inner if is_struct else None), is_array and is_struct


def _fault_of(error: msgspec.ValidationError, path: Path) -> Fault:
    """The fault behind a validation error of the value at this path."""
    at_path = _AT_PATH.fullmatch(str(error))
    steps = [name or int(index) for name, index in _STEP.findall(at_path[1] if at_path else "")]
    full_path: Path = (*path, *steps)
    named = [step for step in full_path if isinstance(step, str)]
    if not named:
        return Fault(full_path, "expected an object with format and exchanges")
    in_array = isinstance(full_path[-1], int)
    expected = EXPECTED[named[-1]]
    return Fault(full_path, f"expected {'an entry of ' if in_array else ''}{expected}")

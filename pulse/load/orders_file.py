"""The file of a load: one JSON order request per line, blank lines between them allowed."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from pulse.domain import OrderRefused, OrderRequest, RequestedOrder, parse_order_request
from pulse.load.errors import LoadError


class Line(msgspec.Struct, frozen=True):
    """A line that is not blank; `number` counts from 1 as editors do."""

    number: int
    body: bytes


def read_lines(file: Path) -> Iterator[Line]:
    """The lines that are not blank, read as they are asked for.

    Raises:
        LoadError: the file is not there or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            for number, text in enumerate(stream, 1):
                if body := text.strip():
                    yield Line(number, body)
    except OSError as error:
        raise LoadError(
            f"cannot read {file}: {error.strerror}; name a file with one JSON order per line"
        ) from None


def count_lines(file: Path) -> int | None:
    """How many lines are not blank; None for what can be read only once, such as a pipe.

    Raises:
        LoadError: the file is not there, cannot be read, or holds no line.
    """
    if file.exists() and not (file.is_file() or file.is_dir()):
        return None
    count = sum(1 for _ in read_lines(file))
    if count == 0:
        raise LoadError(f"{file} holds no orders; it should have one JSON order per line")
    return count


def json_fault(body: bytes) -> str | None:
    """What keeps this line from being JSON; None if it is."""
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"not JSON: {error}"
    return None


def requested_order(body: bytes) -> RequestedOrder | None:
    """The order this line asks for by the domain's rules; None if it breaks one."""
    try:
        return parse_order_request(msgspec.json.decode(body, type=OrderRequest))
    except (msgspec.DecodeError, OrderRefused):
        return None

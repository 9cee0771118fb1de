"""Locates the values of a JSON text: their line numbers, and names that appear twice."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

Path = tuple[str | int, ...]
"""The names and indexes that lead to a value, such as ("holidays", 3, "date")."""

_LEXEME: Final = re.compile(r'\n|[{}\[\],]|"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+')


class Place(NamedTuple):
    """A value's path and line. `repeated` is true if its object had the same name before."""

    path: Path
    line: int
    repeated: bool


class _Open:
    """An object or array that has not ended. `key` is the name or index of its next value."""

    def __init__(self, path: Path, *, is_object: bool) -> None:
        self.path = path
        self.names: set[str] = set()
        self.key: str | int | None = None if is_object else 0
        self.repeated = False

    def name(self, name: str) -> None:
        """Record the name of the next value of an object."""
        self.key, self.repeated = name, name in self.names
        self.names.add(name)

    def separate(self) -> None:
        """Handle a comma: another value follows."""
        self.key = self.key + 1 if isinstance(self.key, int) else None


def places(text: str) -> Iterator[Place]:
    """Every value inside the root, in the order of the text. The text must be valid JSON."""
    line = 1
    outer: list[_Open] = []
    for lexeme in _LEXEME.findall(text):
        inner = outer[-1] if outer else None
        if lexeme == "\n":
            line += 1
        elif lexeme in "}]":
            outer.pop()
        elif inner is not None and lexeme == ",":
            inner.separate()
        elif inner is not None and inner.key is None:
            inner.name(msgspec.json.decode(lexeme.encode(), type=str))
        else:
            path: Path = ()
            if inner is not None and inner.key is not None:
                path = (*inner.path, inner.key)
                yield Place(path, line, inner.repeated)
            if lexeme in "{[":
                outer.append(_Open(path, is_object=lexeme == "{"))


def lines_of(text: str, wanted: set[Path]) -> dict[Path, int]:
    """The line on which each of these values begins. Absent values are left out.

    If a name is repeated, the line is that of its last value.
    """
    return {place.path: place.line for place in places(text) if place.path in wanted}


def line_at(data: bytes, offset: int) -> int:
    """The line of a byte, from 1."""
    return data.count(b"\n", 0, offset) + 1


def path_text(path: Path) -> str:
    """A path as text: `exchanges.NSE.holidays[3].date`."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]

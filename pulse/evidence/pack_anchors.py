"""Chooses the earlier checkpoints of a pack from a file of anchors, which may be large."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from pulse.evidence.anchors import AnchorUnusable, read_notes
from pulse.evidence.note import VerifierKey
from pulse.evidence.pack.check import MAX_ANCHORS
from pulse.evidence.pack.writer import Anchor, opened

_READ_BYTES: Final = 1024 * 1024
_MAX_NOTE_BYTES: Final = 64 * 1024
_BETWEEN_NOTES: Final = re.compile(rb"\n\n(?=[^\xe2])")
"""An empty line that something else than a signature follows: those begin with a dash."""


class _Candidates:
    """The first and last checkpoint, and those nearest to the selected leaves."""

    def __init__(self, first_index: int, last_index: int, size: int) -> None:
        self._first_index = first_index
        self._last_index = last_index
        self._size = size
        self._found: dict[str, Anchor] = {}

    def add(self, anchor: Anchor) -> None:
        size = anchor.size
        if size == 0 or size > self._size:
            return
        self._smallest("first", anchor)
        self._largest("last", anchor)
        if size <= self._first_index:
            self._largest("before the first leaf", anchor)
        else:
            self._smallest("has the first leaf", anchor)
        if size > self._last_index:
            self._smallest("has the last leaf", anchor)

    @property
    def chosen(self) -> list[Anchor]:
        return list(self._found.values())

    def _smallest(self, role: str, anchor: Anchor) -> None:
        if role not in self._found or anchor.size < self._found[role].size:
            self._found[role] = anchor

    def _largest(self, role: str, anchor: Anchor) -> None:
        if role not in self._found or anchor.size >= self._found[role].size:
            self._found[role] = anchor


def choose_anchors(
    file: Path, keys: Sequence[VerifierKey], first_index: int, last_index: int, size: int
) -> list[Anchor]:
    """The first and last checkpoint up to this size, and those nearest to the selected leaves.

    One is the earliest that includes them all. Those that none of the keys signed are left out, and
    a file that does not exist has none.

    Raises:
        AnchorUnusable: the file cannot be read.
    """
    candidates = _Candidates(first_index, last_index, size)
    origins = {key.name for key in keys}
    try:
        for note in _notes(file):
            origin, number, *_ = note.split("\n", 2)
            if origin in origins and number.isdecimal():
                candidates.add(Anchor(int(number), note))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AnchorUnusable(f"{file} cannot be read: {error.strerror}") from error
    return _signed(candidates.chosen, keys)


def all_anchors(file: Path, keys: Sequence[VerifierKey], size: int) -> list[Anchor]:
    """Every checkpoint in the file up to this size.

    Raises:
        AnchorUnusable: the file cannot be read, or has too many.
    """
    try:
        anchors = [
            Anchor(int(note.split("\n", 2)[1]), note) for note in read_notes(file.read_bytes())
        ]
    except OSError as error:
        raise AnchorUnusable(f"{file} cannot be read: {error.strerror}") from error
    if len(anchors) > MAX_ANCHORS // 2:
        raise AnchorUnusable(f"{file} has more than {MAX_ANCHORS // 2} checkpoints")
    return _signed([anchor for anchor in anchors if 0 < anchor.size <= size], keys)


def _signed(anchors: Sequence[Anchor], keys: Sequence[VerifierKey]) -> list[Anchor]:
    """Those that one of the keys signed, each once, the smallest first."""
    found = {anchor.note: anchor for anchor in anchors if opened(anchor.note, keys) is not None}
    return sorted(found.values(), key=lambda anchor: (anchor.size, anchor.note))


def _notes(file: Path) -> Iterator[str]:
    """The notes in a file of anchors, of which a part at a time is read."""
    rest = b""
    with file.open("rb") as stream:
        while chunk := stream.read(_READ_BYTES):
            *parts, rest = _BETWEEN_NOTES.split(rest + chunk)
            for part in parts:
                yield from read_notes(part + b"\n")
            rest = rest[-_MAX_NOTE_BYTES:]
        yield from read_notes(rest)

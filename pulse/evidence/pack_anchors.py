"""Chooses the earlier checkpoints of a pack from a file of anchors, which may be large."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pulse.evidence.anchors import AnchorUnusable, read_notes, stream_notes
from pulse.evidence.pack.check import MAX_ANCHORS
from pulse.evidence.pack.keys import TrustedKey, open_trusted
from pulse.evidence.pack.writer import Anchor

_NO_LIMIT: Final = 2**63
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


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
    file: Path, keys: Sequence[TrustedKey], first_index: int, last_index: int, size: int
) -> list[Anchor]:
    """The first and last checkpoint up to this size, and those nearest to the selected leaves.

    One of them is the smallest that includes all selected leaves. Of those chosen, the ones that
    none of the keys signed are left out. If the file does not exist, there are none.

    Raises:
        AnchorUnusable: the file cannot be read.
    """
    candidates = _Candidates(first_index, last_index, size)
    limits = _largest_of(keys)
    try:
        for note in stream_notes(file):
            anchor = _anchor_of(note)
            if anchor is not None and anchor.size <= limits.get(note.partition("\n")[0], -1):
                candidates.add(anchor)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise AnchorUnusable(f"{file} cannot be read: {error.strerror}") from error
    return _signed(candidates.chosen, keys)


def _largest_of(keys: Sequence[TrustedKey]) -> dict[str, int]:
    """For each origin the largest trusted size: after a fork larger trees belong to another log."""
    largest: dict[str, int] = {}
    for trusted in keys:
        name, limit = trusted.key.name, trusted.max_size
        limit = _NO_LIMIT if limit is None else limit
        largest[name] = max(limit, largest.get(name, 0))
    return largest


def all_anchors(file: Path, keys: Sequence[TrustedKey], size: int) -> list[Anchor]:
    """Every checkpoint in the file up to this size that a trusted key signed.

    Raises:
        AnchorUnusable: the file cannot be read, or has too many.
    """
    try:
        notes = read_notes(file.read_bytes())
    except OSError as error:
        raise AnchorUnusable(f"{file} cannot be read: {error.strerror}") from error
    anchors = [anchor for note in notes if (anchor := _anchor_of(note)) is not None]
    if len(anchors) > MAX_ANCHORS // 2:
        raise AnchorUnusable(f"{file} has more than {MAX_ANCHORS // 2} checkpoints")
    return _signed([anchor for anchor in anchors if 0 < anchor.size <= size], keys)


def _anchor_of(note: str) -> Anchor | None:
    """The checkpoint of a note; None if no tree can have its size."""
    size = note.split("\n", 2)[1]
    return Anchor(int(size), note) if _SIZE.fullmatch(size) else None


def _signed(anchors: Sequence[Anchor], keys: Sequence[TrustedKey]) -> list[Anchor]:
    """The anchors that a trusted key signed, each once, the smallest first."""
    found = {anchor.note: anchor for anchor in anchors if open_trusted(anchor.note, keys)}
    return sorted(found.values(), key=lambda anchor: (anchor.size, anchor.note))

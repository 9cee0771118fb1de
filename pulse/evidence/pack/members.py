"""The members of a pack: their names, their order, and their form."""

import re
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec

from pulse.eventstore import RecordedEvent
from pulse.evidence.merkle import HASH_BYTES, TILE_WIDTH
from pulse.evidence.pack.archive import BLOCK_BYTES, PackInvalid
from pulse.evidence.tiles import TileId
from pulse.rfc3339 import format_time

FORMAT_VERSION: Final = 1

README: Final = "README.txt"
EVENTS: Final = "events"
SCHEDULES: Final = "schedules"
SELECTION: Final = "selection.json"
CONTENT: Final = "content.sha256"
EXPORT: Final = "export.json"
CHECKPOINT: Final = "checkpoint"
ANCHORS: Final = "anchors.json"
KEYS: Final = "keys.json"
CLOCKS: Final = "clocks.ndjson"
NEIGHBOURS: Final = "neighbours.ndjson"
TILE: Final = "tile"
SUMMARY: Final = "summary.html"
MANIFEST: Final = "manifest.sha256"

PART_BYTES: Final = 256 * 1024 * 1024
"""A part of the events or the schedules ends with the first stream that makes it this large."""

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
MAX_STREAM_BYTES: Final = 256 * 1024 * 1024
MAX_SMALL_BYTES: Final = 16 * 1024 * 1024
MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
MAX_CLOCK_LINE_BYTES: Final = 64 * 1024
MAX_CLOCKS_BYTES: Final = 256 * 1024 * 1024
MIN_LINE_BYTES: Final = 100
"""No line of an event is shorter."""

MAX_TOPIC_BYTES: Final = 255
"""The entry of a longer topic has its hash instead."""

_FIRST_LINE: Final = "Pulse evidence pack, version "
README_TEXT: Final = f"""{_FIRST_LINE}{FORMAT_VERSION}

This file holds events of a Pulse log, and the proof that they are in it unchanged. summary.html
says which. Everything else is plain text, except the tiles.

    pulse verify FILE --key VERIFIER-KEY

checks all of it without a database and a network. The verifier key must come from a source that you
trust, not from this file. Without Pulse:

    tar -xf FILE
    sha256sum -c content.sha256 manifest.sha256

checks that the members are complete. check_pack.go in Pulse's documentation checks the signature
and the proofs with the packages of Go's checksum database.

{EVENTS}/        the events, a line each: the index of its leaf, its entry as it was sealed, and its
               state as it is stored. The events of a stream follow one another
{SCHEDULES}/     what each schedule was derived from: terms, seed, splitter version, sessions
{SELECTION} what was selected
{CONTENT} the hashes of all of the above but this text: its own hash is the content hash
{EXPORT}    when, by whom and with which code the pack was made
{CHECKPOINT}     the signed root of the tree at that time
{ANCHORS}   earlier checkpoints, kept outside of the database
{KEYS}      the keys that signed, with the notes by which each introduced the next
{CLOCKS}  the offsets of clocks of Pulse's processes to the database's clock
{NEIGHBOURS} the entries before and after a period
{TILE}/          hashes of the tree, in the form of C2SP tlog-tiles
{SUMMARY}   what is in the pack, for people
{MANIFEST} the hashes of all other members
"""

_PART: Final = re.compile(rf"({EVENTS}|{SCHEDULES})/([0-9]{{4}})\.ndjson")
MAX_PARTS: Final = 9_999
_RANKS: Final = {
    name: rank
    for rank, name in enumerate(
        (
            *(README, EVENTS, SCHEDULES, SELECTION, CONTENT, EXPORT, CHECKPOINT, ANCHORS, KEYS),
            *(CLOCKS, NEIGHBOURS, TILE, SUMMARY, MANIFEST),
        )
    )
}
REQUIRED: Final = frozenset(_RANKS) - {EVENTS, SCHEDULES, TILE}
_HASH_LINE: Final = re.compile(rb"[0-9a-f]{64}  [a-z0-9A-Z./_]+\n")

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


def part_of(group: str, number: int) -> str:
    """The name of a part of the events or schedules, from 1.

    Raises:
        PackInvalid: a pack cannot have that many parts.
    """
    if number > MAX_PARTS:
        raise PackInvalid(f"the {group} are too large for a pack: select a shorter period")
    return f"{group}/{number:04}.ndjson"


def tile_member(tile: TileId) -> str:
    """The name of the member with this tile."""
    return f"{TILE}/{tile.path}"


def place_of(name: str) -> tuple[int, int, int] | None:
    """The sort key of a member; None if a pack has no member of this name."""
    if found := _PART.fullmatch(name):
        number = int(found[2])
        return (_RANKS[found[1]], number, 0) if number else None
    if name.startswith(f"{TILE}/"):
        tile = TileId.parse(name.removeprefix(f"{TILE}/"))
        if tile is None or tile.level is None:
            return None
        return _RANKS[TILE], tile.level, tile.index
    return (_RANKS[name], 0, 0) if name in REQUIRED else None


def is_content(name: str) -> bool:
    """Whether the content hash covers this member."""
    place = place_of(name)
    return place is not None and _RANKS[EVENTS] <= place[0] <= _RANKS[SELECTION]


def render_hashes(hashes: dict[str, str]) -> bytes:
    """The hashes of members, in the form of sha256sum."""
    return "".join(f"{value}  {name}\n" for name, value in hashes.items()).encode()


def parse_hashes(name: str, content: bytes) -> dict[str, str]:
    """The hashes in this member, by the name of the hashed member.

    Raises:
        PackInvalid: it has another form.
    """
    hashes: dict[str, str] = {}
    for line in content.splitlines(keepends=True):
        if not _HASH_LINE.fullmatch(line):
            raise PackInvalid(f"{name} has a line of another form")
        value, _, member = line.decode().rstrip("\n").partition("  ")
        if member in hashes:
            raise PackInvalid(f"{name} has {member} twice")
        hashes[member] = value
    return hashes


def require_version(begin: bytes) -> None:
    """Require that this code reads packs of the version that the first two blocks name.

    Raises:
        PackInvalid: the version is another one, or this tar file does not begin like a pack.
    """
    if begin[257:262] != b"ustar":
        return  # the archive says what else it is
    line = begin[BLOCK_BYTES:].partition(b"\n")[0].decode("utf-8", "backslashreplace")
    version = line.removeprefix(_FIRST_LINE)
    if not begin.startswith(README.encode() + b"\0") or version == line or not version.isdecimal():
        raise PackInvalid(f"not a pack: it does not begin with {README} and the format's version")
    if version != str(FORMAT_VERSION):
        raise PackInvalid(
            f"the pack has version {version} of the format, this code reads version "
            f"{FORMAT_VERSION}: verify it with the release of Pulse that made it"
        )


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a pack; unknown fields are refused."""


class Selection(Strict, frozen=True, kw_only=True):
    """What was selected: the events of an order, or those recorded in a period.

    For a period, `first_index` and `last_index` are its first and last leaf. The pack has all
    events between these, and earlier events of the same streams. `events` counts all lines.
    """

    order_id: UUID | None = None
    recorded_from: Time | None = None
    recorded_before: Time | None = None
    first_index: int
    last_index: int
    events: int
    streams: int


class Export(Strict, frozen=True, kw_only=True):
    """Who made the pack, when by the database's clock, and with which code."""

    exported_at: Time
    exported_by: str
    database_role: str
    code_version: str
    log_id: UUID
    content_hash: Sha256


class PackKey(Strict, frozen=True):
    """A key that signed checkpoints, with the rotation note that introduced it."""

    verifier_key: str
    rotation: str | None


class ClockOffset(Strict, frozen=True):
    """How far a process's clock was ahead of the database's, measured over about a minute."""

    recorded_at: Time
    instance: str
    code_version: str
    measurements: int
    min_offset_seconds: float
    max_offset_seconds: float
    max_error_seconds: float


class Entry(Strict, frozen=True):
    """The entry of an event in the tree."""

    position: int
    order_id: UUID
    version: int
    topic: str
    recorded_at: Time
    state_sha256: Sha256


class Line(Strict, frozen=True):
    """A line of the events: the entry is as it was sealed, byte for byte.

    `state` is the text of the stored state; if that is not UTF-8, `state_base64` is set instead.
    A neighbour has neither.
    """

    index: int
    entry: msgspec.Raw
    state: str | None = None
    state_base64: bytes | None = None


_lines = msgspec.json.Decoder(Line)
_entries = msgspec.json.Decoder(Entry)


def render_line(index: int, entry: bytes, state: bytes | None) -> bytes:
    """The line of an event, or of a neighbour without a state."""
    begin = b'{"index":%d,"entry":%b' % (index, entry)
    if state is None:
        return begin + b"}\n"
    try:
        text = state.decode()
    except UnicodeDecodeError:
        return b'%b,"state_base64":%b}\n' % (begin, msgspec.json.encode(state))
    return b'%b,"state":%b}\n' % (begin, msgspec.json.encode(text))


class PackedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event of a pack, its leaf, its entry as it was sealed, and the size of its line."""

    index: int
    entry: bytes
    record: RecordedEvent
    state_sha256: str
    line_bytes: int


class PartSizes:
    """The sizes of the parts that the lines of streams or schedules are written to."""

    def __init__(self) -> None:
        self._full: list[int] = []
        self._size = 0

    def add(self, size: int) -> None:
        """Add lines that stay in one part."""
        self._size += size
        if self._size >= PART_BYTES:
            self._full.append(self._size)
            self._size = 0

    @property
    def sizes(self) -> list[int]:
        """The sizes of all parts."""
        return [*self._full, self._size] if self._size else self._full


def parse_line(line: bytes, *, has_state: bool = True) -> PackedEvent:
    """The event, or the neighbour without a state, of a line that `render_line` made.

    Raises:
        msgspec.MsgspecError, ValueError: the line has another form.
    """
    parsed = _lines.decode(line)
    entry = bytes(parsed.entry)
    state = parsed.state_base64 if parsed.state is None else parsed.state.encode()
    if has_state != (state is not None) or render_line(parsed.index, entry, state) != line:
        raise ValueError("it is not in the form that Pulse writes")
    sealed = _entries.decode(entry)
    record = RecordedEvent(
        position=sealed.position,
        originator_id=sealed.order_id,
        originator_version=sealed.version,
        topic=sealed.topic,
        state=state or b"",
        recorded_at=sealed.recorded_at,
    )
    return PackedEvent(parsed.index, entry, record, sealed.state_sha256, len(line))


def parse_entry(entry: bytes) -> Entry:
    """The fields of an entry.

    Raises:
        msgspec.MsgspecError, ValueError: it has another form.
    """
    return _entries.decode(entry)


def encode(value: msgspec.Struct) -> bytes:
    """A struct as a line of JSON, with times as in the API."""
    return msgspec.json.encode(value) + b"\n"


def selection_text(selection: Selection) -> str:
    """What was selected, in words."""
    if selection.order_id is not None:
        return f"order {selection.order_id}"
    recorded_from, recorded_before = selection.recorded_from, selection.recorded_before
    if recorded_from is None or recorded_before is None:
        return "nothing"
    return f"recorded from {format_time(recorded_from)} to {format_time(recorded_before)}"


def tile_bytes(tile: TileId) -> int:
    """The size of a tile."""
    return HASH_BYTES * min(tile.width, TILE_WIDTH)

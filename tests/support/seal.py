"""A sealer on a database, events for it, and the tree as an independent reader builds it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from tlog_scales.reader import TilesReader
from tlog_scales.tlog import Checkpoint as OracleCheckpoint

from pulse.eventstore import LOG_LOCK
from pulse.evidence.anchors import AnchorFile, Anchors
from pulse.evidence.note import SigningKey
from pulse.evidence.sealer import BATCH_EVENTS, Busy, Sealed, Sealer
from pulse.evidence.tree import NoSuchTile, SealedLog
from pulse.postgres import Database

KEY = SigningKey("pulse.example/log", bytes(range(32)))
OTHER_KEY = SigningKey("pulse.example/log", bytes(32))

_INSERT = (
    "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
    " SELECT gen_random_uuid(), 1, 'pulse.domain:OrderCreated', convert_to('{\"n\":' || n || '}', 'UTF8')"  # noqa: E501
    " FROM generate_series(1, %s::int) n"
)


def append(conninfo: str, events: int = 1) -> None:
    """Append events, each in its own stream, under the lock that orders ids by commit."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOG_LOCK,))
        connection.execute(_INSERT, (events,))


def append_event(
    conninfo: str, topic: str | None = "pulse.domain:OrderCreated", state: bytes | None = b"{}"
) -> UUID:
    """Append one event, and return its stream."""
    stream = uuid4()
    with psycopg.connect(conninfo) as connection:
        connection.execute(
            "INSERT INTO stored_events (originator_id, originator_version, topic, state)"
            " VALUES (%s, 1, %s, %s)",
            (stream, topic, state),
        )
    return stream


def tamper(conninfo: str, *statements: str) -> None:
    """Run statements as a superuser, with triggers disabled."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            connection.execute(statement.encode())


def sealer(
    database: Database,
    anchors: Path,
    key: SigningKey = KEY,
    *,
    read_key: Callable[[], SigningKey] | None = None,
    batch_events: int = BATCH_EVENTS,
) -> Sealer:
    """A sealer with this key that appends its anchors to this file."""
    kept = Anchors(AnchorFile(anchors))
    return Sealer(database, read_key or (lambda: key), kept, batch_events=batch_events)


async def seal_all(sealer: Sealer) -> Sealed:
    """Seal until nothing is left; returns the last step."""
    while True:
        result = await sealer.run_once()
        if isinstance(result, Busy):  # the server still has to notice that a process is gone
            await asyncio.sleep(0.01)
            continue
        assert isinstance(result, Sealed), result
        if not result.events:
            return result


class _Tiles:
    def __init__(self, tiles: dict[str, bytes]) -> None:
        self._tiles = tiles

    def get(self, *path: str) -> bytes | None:
        return self._tiles["/".join(path)]


class _Missing(dict[str, bytes]):
    def __missing__(self, path: str) -> bytes:
        raise KeyError(path)


async def oracle_of(log: SealedLog) -> tuple[OracleCheckpoint, TilesReader]:
    """The latest checkpoint, and the library tlog-scales as a reader of its tiles."""
    checkpoint = OracleCheckpoint.from_text(await log.checkpoint())
    tiles: dict[str, bytes] = _Missing()
    hashes = checkpoint.size
    for level in range(8):
        if not hashes:
            break
        for index in range((hashes + 255) // 256):
            width = min(256, hashes - 256 * index)
            path = _path(index, width)
            tiles[f"tile/{level}/{path}"] = await log.tile(f"{level}/{path}")
            if level == 0:
                tiles[f"tile/entries/{path}"] = await log.tile(f"entries/{path}")
        hashes //= 256
    reader = TilesReader(_Tiles(tiles))
    reader.set_size(checkpoint.size)
    return checkpoint, reader


def _path(index: int, width: int) -> str:
    assert index < 1000
    return f"{index:03}" if width == 256 else f"{index:03}.p/{width}"


async def has_tile(log: SealedLog, path: str) -> bool:
    """Whether the tree has this tile."""
    try:
        await log.tile(path)
    except NoSuchTile:
        return False
    return True

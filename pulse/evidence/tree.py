"""Reads the sealed tree: checkpoint, tiles, entries and proofs."""

from collections.abc import Iterable
from typing import Final

from pulse.errors import PulseError
from pulse.evidence.merkle import (
    HASH_BYTES,
    TILE_WIDTH,
    Node,
    Proof,
    inclusion_proof,
    leaf_hash,
    tree_of,
)
from pulse.evidence.state import TreeDamaged
from pulse.evidence.tiles import TileId, decode_bundle, encode_bundle, render_proof
from pulse.postgres import Connection, Database, fetch, load_sql

_SELECT_CHECKPOINT: Final = load_sql(__package__, "select_checkpoint")
_SELECT_ENTRIES: Final = load_sql(__package__, "select_entries")
_SELECT_ENTRIES_AT: Final = load_sql(__package__, "select_entries_at")
_SELECT_NODES: Final = load_sql(__package__, "select_nodes")
_HAS_EVENT: Final = load_sql(__package__, "has_event")


class NothingSealed(PulseError):
    """No checkpoint has been signed yet."""

    def __init__(self) -> None:
        super().__init__("no checkpoint has been signed yet: Pulse seals only with a signing key")


class NoSuchTile(PulseError):
    """The latest checkpoint's tree does not have this tile."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the tree of the latest checkpoint, of {size} entries, has no such tile")


class NoSealedEvent(PulseError):
    """The log has no event at this position, or had none when it was sealed."""

    def __init__(self, position: str) -> None:
        super().__init__(f"no sealed event has the position {position}")


class NotYetSealed(PulseError):
    """The event is in the log, but no checkpoint includes it yet."""

    def __init__(self, position: int) -> None:
        super().__init__(f"the event at position {position} is not sealed yet: retry")


class SealedLog:
    """The tree of the latest checkpoint, for readers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def checkpoint(self) -> str:
        """The latest checkpoint, a signed note.

        Raises:
            NothingSealed: there is none.
            DatabaseUnavailable: it cannot be read.
        """
        return (await self._database.read(read_published))[0]

    async def tile(self, path: str) -> bytes:
        """The tile or bundle of entries with this path below `/tile/`.

        Raises:
            NothingSealed: no checkpoint has been signed.
            NoSuchTile: the path is malformed, or the tree is smaller.
            TreeDamaged: the tile was tampered with.
            DatabaseUnavailable: it cannot be read.
        """

        async def read(connection: Connection) -> bytes:
            _, size, _ = await read_published(connection)
            tile = TileId.parse(path)
            if tile is None or not tile.is_within(size):
                raise NoSuchTile(size)
            return await read_tile(connection, tile)

        return await self._database.read(read)

    async def proof(self, position: int) -> str:
        """The proof that the latest checkpoint includes the event at this position.

        Raises:
            NothingSealed: no checkpoint has been signed.
            NoSealedEvent: the log has no event there, or had none when it was sealed.
            NotYetSealed: no checkpoint includes it yet.
            TreeDamaged: the tree was tampered with.
            DatabaseUnavailable: it cannot be read.
        """
        return await self._database.read(lambda connection: _read_proof(connection, position))


async def read_tile(connection: Connection, tile: TileId) -> bytes:
    """The bytes of a tile within the tree.

    Raises:
        TreeDamaged: the tile was tampered with.
    """
    if tile.level is None:
        return encode_bundle(await _read_entries(connection, tile.index, tile.width))
    if tile.level == 0:
        entries = await _read_entries(connection, tile.index, tile.width)
        return b"".join(map(leaf_hash, entries))
    first = TILE_WIDTH * tile.index
    rows = await fetch(connection, _SELECT_NODES, (tile.level, first, first + tile.width))
    hashes = b"".join(row[0] for row in rows)
    if len(hashes) != HASH_BYTES * tile.width:
        raise TreeDamaged(f"the tile {tile.path} of the seal is incomplete")
    return hashes


async def read_root(connection: Connection, size: int) -> bytes | None:
    """The root of the tree when it had this size, from its tiles; None if they are incomplete."""
    try:
        hashes = await _hashes(connection, tree_of(size))
    except TreeDamaged:
        return None
    return hashes[0] if hashes else None


async def read_published(connection: Connection) -> tuple[str, int, int]:
    """The latest checkpoint, the size of its tree, and the position of the last sealed event."""
    rows = await fetch(connection, _SELECT_CHECKPOINT)
    if not rows or rows[0][0] is None:
        raise NothingSealed
    checkpoint, size, position = rows[0]
    return checkpoint, size, position


async def _read_proof(connection: Connection, position: int) -> str:
    checkpoint, size, last_position = await read_published(connection)
    index = await find_leaf(connection, position)
    if index is not None and index < size:
        hashes = await _hashes(connection, inclusion_proof(index, size))
        return render_proof(index, hashes, checkpoint)
    if index is None:
        rows = await fetch(connection, _HAS_EVENT, (position,))
        if position <= last_position or not rows[0][0]:
            raise NoSealedEvent(str(position))
    raise NotYetSealed(position)


async def find_leaf(connection: Connection, position: int) -> int | None:
    """The index of the leaf of this position, None if it has none."""
    rows = await fetch(connection, _SELECT_ENTRIES_AT, (position,))
    if not rows:
        return None
    first, bundle = rows[0]
    begin = f'{{"position":{position},'.encode()
    for offset, entry in enumerate(_decoded(bundle)):
        if entry.startswith(begin):
            return int(first + offset)
    return None


async def _read_entries(connection: Connection, index: int, width: int) -> list[bytes]:
    """The first entries of a bundle."""
    first = TILE_WIDTH * index
    rows = await fetch(connection, _SELECT_ENTRIES, (first, first + width))
    entries = [entry for row in rows for entry in _decoded(row[0])][:width]
    if len(entries) != width:
        raise TreeDamaged(f"the bundle {index} of the seal's entries is incomplete")
    return entries


def _decoded(bundle: bytes) -> list[bytes]:
    try:
        return decode_bundle(bundle)
    except ValueError as error:
        raise TreeDamaged(f"a row of the seal's entries is malformed: {error}") from error


async def _hashes(connection: Connection, proof: Proof) -> list[bytes]:
    tiles = await _read_tiles(connection, proof.nodes)

    def hash_of(level: int, index: int) -> bytes:
        tile, offset = divmod(index, TILE_WIDTH)
        return tiles[level, tile][HASH_BYTES * offset : HASH_BYTES * (offset + 1)]

    return proof.hashes(hash_of)


async def _read_tiles(connection: Connection, nodes: Iterable[Node]) -> dict[Node, bytes]:
    """The tiles that have these hashes, by level and index, each as wide as needed."""
    wanted: dict[Node, int] = {}
    for level, index in nodes:
        tile, offset = divmod(index, TILE_WIDTH)
        wanted[level, tile] = max(offset + 1, wanted.get((level, tile), 0))
    return {
        (level, index): await read_tile(connection, TileId(level, index, width))
        for (level, index), width in wanted.items()
    }

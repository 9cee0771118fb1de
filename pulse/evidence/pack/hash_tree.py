"""The part of the tree that a pack contains: the tiles from which its proofs are computed."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from pulse.evidence.merkle import HASH_BYTES, TILE_BITS, TILE_WIDTH, Frontier, tree_of
from pulse.evidence.tiles import TileId

_CACHED_TILES: Final = 256


class TreeWrong(ValueError):
    """A tile does not belong to the signed tree."""


def tiles_needed(size: int, leaf_tiles: Iterable[int]) -> list[TileId]:
    """The tiles that prove all leaves of these tiles of level 0 in a tree of this size, in order.

    Each has the width that it has in this tree. They also give the root of each smaller tree whose
    last leaf is in one of these tiles.
    """
    tiles: list[TileId] = []
    indices, level = set(leaf_tiles), 0
    while (hashes := size >> (TILE_BITS * level)) > 0:
        indices = {index for index in indices if TILE_WIDTH * index < hashes}
        indices.add((hashes - 1) // TILE_WIDTH)
        tiles += (
            TileId(level, index, min(TILE_WIDTH, hashes - TILE_WIDTH * index))
            for index in sorted(indices)
        )
        indices = {index >> TILE_BITS for index in indices}
        level += 1
    return tiles


class HashTree:
    """The part of a checkpoint's tree that these tiles contain.

    `read` returns the bytes of a tile. Nothing is trusted before `require` has returned.
    """

    def __init__(self, size: int, tiles: Iterable[TileId], read: Callable[[TileId], bytes]) -> None:
        self.size = size
        self._tiles = {(tile.level or 0, tile.index): tile for tile in tiles}
        self._read = lru_cache(_CACHED_TILES)(read)

    def require(self, root: bytes) -> None:
        """Require that the tree has this root, and that each tile belongs to it.

        Raises:
            TreeWrong: the root differs, or a tile does not belong to the tree.
        """
        if self.root_of(self.size) != root:
            raise TreeWrong("the tiles do not give the root of the checkpoint")
        for tile in self._tiles.values():
            content = self._read(tile)
            if len(content) != HASH_BYTES * tile.width:
                raise TreeWrong(f"the tile {tile.path} has another size")
            if tile.width < TILE_WIDTH:
                continue  # its hashes are part of the root
            above = self.hash_of((tile.level or 0) + 1, tile.index)
            if _root_of(content) != above:
                raise TreeWrong(f"the tile {tile.path} is not in the tree")

    def hash_of(self, level: int, index: int) -> bytes:
        """The hash at this tile level and index.

        Raises:
            TreeWrong: the pack does not have it.
        """
        number, offset = divmod(index, TILE_WIDTH)
        tile = self._tiles.get((level, number))
        if tile is None or offset >= tile.width:
            raise TreeWrong(f"the tiles lack hash {index} of level {level}")
        return self._read(tile)[HASH_BYTES * offset : HASH_BYTES * (offset + 1)]

    def root_of(self, size: int) -> bytes:
        """The root that the tree had when it was of this size.

        Raises:
            TreeWrong: the pack does not have the hashes that it follows from.
        """
        if not size:
            return Frontier().root
        (root,) = tree_of(size).hashes(self.hash_of)
        return root

    def has_root_of(self, size: int) -> bool:
        """Whether the root of this earlier size follows from the tiles."""
        try:
            self.root_of(size)
        except TreeWrong:
            return False
        return True


def _root_of(tile: bytes) -> bytes:
    hashes = [tile[at : at + HASH_BYTES] for at in range(0, len(tile), HASH_BYTES)]
    frontier, _ = Frontier().extended(hashes)
    return frontier.root

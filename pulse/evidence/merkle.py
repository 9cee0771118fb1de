"""Merkle trees of RFC 6962: hashes, growing a tree, and inclusion proofs.

A tile holds the hashes of 256 consecutive subtrees of equal size. At tile level L such a subtree
has 256**L leaves. Full subtrees never change, so a tree of any earlier size can be derived.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import chain
from typing import Final

import msgspec

TILE_BITS: Final = 8
TILE_WIDTH: Final = 2**TILE_BITS
HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

HashOf = Callable[[int, int], bytes]
"""Returns the hash of the node with this tile level and index."""

Node = tuple[int, int]
"""A tile level and an index: the subtree of 256**level leaves from leaf index * 256**level on."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


class Frontier(msgspec.Struct, frozen=True):
    """The right edge of a tree: all that is needed to append leaves and to compute the root.

    `hashes` are those of the full subtrees of which the tree consists, the largest first: one for
    each bit that is set in `size`.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @classmethod
    def decode(cls, size: int, stored: bytes) -> "Frontier":
        """The frontier whose `encoded` hashes these are.

        Raises:
            ValueError: they do not belong to a tree of this size.
        """
        if len(stored) != HASH_BYTES * size.bit_count():
            raise ValueError(f"{len(stored)} bytes are not the hashes of a tree of {size} leaves")
        return cls(size, tuple(_split(stored)))

    @property
    def encoded(self) -> bytes:
        """The hashes, concatenated."""
        return b"".join(self.hashes)

    @property
    def root(self) -> bytes:
        """The root hash of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        *larger, root = self.hashes
        for subtree in reversed(larger):
            root = node_hash(subtree, root)
        return root

    def extended(self, leaf_hashes: Sequence[bytes]) -> "tuple[Frontier, dict[Node, bytes]]":
        """The tree with these leaves appended, and the hashes of the subtrees that became full.

        The dictionary has each new hash of tile level 1 and above.
        """
        size = self.size + len(leaf_hashes)
        by_height = dict(zip(_heights(self.size), self.hashes, strict=True))
        full: dict[Node, bytes] = {}
        kept: dict[int, bytes] = {}
        first, hashes, height = self.size, list(leaf_hashes), 0
        while hashes:
            if height and height % TILE_BITS == 0:
                level = height // TILE_BITS
                full |= {(level, first + i): value for i, value in enumerate(hashes)}
            if height in by_height:
                hashes.insert(0, by_height.pop(height))
                first -= 1
            if len(hashes) % 2:
                kept[height] = hashes.pop()
            hashes = _pairs_hashed(hashes)
            first, height = first // 2, height + 1
        kept |= by_height
        return Frontier(size, tuple(kept[height] for height in _heights(size))), full


def _heights(size: int) -> list[int]:
    """The heights of the full subtrees of which a tree consists, the largest first."""
    return [bit for bit in range(size.bit_length() - 1, -1, -1) if size >> bit & 1]


def _pairs_hashed(hashes: Sequence[bytes]) -> list[bytes]:
    pairs = iter(hashes)
    return [
        sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)
    ]


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[i : i + HASH_BYTES] for i in range(0, len(hashes), HASH_BYTES)]


class _Range(msgspec.Struct, frozen=True):
    """The leaves from `start` (inclusive) to `end`, which form one node of a tree."""

    start: int
    end: int

    @property
    def _subtrees(self) -> Iterator[list[Node]]:
        """The full subtrees of the node, from left to right, each as the hashes in tiles."""
        start = self.start
        for height in _heights(self.end - self.start):
            level, above = divmod(height, TILE_BITS)
            first = start >> (TILE_BITS * level)
            yield [(level, first + i) for i in range(2**above)]
            start += 2**height

    @property
    def nodes(self) -> Iterator[Node]:
        """The hashes in tiles from which this node's hash follows."""
        return chain.from_iterable(self._subtrees)

    def hash(self, hash_of: HashOf) -> bytes:
        """The hash of this node."""
        roots = []
        for subtree in self._subtrees:
            hashes = [hash_of(*node) for node in subtree]
            while len(hashes) > 1:
                hashes = _pairs_hashed(hashes)
            roots += hashes
        return Frontier(self.end - self.start, tuple(roots)).root


class Proof(msgspec.Struct, frozen=True):
    """A proof as the list of its nodes; their hashes are not read yet."""

    ranges: tuple[_Range, ...]

    @property
    def nodes(self) -> frozenset[Node]:
        """The hashes in tiles that `hashes` needs."""
        return frozenset(node for part in self.ranges for node in part.nodes)

    def hashes(self, hash_of: HashOf) -> list[bytes]:
        """The hashes of the proof, in the order of RFC 6962."""
        return [part.hash(hash_of) for part in self.ranges]


def inclusion_proof(index: int, size: int) -> Proof:
    """The proof that the leaf with this index is in the tree of this size.

    Raises:
        ValueError: the tree does not have this leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    return Proof(tuple(_inclusion(index, 0, size)))


def tree_of(size: int) -> Proof:
    """The tree of this size as a proof of one hash: its root."""
    return Proof((_Range(0, size),)) if size else Proof(())


def _inclusion(index: int, start: int, end: int) -> Iterator[_Range]:
    if end - start == 1:
        return
    middle = start + _largest_power_below(end - start)
    if index < middle:
        yield from _inclusion(index, start, middle)
        yield _Range(middle, end)
    else:
        yield from _inclusion(index, middle, end)
        yield _Range(start, middle)


def _largest_power_below(size: int) -> int:
    return 1 << (size - 1).bit_length() - 1

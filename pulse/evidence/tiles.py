"""Tiles and entry bundles as specified by C2SP (tlog-tiles): their paths, widths and bytes."""

import base64
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from pulse.evidence.merkle import TILE_BITS, TILE_WIDTH

PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"

_MAX_LEVEL: Final = 63
_LENGTH_BYTES: Final = 2
_GROUP: Final = 1000
_PATH: Final = re.compile(
    r"(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?"
)


class TileId(msgspec.Struct, frozen=True):
    """Which tile. `level` is None for a bundle of entries; a `width` below 256 is partial."""

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @classmethod
    def parse(cls, path: str) -> "TileId | None":
        """The tile of a path such as `0/x001/067.p/8` or `entries/000`; None if there is none."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        level = None if found[1] == "entries" else int(found[1])
        width = int(found[3] or TILE_WIDTH)
        index = int(found[2].replace("x", "").replace("/", ""))
        tile = cls(level, index, width)
        return tile if (level or 0) <= _MAX_LEVEL and tile.path == path else None

    @property
    def path(self) -> str:
        """The path below `/tile/`."""
        groups, rest = [f"{self.index % _GROUP:03}"], self.index // _GROUP
        while rest:
            groups.insert(0, f"x{rest % _GROUP:03}")
            rest //= _GROUP
        level = "entries" if self.level is None else self.level
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"{level}/{'/'.join(groups)}{partial}"

    def is_within(self, size: int) -> bool:
        """Whether a tree of this size has the whole tile."""
        return TILE_WIDTH * self.index + self.width <= size >> (TILE_BITS * (self.level or 0))


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """The bundle of these entries."""
    return b"".join(len(entry).to_bytes(_LENGTH_BYTES) + entry for entry in entries)


def decode_bundle(bundle: bytes) -> list[bytes]:
    """The entries of a bundle.

    Raises:
        ValueError: the bundle is cut short.
    """
    entries, at = [], 0
    while at < len(bundle):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(bundle[at:begin])
        if at > len(bundle):
            raise ValueError("the bundle is cut short")
        entries.append(bundle[begin:at])
    return entries


def render_proof(index: int, hashes: Sequence[bytes], checkpoint: str) -> str:
    """An inclusion proof in the format of C2SP (tlog-proof)."""
    lines = [PROOF_HEADER, f"index {index}", *(base64.b64encode(h).decode() for h in hashes)]
    return "\n".join([*lines, "", checkpoint])

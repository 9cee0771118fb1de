"""Merkle trees by a direct reading of RFC 6962."""

from hashlib import sha256


def root_of(leaves: list[bytes]) -> bytes:
    """MTH of section 2.1, from the hashes of the leaves."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()

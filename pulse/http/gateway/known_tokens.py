"""Good tokens for a moment: callers send the same one again and again, and a signature costs."""

import time
from collections.abc import Callable
from hashlib import sha256
from typing import Final

import msgspec

from pulse.application import Caller

MOST_TOKENS: Final = 4096
MOST_SECONDS: Final = 30.0


class Identity(msgspec.Struct, frozen=True):
    """Whom a token proves, and what it grants."""

    caller: Caller
    scopes: frozenset[str]


class _Known(msgspec.Struct, frozen=True):
    identity: Identity
    key_version: int
    expires_at: float
    forgotten_at: float


class KnownTokens:
    """The identities of tokens that were found good, by the digest of the whole token.

    Each is kept for at most 30 s, never past its token's expiry, and never past a change of the
    keys; at most 4096 are, the oldest making room. A token that is not good is never kept, so
    nobody fills it who has none.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._known: dict[bytes, _Known] = {}

    def __len__(self) -> int:
        return len(self._known)

    def identity_of(self, token: str, key_version: int) -> Identity | None:
        """The identity, if this very token was found good a moment ago under these keys."""
        known = self._known.get(_digest(token))
        if (
            known is None
            or known.key_version != key_version
            or self._clock() >= known.expires_at
            or self._monotonic() >= known.forgotten_at
        ):
            return None
        return known.identity

    def keep(self, token: str, identity: Identity, key_version: int, expires_at: float) -> None:
        """Remember a token that is good; `expires_at` is its expiry in seconds since the epoch."""
        while len(self._known) >= MOST_TOKENS:
            del self._known[next(iter(self._known))]
        forgotten_at = self._monotonic() + MOST_SECONDS
        self._known[_digest(token)] = _Known(identity, key_version, expires_at, forgotten_at)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()

"""The keys that tokens are checked with."""

from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from pulse.http.errors import Unauthorized

Key = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
"""A shared secret, or a public key; which of them follows from the configured algorithm."""


class Keys(Protocol):
    """Where the key to check a token with comes from."""

    @property
    def version(self) -> int:
        """Another number once other keys may be good."""

    async def key_of(self, token: str) -> Key:
        """The key that must have signed this token.

        Raises:
            Unauthorized: there is none.
            KeysUnavailable: it cannot be told now.
            jwt.PyJWTError: it is no token.
        """


class OneKey:
    """One key for every token, whatever a token says about keys."""

    version = 0

    def __init__(self, key: Key) -> None:
        self._key = key

    async def key_of(self, token: str) -> Key:  # noqa: ARG002 - one for every token
        """That key."""
        return self._key


class NoKeys:
    """No key is configured, so no token is good."""

    version = 0

    async def key_of(self, token: str) -> Key:  # noqa: ARG002 - none for any token
        """None."""
        raise Unauthorized("this gateway takes no tokens yet: none of its keys is configured")

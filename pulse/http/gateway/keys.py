"""The keys that tokens are checked with: one of the settings, or the issuer's JWK set."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import httpx
import jwt
import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from pulse.http.errors import KeysUnavailable, Unauthorized

_log = structlog.get_logger(__name__)

MAX_JWKS_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 100
_MAX_KEY_ID_CHARACTERS: Final = 256
_KEY_TYPES: Final = {"RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
KEYS_AWAY: Final = "the issuer's keys cannot be had now, so no token can be checked: try again"

Key = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
"""A shared secret, or a public key; which of them follows from the configured algorithm."""


class Keys(Protocol):
    """The source of the key to check a token with."""

    @property
    def version(self) -> int:
        """A number that changes whenever the keys do."""

    async def key_of(self, token: str) -> Key:
        """The key that must have signed this token.

        Raises:
            Unauthorized: there is none.
            KeysUnavailable: it cannot be fetched now.
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
        """Refuse the token."""
        raise Unauthorized("this gateway takes no tokens yet: none of its keys is configured")


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of fetching keys, in seconds.

    Keys older than `fresh_seconds` are fetched again beside the requests; keys older than
    `overdue_seconds`, or without the key id that a token names, are fetched before the token is
    checked. No fetch begins sooner than `between_fetches_seconds` after the one before. After a
    failed fetch nothing waits for `patience_seconds`, and known keys stay in use until they are
    older than `usable_seconds`.
    """

    fetch_seconds: float = 3.0
    fresh_seconds: float = 270.0
    overdue_seconds: float = 300.0
    patience_seconds: float = 30.0
    usable_seconds: float = 3600.0
    between_fetches_seconds: float = 10.0


class RemoteKeys:
    """The keys of an issuer by their ids, each good for the one configured algorithm alone."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        algorithm: str,
        *,
        limits: KeyLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._algorithm = algorithm
        self._limits = limits or KeyLimits()
        self._clock = clock
        self.version = 0
        self._keys: dict[str, Key] = {}
        self._fetched_at = self._tried_at = self._failed_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key_of(self, token: str) -> Key:
        """The key whose id the token names; whether it signed the token is not looked at here.

        Raises:
            Unauthorized: the issuer has no such key.
            KeysUnavailable: the issuer could not be asked.
            jwt.PyJWTError: it is no token, or names no key.
        """
        key_id = _key_id_of(token)
        if self._age > self._limits.fresh_seconds:
            self._begin_fetching()
        if key_id not in self._usable or self._is_overdue:
            self._begin_fetching()
            if self._fetching is not None:
                await asyncio.shield(self._fetching)
        if key := self._usable.get(key_id):
            return key
        if self._fetched_at < self._tried_at:
            raise KeysUnavailable(KEYS_AWAY)
        raise Unauthorized("the token is signed with a key that its issuer does not name")

    async def close(self) -> None:
        """Give up a fetch that is under way."""
        fetching = self._fetching
        if fetching is not None:
            fetching.cancel()
            await asyncio.wait({fetching})

    @property
    def _age(self) -> float:
        return self._clock() - self._fetched_at

    @property
    def _is_overdue(self) -> bool:
        failed_lately = self._clock() - self._failed_at < self._limits.patience_seconds
        return self._age > self._limits.overdue_seconds and not failed_lately

    @property
    def _usable(self) -> dict[str, Key]:
        return self._keys if self._age <= self._limits.usable_seconds else {}

    def _begin_fetching(self) -> None:
        """Fetch, unless that is under way or was tried a moment ago."""
        now = self._clock()
        if self._fetching is None and now - self._tried_at >= self._limits.between_fetches_seconds:
            self._tried_at = now
            self._fetching = asyncio.create_task(self._fetch(now), name="jwks")

    async def _fetch(self, now: float) -> None:
        try:
            async with asyncio.timeout(self._limits.fetch_seconds):
                keys = _read(await self._download(), self._algorithm)
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError) as error:
            self._failed_at = self._clock()
            _log.warning("gateway.keys_not_fetched", reason=type(error).__name__)
        else:
            if not keys:
                _log.warning("gateway.no_usable_key_published", algorithm=self._algorithm)
            self._keys, self._fetched_at = keys, now
            self.version += 1
        finally:
            self._fetching = None

    async def _download(self) -> bytes:
        content = bytearray()
        uncompressed = {"Accept-Encoding": "identity"}  # so MAX_JWKS_BYTES bounds the memory
        async with self._http.stream("GET", self._url, headers=uncompressed) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"status {answer.status_code}")
            async for piece in answer.aiter_raw():
                content += piece
                if len(content) > MAX_JWKS_BYTES:
                    raise ValueError("too large")
        return bytes(content)


def _key_id_of(token: str) -> str:
    key_id = jwt.get_unverified_header(token).get("kid")
    if not isinstance(key_id, str) or not 1 <= len(key_id) <= _MAX_KEY_ID_CHARACTERS:
        raise jwt.InvalidTokenError("it names no key")
    return key_id


class _KeySet(msgspec.Struct):
    keys: list[Any]


def _read(content: bytes, algorithm: str) -> dict[str, Key]:
    """The keys of a set that can verify signatures of this algorithm; all others are ignored.

    A set without such a key is an answer too: the issuer has none now.

    Raises:
        ValueError: it is not a JWK set.
    """
    found: dict[str, Key] = {}
    for described in msgspec.json.decode(content, type=_KeySet).keys[:MAX_KEYS]:
        if not isinstance(described, dict):
            continue
        key_id = described.get("kid")
        if isinstance(key_id, str) and _is_for(described, algorithm):
            try:
                found[key_id] = jwt.PyJWK(described, algorithm).key
            except (jwt.PyJWTError, ValueError, TypeError):
                _log.warning("gateway.key_passed_over")
    return found


def _is_for(described: dict[str, Any], algorithm: str) -> bool:
    return (
        "d" not in described  # a private key that is published proves nothing any more
        and described.get("kty") == _KEY_TYPES[algorithm]
        and described.get("use", "sig") == "sig"
        and isinstance(key_ops := described.get("key_ops", ["verify"]), list)
        and "verify" in key_ops
        and described.get("alg", algorithm) == algorithm
    )

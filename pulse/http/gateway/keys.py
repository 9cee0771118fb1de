"""The keys that verify tokens: one from the settings, or the issuer's JWK set (JWKS)."""

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
KEYS_UNAVAILABLE: Final = "the issuer's keys are unavailable, so no token can be checked: retry"

Key = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
"""A shared secret or a public key, according to the configured algorithm."""


class KeySource(Protocol):
    """A source of keys to verify tokens with."""

    @property
    def version(self) -> int:
        """A number that changes whenever the keys change."""

    async def key_of(self, token: str) -> Key:
        """The key that must have signed this token.

        Raises:
            Unauthorized: there is no such key.
            KeysUnavailable: the keys cannot be fetched now.
            jwt.PyJWTError: this is not a token.
        """


class StaticKey:
    """One configured key for every token; the token's key id is ignored."""

    version = 0

    def __init__(self, key: Key) -> None:
        self._key = key

    async def key_of(self, token: str) -> Key:  # noqa: ARG002 - one for every token
        """The configured key."""
        return self._key


class NoKeys:
    """No key is configured, so every token is refused."""

    version = 0

    async def key_of(self, token: str) -> Key:  # noqa: ARG002 - none for any token
        """Refuse the token."""
        raise Unauthorized("this gateway accepts no tokens: no key to verify them is configured")


class JwksLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When keys are fetched, by their age.

    Keys older than `refresh_seconds` are fetched in the background. If they are older than
    `stale_seconds`, or lack the key id of a token, the request waits for the fetch. Fetches start
    at least `min_fetch_interval_seconds` apart and take at most `fetch_seconds`. For
    `failure_backoff_seconds` after a failed fetch no request waits for stale keys; they stay in use
    until they are older than `max_age_seconds`.
    """

    fetch_seconds: float = 3.0
    refresh_seconds: float = 270.0
    stale_seconds: float = 300.0
    failure_backoff_seconds: float = 30.0
    max_age_seconds: float = 3600.0
    min_fetch_interval_seconds: float = 10.0


class JwksKeys:
    """The keys of an issuer by key id (JWKS), for the configured algorithm only."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        url: str,
        algorithm: str,
        *,
        limits: JwksLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._url = url
        self._algorithm = algorithm
        self._limits = limits or JwksLimits()
        self._clock = clock
        self.version = 0
        self._keys: dict[str, Key] = {}
        self._fetched_at = self._tried_at = self._failed_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def key_of(self, token: str) -> Key:
        """The key with the token's key id. The signature is not checked here.

        Raises:
            Unauthorized: the issuer has no such key.
            KeysUnavailable: the keys could not be fetched.
            jwt.PyJWTError: this is not a token, or it has no key id.
        """
        key_id = _key_id_of(token)
        if self._age > self._limits.refresh_seconds:
            self._begin_fetching()
        if key_id not in self._usable or self._is_stale:
            self._begin_fetching()
            if self._fetching is not None:
                await asyncio.shield(self._fetching)
        if key := self._usable.get(key_id):
            return key
        if self._fetched_at < self._tried_at:
            raise KeysUnavailable(KEYS_UNAVAILABLE)
        raise Unauthorized("the key id of the token is not among the keys of its issuer")

    async def close(self) -> None:
        """Cancel a fetch in progress."""
        fetching = self._fetching
        if fetching is not None:
            fetching.cancel()
            await asyncio.wait({fetching})

    @property
    def _age(self) -> float:
        return self._clock() - self._fetched_at

    @property
    def _is_stale(self) -> bool:
        failed_recently = self._clock() - self._failed_at < self._limits.failure_backoff_seconds
        return self._age > self._limits.stale_seconds and not failed_recently

    @property
    def _usable(self) -> dict[str, Key]:
        return self._keys if self._age <= self._limits.max_age_seconds else {}

    def _begin_fetching(self) -> None:
        """Start a fetch, unless one is running or was started too recently."""
        now = self._clock()
        if (
            self._fetching is None
            and now - self._tried_at >= self._limits.min_fetch_interval_seconds
        ):
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
        uncompressed = {"Accept-Encoding": "identity"}  # so that MAX_JWKS_BYTES bounds the memory
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
        raise jwt.InvalidTokenError("no key id")
    return key_id


class _KeySet(msgspec.Struct):
    keys: list[Any]


def _read(content: bytes, algorithm: str) -> dict[str, Key]:
    """The keys of a JWK set that can verify signatures of this algorithm; others are ignored.

    A set without such a key is valid: the issuer has none now.

    Raises:
        ValueError: the content is not a JWK set.
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
                _log.warning("gateway.key_ignored", key_id=key_id)
    return found


def _is_for(described: dict[str, Any], algorithm: str) -> bool:
    return (
        "d" not in described  # a published private key is compromised
        and described.get("kty") == _KEY_TYPES[algorithm]
        and described.get("use", "sig") == "sig"
        and isinstance(key_ops := described.get("key_ops", ["verify"]), list)
        and "verify" in key_ops
        and described.get("alg", algorithm) == algorithm
    )

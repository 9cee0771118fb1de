"""Verifies tokens: JWTs of one issuer for one audience, with one configured algorithm."""

import math
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

import jwt
import msgspec

from pulse.application.callers import Caller, CallerUnnamable
from pulse.http.auth import Identity
from pulse.http.errors import Unauthorized
from pulse.http.gateway.keys import KeySource

MAX_CACHED_TOKENS: Final = 4096
MAX_CACHED_SECONDS: Final = 30.0

MAX_TOKEN_CHARACTERS: Final = 8192
_CLAIMS: Final = ("exp", "iss", "aud", "sub")
NOT_VALID: Final = "the token is not valid"
_TIMES: Final = ("exp", "nbf", "iat")
_NO_NUMBERS: Final = f"the token's {', '.join(_TIMES)} must be numbers of seconds"
_WHY: Final[dict[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is meant for another audience",
    jwt.InvalidIssuerError: "the token is from another issuer",
}
"""Messages for errors of PyJWT, which checks claims only after the signature."""

_INVALID_TOKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError)


class _CachedToken(msgspec.Struct, frozen=True):
    identity: Identity
    key_version: int
    valid_until: float


class TokenCache:
    """A cache of valid tokens, by the digest of the whole token.

    An entry is valid for at most 30 s, and never beyond its token's expiry or a change of the keys.
    There are at most 4096; the oldest is evicted. Invalid tokens are never cached, so a caller
    without a valid token cannot fill the cache.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[bytes, _CachedToken] = {}

    def identity_of(self, token: str, key_version: int) -> Identity | None:
        """The identity of a token that was verified with these keys in the last 30 s, or None."""
        known = self._known.get(_digest(token))
        if known is None or known.key_version != key_version or self._clock() >= known.valid_until:
            return None
        return known.identity

    def add(self, token: str, identity: Identity, key_version: int, expires_at: float) -> None:
        """Cache a valid token; `expires_at` is its expiry in seconds since the epoch."""
        while len(self._known) >= MAX_CACHED_TOKENS:
            del self._known[next(iter(self._known))]
        valid_until = min(expires_at, self._clock() + MAX_CACHED_SECONDS)
        self._known[_digest(token)] = _CachedToken(identity, key_version, valid_until)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


class TokenRules(msgspec.Struct, frozen=True):
    """The rules for every token. A token that declares another algorithm is not valid.

    With `max_lifetime_seconds` a token must have `iat` and expire within that time after it.
    """

    algorithm: str
    audience: str
    issuer: str
    max_lifetime_seconds: float | None = None

    @property
    def required_claims(self) -> tuple[str, ...]:
        """The claims that a token must have."""
        return _CLAIMS if self.max_lifetime_seconds is None else (*_CLAIMS, "iat")


class TokenChecker:
    """Checks tokens by the configured rules and keys."""

    def __init__(self, rules: TokenRules, keys: KeySource) -> None:
        self._rules = rules
        self._keys = keys
        self._known = TokenCache()
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    async def check(self, token: str) -> Identity:
        """Verify a token and return the identity that it proves.

        A valid token has at most 8192 characters; is signed with the configured algorithm by a key
        of the issuer; has that issuer and audience; has an `exp` in the future and no `nbf` or
        `iat` in the future, all numbers; does not exceed the maximum lifetime; and has a subject
        of 1 to 255 characters.

        Raises:
            Unauthorized: the token is not valid. The message names the wrong claim only if the
                signature is valid.
            KeysUnavailable: the token cannot be checked now.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthorized(f"the token is longer than {MAX_TOKEN_CHARACTERS} characters")
        if known := self._known.identity_of(token, self._keys.version):
            return known
        try:
            claims = await self._claims(token)
            self._require_times(claims)
            caller = Caller.of_token(claims["iss"], claims["sub"])
        except jwt.MissingRequiredClaimError:
            required = ", ".join(self._rules.required_claims)
            raise Unauthorized(f"the token must have the claims {required}") from None
        except (*_INVALID_TOKEN, CallerUnnamable) as error:
            raise Unauthorized(_WHY.get(type(error), NOT_VALID)) from None
        identity = Identity(caller, _scopes(claims.get("scope")))
        self._known.add(token, identity, self._keys.version, int(claims["exp"]))
        return identity

    async def _claims(self, token: str) -> dict[str, Any]:
        rules = self._rules
        claims: dict[str, Any] = self._jwt.decode(
            token,
            await self._keys.key_of(token),
            algorithms=[rules.algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            options={"require": list(rules.required_claims)},
        )
        return claims

    def _require_times(self, claims: dict[str, Any]) -> None:
        """Refuse too long a lifetime, and times that are not numbers, which PyJWT would convert."""
        if not all(_is_number(claims[name]) for name in _TIMES if name in claims):
            raise Unauthorized(_NO_NUMBERS)
        most = self._rules.max_lifetime_seconds
        if most is not None and claims["exp"] - claims["iat"] > most:
            raise Unauthorized(f"the token expires more than {most:g} s after it was issued")


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _scopes(claim: object) -> frozenset[str]:
    """The scopes of a `scope` claim; none if it is not a string."""
    return frozenset(claim.split(" ")) if isinstance(claim, str) else frozenset()

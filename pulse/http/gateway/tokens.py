"""Tokens: JWTs of one issuer for one audience, signed by the one algorithm that is configured."""

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
from pulse.http.gateway.keys import Keys

MAX_KNOWN_TOKENS: Final = 4096
MAX_KNOWN_SECONDS: Final = 30.0

MAX_TOKEN_CHARACTERS: Final = 8192
_CLAIMS: Final = ("exp", "iss", "aud", "sub")
NOT_GOOD: Final = "the token is not good here"
_TIMES: Final = ("exp", "nbf", "iat")
_NO_NUMBERS: Final = f"the token's {', '.join(_TIMES)} must be numbers of seconds"
_WHY: Final[dict[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "the token has expired",
    jwt.ImmatureSignatureError: "the token is not valid yet",
    jwt.InvalidAudienceError: "the token is meant for another audience",
    jwt.InvalidIssuerError: "the token is of another issuer",
}
"""The reasons given for a token whose signature is good; any other is only called not good."""

_NO_TOKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError)


class _Known(msgspec.Struct, frozen=True):
    identity: Identity
    key_version: int
    good_until: float


class KnownTokens:
    """A cache of tokens that were found good, by the digest of the whole token.

    An entry lasts for at most 30 s, never past its token's expiry, and never past a change of the
    keys. There are at most 4096, and the oldest makes room. A token that is not good is never kept,
    so a caller without one cannot fill it.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: dict[bytes, _Known] = {}

    def identity_of(self, token: str, key_version: int) -> Identity | None:
        """The identity, if this very token was found good under these keys within 30 s."""
        known = self._known.get(_digest(token))
        if known is None or known.key_version != key_version or self._clock() >= known.good_until:
            return None
        return known.identity

    def keep(self, token: str, identity: Identity, key_version: int, expires_at: float) -> None:
        """Remember a token that is good; `expires_at` is its expiry in seconds since the epoch."""
        while len(self._known) >= MAX_KNOWN_TOKENS:
            del self._known[next(iter(self._known))]
        good_until = min(expires_at, self._clock() + MAX_KNOWN_SECONDS)
        self._known[_digest(token)] = _Known(identity, key_version, good_until)


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


class TokenRules(msgspec.Struct, frozen=True):
    """The rules of every token. The algorithm is this one, whatever a token declares.

    With `max_lifetime_seconds` a token must have `iat`, and expire no later than that after it.
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

    def __init__(self, rules: TokenRules, keys: Keys) -> None:
        self._rules = rules
        self._keys = keys
        self._known = KnownTokens()
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    async def check(self, token: str) -> Identity:
        """The identity that a good token proves.

        Good is: at most 8192 characters; signed with the configured algorithm by a key of the
        issuer; of that issuer, for that audience; with an expiry that has not come and no
        not-before that has not, all of them numbers; living no longer than the rules allow; with
        a subject of 1 to 255 characters.

        Raises:
            Unauthorized: it is not good; the text says why, as far as its owner may know.
            KeysUnavailable: it cannot be checked now.
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
            raise Unauthorized(f"the token lacks one of {required}") from None
        except (*_NO_TOKEN, CallerUnnamable) as error:
            raise Unauthorized(_WHY.get(type(error), NOT_GOOD)) from None
        identity = Identity(caller, _scopes(claims.get("scope")))
        self._known.keep(token, identity, self._keys.version, int(claims["exp"]))
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
        """Refuse times that are not numbers, which the library converts, and long lifetimes."""
        if not all(_is_number(claims[name]) for name in _TIMES if name in claims):
            raise Unauthorized(_NO_NUMBERS)
        most = self._rules.max_lifetime_seconds
        if most is not None and claims["exp"] - claims["iat"] > most:
            raise Unauthorized(f"the token expires more than {most:g} s after it was issued")


def _is_number(value: object) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _scopes(claim: object) -> frozenset[str]:
    """The words of a `scope` claim; anything but a text grants nothing."""
    return frozenset(claim.split(" ")) if isinstance(claim, str) else frozenset()

"""Tokens: JWTs of one issuer for one audience, signed by the one algorithm that is configured."""

import math
from typing import Any, Final

import jwt
import msgspec

from pulse.application import Caller, CallerUnnamable
from pulse.http.errors import Unauthorized
from pulse.http.gateway.keys import Keys
from pulse.http.gateway.known_tokens import Identity, KnownTokens

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
"""What is told of a token whose signature is good; of any other, only that it is not good."""

_WAYS_TO_BE_NO_TOKEN: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError)


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
    """Tells good tokens from all others, by the configured rules and keys."""

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
        except (*_WAYS_TO_BE_NO_TOKEN, CallerUnnamable) as error:
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

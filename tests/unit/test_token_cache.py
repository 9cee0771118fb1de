"""A valid token is cached for at most 30 s, not past its expiry, and admits no other token."""

import asyncio
import time

import jwt
import pytest

from pulse.application.callers import Caller
from pulse.http.auth import Identity
from pulse.http.errors import Unauthorized
from pulse.http.gateway.keys import StaticKey
from pulse.http.gateway.tokens import (
    MAX_CACHED_SECONDS,
    MAX_CACHED_TOKENS,
    TokenCache,
    TokenChecker,
    TokenRules,
)
from tests.support.tokens import AUDIENCE, ISSUER, signer_of
from tests.support.waiting import until

ALICE = Identity(Caller.of_token("i", "alice"), frozenset({"orders:read"}))
SIGNER = signer_of("HS256")


class Clock:
    """A clock that a test sets."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_cached_until_it_expires() -> None:
    clock = Clock()
    known = TokenCache(clock)
    known.add("token", ALICE, 0, clock.now + 10)
    clock.now += 9.99
    assert known.identity_of("token", 0) == ALICE
    clock.now += 0.01
    assert known.identity_of("token", 0) is None


def test_a_token_is_forgotten_after_half_a_minute_whatever_its_expiry() -> None:
    clock = Clock()
    known = TokenCache(clock)
    known.add("token", ALICE, 0, clock.now + 10**9)
    clock.now += MAX_CACHED_SECONDS - 0.01
    assert known.identity_of("token", 0) == ALICE
    clock.now += 0.01
    assert known.identity_of("token", 0) is None


def test_a_change_of_keys_forgets_every_token() -> None:
    known = TokenCache()
    known.add("token", ALICE, 0, 10**11)
    assert known.identity_of("token", 1) is None


@pytest.mark.parametrize("other", ["", "Token", "toke", "token ", "tokenn"])
def test_only_the_cached_token_itself_is_found(other: str) -> None:
    known = TokenCache()
    known.add("token", ALICE, 0, 10**11)
    assert known.identity_of(other, 0) is None


def test_the_cache_is_bounded_and_evicts_the_oldest_token() -> None:
    known = TokenCache()
    for number in range(MAX_CACHED_TOKENS + 100):
        known.add(str(number), ALICE, 0, 10**11)
    assert known.identity_of("99", 0) is None
    assert known.identity_of("100", 0) == ALICE


def checker() -> TokenChecker:
    return TokenChecker(TokenRules("HS256", AUDIENCE, ISSUER), StaticKey(SIGNER.key.encode()))


@pytest.mark.timing
async def test_a_cached_token_is_refused_once_it_has_expired() -> None:
    tokens, expiry = checker(), int(time.time()) + 2
    token = SIGNER.token(exp=expiry)
    while time.time() < expiry - 0.05:
        assert (await tokens.check(token)).caller.placed_by == f"{ISSUER}|alice"
        await asyncio.sleep(0.01)

    async def has_come() -> bool:
        return time.time() >= expiry

    await until(has_come, "its expiry has come")
    with pytest.raises(Unauthorized, match="has expired"):
        await tokens.check(token)


async def test_a_cached_token_does_not_admit_another_token(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, decoded = checker(), 0
    decode = jwt.PyJWT.decode

    def counted(*arguments: object, **options: object) -> object:
        nonlocal decoded
        decoded += 1
        return decode(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(jwt.PyJWT, "decode", counted)
    alice, bob = SIGNER.token(), SIGNER.token(sub="bob", scope="orders:read")
    for _ in range(3):
        assert (await tokens.check(alice)).caller.placed_by == f"{ISSUER}|alice"
        assert (await tokens.check(bob)).scopes == {"orders:read"}
    assert decoded == 2
    head, claims, signature = alice.split(".")
    for forged in (
        f"{head}.{bob.split('.')[1]}.{signature}",
        f"{head}.{claims}.{bob.split('.')[2]}",
        f"{head}.{claims}.",
        alice[:-1],
        f"{alice}A",
    ):
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await tokens.check(forged)
    assert decoded == 12

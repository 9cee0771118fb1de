"""The issuer's keys from a URL: limits on fetches, outages, and key rotation."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import msgspec
import pytest
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from structlog.testing import capture_logs

from pulse.http.errors import KeysUnavailable, Unauthorized
from pulse.http.gateway.keys import MAX_JWKS_BYTES, JwksKeys, JwksLimits
from pulse.http.gateway.tokens import TokenChecker, TokenRules
from tests.support.gateway import FakePulse, gateway_in_front_of
from tests.support.orders import fault, order
from tests.support.processes import free_port
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    Signer,
    bearer,
    forged_token,
    new_signer,
    signer_of,
)

URL = "https://issuer.example/keys"
TO_JWK: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
ASYMMETRIC = tuple(TO_JWK)


def jwk(signer: Signer, kid: str, **changes: Any) -> dict[str, Any]:
    described = TO_JWK[signer.algorithm].to_jwk(signer.key.public_key(), as_dict=True)
    return {**described, "kid": kid, "use": "sig", "alg": signer.algorithm, **changes}


def sent(content: bytes, status: int = 200, **headers: str) -> httpx.Response:
    """An answer whose bytes are still to come, as from a network."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, stream=httpx.ByteStream(content), headers=named)


def sent_json(answer: Any, status: int = 200) -> httpx.Response:
    return sent(json.dumps(answer).encode(), status)


class Issuer:
    """The server at the URL, which counts its requests and sets the time."""

    def __init__(self, algorithm: str) -> None:
        self.signer = signer_of(algorithm)
        self.keys: list[Any] = [jwk(self.signer, "first")]
        self.requests = 0
        self.now = 1000.0
        self.answer: Callable[[], httpx.Response] = lambda: sent_json({"keys": self.keys})
        self.held: asyncio.Event | None = None

    async def __call__(self, _: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.held is not None:
            await self.held.wait()
        return self.answer()

    def fail(self) -> None:
        def refuse() -> httpx.Response:
            raise httpx.ConnectError("refused")

        self.answer = refuse

    def token(self, kid: str | None = "first", signer: Signer | None = None) -> str:
        headers = {} if kid is None else {"kid": kid}
        return (signer or self.signer).token(headers=headers)


@asynccontextmanager
async def checking(issuer: Issuer, limits: JwksLimits | None = None) -> AsyncIterator[TokenChecker]:
    algorithm = issuer.signer.algorithm
    async with httpx.AsyncClient(transport=httpx.MockTransport(issuer)) as http:
        keys = JwksKeys(http, URL, algorithm, limits=limits, clock=lambda: issuer.now)
        yield TokenChecker(TokenRules(algorithm, AUDIENCE, ISSUER), keys)
        await keys.close()


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_token_of_the_issuer_is_valid_and_the_keys_are_fetched_once(algorithm: str) -> None:
    issuer = Issuer(algorithm)
    async with checking(issuer) as tokens:
        checks = (tokens.check(issuer.token()) for _ in range(50))
        identities = await asyncio.gather(*checks)
        assert {identity.caller.placed_by for identity in identities} == {f"{ISSUER}|alice"}
    assert issuer.requests == 1


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_forged_token_is_refused_whatever_key_it_names(algorithm: str) -> None:
    issuer = Issuer(algorithm)
    public = (issuer.signer.public_pem or "").encode()
    header = {"alg": "HS256", "kid": "first"}
    forged = [
        issuer.token(signer=new_signer(algorithm)),
        issuer.token("second", new_signer(algorithm)),
        issuer.token(None),
        issuer.token(""),
        issuer.token("k" * 300),
        forged_token({"alg": algorithm, "kid": ["first"]}, {}, b"x" * 32),
        forged_token(
            header, jwt.decode(issuer.token(), options={"verify_signature": False}), public
        ),
        forged_token({"alg": "none", "kid": "first"}, {}, None),
        "garbage",
    ]
    async with checking(issuer) as tokens:
        for token in forged:
            with pytest.raises(Unauthorized):
                await tokens.check(token)
        assert (await tokens.check(issuer.token())).caller.placed_by == f"{ISSUER}|alice"


async def test_an_unknown_key_causes_a_fetch_at_most_every_ten_seconds() -> None:
    issuer, newer = Issuer("ES256"), new_signer("ES256")
    async with checking(issuer) as tokens:
        await tokens.check(issuer.token())
        for number in range(100):
            with pytest.raises(Unauthorized):
                await tokens.check(issuer.token(f"unknown-{number}"))
        assert issuer.requests == 1
        issuer.keys.append(jwk(newer, "second"))
        issuer.now += 10
        await tokens.check(issuer.token("second", newer))
        await tokens.check(issuer.token())
        assert issuer.requests == 2


async def test_a_key_that_was_withdrawn_is_forgotten_once_the_keys_are_fetched_again() -> None:
    issuer, newer = Issuer("ES256"), new_signer("ES256")
    async with checking(issuer) as tokens:
        await tokens.check(issuer.token())
        issuer.keys = [jwk(newer, "second")]
        issuer.now += 299
        await tokens.check(issuer.token())  # the last time: a background fetch begins
        await tokens.check(issuer.token("second", newer))
        with pytest.raises(Unauthorized):
            await tokens.check(issuer.token())
    assert issuer.requests == 2


@pytest.mark.parametrize("silence", [301, 3000, 100_000])
async def test_the_first_token_after_an_idle_time_is_not_checked_with_a_withdrawn_key(
    silence: float,
) -> None:
    issuer = Issuer("ES256")
    async with checking(issuer) as tokens:
        await tokens.check(issuer.token())
        issuer.keys = [jwk(new_signer("ES256"), "second")]
        issuer.now += silence
        with pytest.raises(Unauthorized):
            await tokens.check(issuer.token())


@pytest.mark.parametrize(
    "published", [[], ["x", 1, None], [{}], [{"kty": "oct", "kid": "first", "k": "c2VjcmV0"}]]
)
async def test_a_set_without_a_usable_key_removes_the_known_keys(
    published: list[Any],
) -> None:
    issuer = Issuer("ES256")
    async with checking(issuer) as tokens:
        token = issuer.token()
        await tokens.check(token)
        issuer.keys = published
        issuer.now += 301
        for checked in (issuer.token(), token):
            with pytest.raises(Unauthorized):
                await tokens.check(checked)
        assert issuer.requests == 2
        issuer.keys = [jwk(issuer.signer, "first")]
        issuer.now += 10
        await tokens.check(issuer.token())


async def test_a_cached_token_is_forgotten_with_its_key() -> None:
    issuer = Issuer("ES256")
    token = issuer.token()
    async with checking(issuer) as tokens:
        await tokens.check(token)
        issuer.keys = [jwk(new_signer("ES256"), "second")]
        issuer.now += 301
        with pytest.raises(Unauthorized):
            await tokens.check(issuer.token("unknown"))  # which makes it look
        with pytest.raises(Unauthorized):
            await tokens.check(token)


async def run_background_tasks() -> None:
    """Run every other task until it waits for time to pass."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_known_keys_are_used_during_an_outage_for_a_limited_time() -> None:
    issuer = Issuer("ES256")
    async with checking(issuer) as tokens:
        await tokens.check(issuer.token())
        issuer.fail()
        for _ in range(11):
            issuer.now += 320
            await tokens.check(issuer.token())
            await run_background_tasks()
        issuer.now += 100
        for _ in range(20):
            with pytest.raises(KeysUnavailable):
                await tokens.check(issuer.token())
        assert issuer.requests == 13
        issuer.answer = lambda: sent_json({"keys": issuer.keys})
        issuer.now += 10
        await tokens.check(issuer.token())


async def test_while_the_issuer_is_unreachable_no_key_is_reported_as_unknown() -> None:
    issuer = Issuer("ES256")
    issuer.fail()
    async with checking(issuer) as tokens:
        with pytest.raises(KeysUnavailable):
            await tokens.check(issuer.token())


@pytest.mark.timing
async def test_an_unresponsive_issuer_delays_known_keys_only_once() -> None:
    issuer = Issuer("ES256")
    async with checking(issuer, JwksLimits(fetch_seconds=0.05)) as tokens:
        await tokens.check(issuer.token())
        issuer.held = asyncio.Event()
        issuer.now += 299
        async with asyncio.timeout(0.04):
            await tokens.check(issuer.token())  # fetched in the background, and timed out
        await run_background_tasks()
        issuer.now += 60
        async with asyncio.timeout(2):
            await tokens.check(issuer.token())  # after a fetch that timed out
        for _ in range(2):
            issuer.now += 14
            async with asyncio.timeout(0.04):
                await tokens.check(issuer.token())
        async with asyncio.timeout(2):
            with pytest.raises(KeysUnavailable):
                await tokens.check(issuer.token("second"))


def keys_as_bytes() -> bytes:
    return json.dumps({"keys": Issuer("ES256").keys}).encode()


ANSWERS: dict[str, Callable[[], httpx.Response]] = {
    "too large": lambda: sent(b" " * MAX_JWKS_BYTES + keys_as_bytes()),
    "packed": lambda: sent(gzip.compress(keys_as_bytes()), content_encoding="gzip"),
    "an error": lambda: sent(keys_as_bytes(), 500),
    "elsewhere": lambda: sent(b"", 302, location="https://evil.example/keys"),
    "no JSON": lambda: sent(b"<html>"),
    "another form": lambda: sent_json([1]),
    "no set": lambda: sent_json({"key": []}),
    "keys of another form": lambda: sent_json({"keys": {}}),
}


@pytest.mark.parametrize("answer", ANSWERS)
async def test_an_invalid_key_set_is_not_accepted(answer: str) -> None:
    issuer = Issuer("ES256")
    issuer.answer = ANSWERS[answer]
    async with checking(issuer) as tokens:
        with pytest.raises(KeysUnavailable):
            await tokens.check(issuer.token())
    assert issuer.requests == 1


def private(signer: Signer) -> dict[str, Any]:
    described: dict[str, Any] = ECAlgorithm.to_jwk(signer.key, as_dict=True)
    return {**described, "kid": "first"}


def useless_keys() -> list[dict[str, Any]]:
    signer = signer_of("ES256")
    return [
        jwk(signer, "first", use="enc"),
        jwk(signer, "first", use=None),
        jwk(signer, "first", key_ops=[]),
        jwk(signer, "first", key_ops=["sign"]),
        jwk(signer, "first", key_ops=["encrypt", "wrapKey"]),
        jwk(signer, "first", key_ops="verify"),
        jwk(signer, "first", key_ops=None),
        jwk(signer, "first", alg="RS256"),
        jwk(signer, "first", kty="RSA"),
        jwk(signer, "first", crv="P-384"),
        jwk(signer, "first", x="AAAA"),
        jwk(signer_of("RS256"), "first"),
        private(signer),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "first", "alg": "HS256"},
        {**jwk(signer, "first"), "kid": 7},
    ]


async def test_a_key_for_verifying_is_used() -> None:
    issuer = Issuer("ES256")
    issuer.keys = [jwk(issuer.signer, "first", key_ops=["sign", "verify"])]
    async with checking(issuer) as tokens:
        await tokens.check(issuer.token())


async def test_a_key_for_another_use_is_ignored_and_affects_no_other_key() -> None:
    issuer = Issuer("ES256")
    for useless in useless_keys():
        issuer.keys = [useless, jwk(new_signer("ES256"), "other")]
        async with checking(issuer) as tokens:
            with pytest.raises(Unauthorized):
                await tokens.check(issuer.token())


async def test_a_malformed_key_is_logged_by_its_id_and_affects_no_other_key() -> None:
    issuer = Issuer("ES256")
    issuer.keys.append(jwk(issuer.signer, "second", x="AAAA"))
    with capture_logs() as logged:
        async with checking(issuer) as tokens:
            await tokens.check(issuer.token())
    ignored = {"event": "gateway.key_ignored", "key_id": "second", "log_level": "warning"}
    assert [line for line in logged if line["event"] == "gateway.key_ignored"] == [ignored]


@pytest.mark.parametrize("algorithm", ASYMMETRIC)
async def test_a_gateway_with_a_jwks_url_accepts_the_tokens_of_its_keys(
    algorithm: str,
) -> None:
    """Real sockets, and the wiring that every process has."""
    issuer, pulse = Issuer(algorithm), FakePulse()

    async def publish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        content = json.dumps({"keys": issuer.keys}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(publish, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = msgspec.structs.replace(
        issuer.signer.settings,
        jwt_public_key=None,
        jwt_jwks_url=f"http://127.0.0.1:{port}/keys",
    )
    transport = httpx.MockTransport(pulse)
    async with server, gateway_in_front_of(transport, settings) as client:
        good, forged = issuer.token(), issuer.token(signer=new_signer(algorithm))
        for token, status in ((good, 202), (forged, 401), (issuer.token("second"), 401)):
            response = await client.post("/api/orders", json=order(), headers=bearer(token))
            assert response.status_code == status
    assert len(pulse.requests) == 1


async def test_a_gateway_logs_that_its_issuer_is_unreachable() -> None:
    settings = msgspec.structs.replace(
        signer_of("ES256").settings,
        jwt_public_key=None,
        jwt_jwks_url=f"http://127.0.0.1:{free_port()}/keys",
    )
    async with gateway_in_front_of(httpx.MockTransport(FakePulse()), settings) as client:
        token = Issuer("ES256").token()
        response = await client.post("/api/orders", json=order(), headers=bearer(token))
        fault(response, 503, "UNAVAILABLE")

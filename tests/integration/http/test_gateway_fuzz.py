"""Arbitrary tokens, signed or not, cause neither a crash nor an order."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gateway import FakePulse, gateway_in_front_of
from tests.support.orders import fault
from tests.support.tokens import claims_with, encoded, forged_token, signer_of

SIGNER = signer_of("HS256")
UNKNOWN_ORDER_ID = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ODD_CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "scope"]), ANYTHING
)
ODD_HEADERS = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5c", "zip"]), ANYTHING
)
FUZZED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.MockTransport(FakePulse())
    async with gateway_in_front_of(transport, SIGNER.settings) as client:
        yield client


async def answer_to(client: httpx.AsyncClient, authorization: bytes) -> httpx.Response:
    headers = [(b"Authorization", authorization)]
    return await client.get(f"/api/orders/{UNKNOWN_ORDER_ID}", headers=headers)


@FUZZED
@given(authorization=st.binary(max_size=200) | st.binary(max_size=200).map(b"Bearer ".__add__))
async def test_arbitrary_bytes_in_a_header_are_not_accepted_as_a_token(
    client: httpx.AsyncClient, authorization: bytes
) -> None:
    fault(await answer_to(client, authorization), 401, "UNAUTHORIZED")


@FUZZED
@given(header=ODD_HEADERS, claims=ODD_CLAIMS)
async def test_no_header_makes_an_unsigned_token_valid(
    client: httpx.AsyncClient, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    for secret in (None, b"", b"x" * 32):
        token = forged_token({"alg": "HS256", **header}, {**claims_with(), **claims}, secret)
        fault(await answer_to(client, b"Bearer " + token.encode()), 401, "UNAUTHORIZED")


@FUZZED
@given(header=ODD_HEADERS, claims=ODD_CLAIMS)
async def test_unusual_claims_with_a_valid_signature_are_refused_or_ignored(
    client: httpx.AsyncClient, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    token = forged_token(
        {"alg": "HS256", **header}, {**claims_with(), **claims}, SIGNER.key.encode()
    )
    response = await answer_to(client, b"Bearer " + token.encode())
    expected = {401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "ORDER_NOT_FOUND"}
    fault(response, response.status_code, expected[response.status_code])


@FUZZED
@given(claims=st.binary(max_size=300) | ANYTHING.map(lambda found: json.dumps(found).encode()))
async def test_claims_that_are_not_an_object_cause_no_crash(
    client: httpx.AsyncClient, claims: bytes
) -> None:
    token = forged_token({"alg": "HS256"}, claims, SIGNER.key.encode())
    fault(await answer_to(client, b"Bearer " + token.encode()), 401, "UNAUTHORIZED")
    mangled = f"{encoded(claims)}.{encoded(claims)}.{encoded(claims)}"
    fault(await answer_to(client, b"Bearer " + mangled.encode()), 401, "UNAUTHORIZED")

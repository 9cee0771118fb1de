"""The gateway refuses every forged token, with every algorithm."""

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
import pytest

from tests.support.gateway import FakePulse, gateway_in_front_of
from tests.support.orders import fault, order
from tests.support.tokens import (
    ALGORITHMS,
    Signer,
    bearer,
    claims_with,
    encoded,
    forged_token,
    new_signer,
    signer_of,
    untrusted_signer_of,
)

Attack = Callable[[Signer], str]

CONFUSABLE = {"HS256": "RS256", "RS256": "HS256", "ES256": "HS256", "EdDSA": "HS256"}
OTHER_ALGORITHM = {"HS256": "HS512", "RS256": "RS512", "ES256": "HS256", "EdDSA": "HS256"}


def public_secret(signer: Signer) -> bytes:
    return (signer.public_pem or "").encode()


def swapped(signer: Signer) -> str:
    """Signed with the public key, under an algorithm that uses it as a secret."""
    if signer.public_pem is None:
        return untrusted_signer_of("RS256").token()
    return forged_token({"alg": "HS256", "typ": "JWT"}, claims_with(), public_secret(signer))


def right_key_other_algorithm(signer: Signer) -> str:
    if signer.algorithm in {"HS256", "RS256"}:
        return signer.token(algorithm=OTHER_ALGORITHM[signer.algorithm])
    return untrusted_signer_of("HS256").token()


def altered(signer: Signer, **claims: Any) -> str:
    head, _, signature = signer.token().split(".")
    return f"{head}.{encoded(claims_with(**claims))}.{signature}"


def header_altered(signer: Signer) -> str:
    _, claims, signature = signer.token().split(".")
    return f"{encoded({'alg': signer.algorithm, 'typ': 'jwt'})}.{claims}.{signature}"


def unsigned(algorithm: str) -> Attack:
    return lambda _: forged_token({"alg": algorithm, "typ": "JWT"}, claims_with(), None)


def none_with_signature(signer: Signer) -> str:
    _, claims, signature = signer.token().split(".")
    return f"{encoded({'alg': 'none'})}.{claims}.{signature}"


def with_own_key_inside(signer: Signer) -> str:
    untrusted = untrusted_signer_of("RS256")
    assert untrusted.public_pem is not None
    jwk = {"kty": "RSA", "kid": "mine", "use": "sig", "n": "AQAB", "e": "AQAB"}
    headers = {"jwk": jwk, "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/cert"}
    return untrusted_signer_of(signer.algorithm).token(headers=headers)


def signed_claims(**claims: Any) -> Attack:
    return lambda signer: signer.token(**claims)


def raw_claims(text: bytes) -> Attack:
    """Signed as it should be, with claims that JSON libraries would not write."""
    return lambda signer: jwt.PyJWS().encode(text, signer.key, signer.algorithm)


def cut(where: float) -> Attack:
    def attack(signer: Signer) -> str:
        token = signer.token()
        return token[: int(len(token) * where)]

    return attack


def infinite(name: str, value: str) -> bytes:
    return json.dumps(claims_with(**{name: "@"})).replace('"@"', value).encode()


NOW = int(time.time())
ATTACKS: dict[str, Attack] = {
    "none algorithm": unsigned("none"),
    "None algorithm": unsigned("None"),
    "nOnE algorithm": unsigned("nOnE"),
    "empty algorithm": unsigned(""),
    "none algorithm, signature kept": none_with_signature,
    "wrong key": lambda signer: untrusted_signer_of(signer.algorithm).token(),
    "another wrong key": lambda signer: new_signer(signer.algorithm).token(),
    "swapped algorithm": swapped,
    "swapped algorithm, key without its line end": lambda s: forged_token(
        {"alg": "HS256"}, claims_with(), public_secret(s).strip() or b"\n"
    ),
    "signed with nothing": lambda _: forged_token({"alg": "HS256"}, claims_with(), b""),
    "right key, other algorithm": right_key_other_algorithm,
    "its own key inside": with_own_key_inside,
    "key id that is a path": lambda signer: untrusted_signer_of(signer.algorithm).token(
        headers={"kid": "../../../../dev/null"}
    ),
    "critical extension unknown": lambda signer: signer.token(
        headers={"crit": ["exp-ignored"], "exp-ignored": True}
    ),
    "payload detached": lambda signer: signer.token(headers={"b64": False}),
    "wrong audience": signed_claims(aud="https://another.example"),
    "wrong audiences": signed_claims(aud=["https://a.example", "https://b.example"]),
    "audience that begins like it": signed_claims(aud="https://pulse.example.evil"),
    "no audience": signed_claims(aud=None),
    "wrong issuer": signed_claims(iss="https://another.example"),
    "issuer with a slash": signed_claims(iss="https://issuer.example/"),
    "no issuer": signed_claims(iss=None),
    "expired a second ago": lambda signer: signer.token(exp=int(time.time()) - 1),
    "expired now": lambda signer: signer.token(exp=int(time.time())),
    "expired long ago": signed_claims(exp=1),
    "negative expiry": signed_claims(exp=-1),
    "no expiry": signed_claims(exp=None),
    "expiry that is a word": signed_claims(exp="never"),
    "expiry that is true": signed_claims(exp=True),
    "expiry that is infinite": raw_claims(infinite("exp", "Infinity")),
    "expiry that is not a number": raw_claims(infinite("exp", "NaN")),
    "expiry that is null": raw_claims(infinite("exp", "null")),
    "expiry that is digits": signed_claims(exp=str(NOW + 3600)),
    "expiry beyond every number": raw_claims(infinite("exp", "1e400")),
    "expiry that is a list": signed_claims(exp=[NOW + 3600]),
    "nbf that is digits": signed_claims(nbf=str(NOW - 60)),
    "nbf that is true": signed_claims(nbf=True),
    "nbf that is not a number": raw_claims(infinite("nbf", "NaN")),
    "nbf below every number": raw_claims(infinite("nbf", "-1e400")),
    "nbf that is null": raw_claims(infinite("nbf", "null")),
    "iat that is digits": signed_claims(iat=str(NOW - 60)),
    "iat that is true": signed_claims(iat=True),
    "iat that is not a number": raw_claims(infinite("iat", "NaN")),
    "iat below every number": raw_claims(infinite("iat", "-1e400")),
    "not yet valid": lambda signer: signer.token(nbf=int(time.time()) + 60),
    "nbf that is infinite": raw_claims(infinite("nbf", "Infinity")),
    "issued in the future": lambda signer: signer.token(iat=int(time.time()) + 60),
    "no subject": signed_claims(sub=None),
    "empty subject": signed_claims(sub=""),
    "subject that breaks lines": signed_claims(sub="alice\r\nX-Pulse-On-Behalf-Of: x|y"),
    "subject with a lone surrogate": raw_claims(infinite("sub", '"\\ud800"')),
    "subject too long": signed_claims(sub="a" * 256),
    "subject that is a number": raw_claims(infinite("sub", "7")),
    "subject that is a list": raw_claims(infinite("sub", '["alice"]')),
    "claims altered": lambda signer: altered(signer, sub="bob"),
    "expiry altered": lambda signer: altered(signer, exp=NOW + 10**6),
    "header altered": header_altered,
    "claims that are a list": raw_claims(b"[]"),
    "claims that are not JSON": raw_claims(b"\xff\xfe"),
    "claims nested without end": raw_claims(b"[" * 5000),
    "header nested without end": lambda _: f"{encoded(b'[' * 5000)}.e30.AA",
    "header that is a list": lambda _: forged_token([], claims_with(), b"x" * 32),
    "no signature": lambda signer: signer.token().rpartition(".")[0] + ".",
    "two segments": lambda signer: signer.token().rpartition(".")[0],
    "four segments": lambda signer: signer.token() + ".AA",
    "signature of another token": lambda signer: ".".join(
        [*signer.token(sub="bob").split(".")[:2], signer.token().split(".")[2]]
    ),
    "signature truncated": lambda signer: signer.token()[:-8],
    "truncated by half": cut(0.5),
    "truncated to a tenth": cut(0.1),
    "oversized": lambda signer: signer.token(padding="a" * 8192),
    "oversized by far": lambda signer: signer.token(padding="a" * 200_000),
    "two at once": lambda signer: f"{signer.token()},{signer.token()}",
    "garbage": lambda _: "garbage",
    "dots": lambda _: "...",
    "garbage in three": lambda _: "a.b.c",
    "not base64": lambda _: "!!.!!.!!",
}


@pytest.fixture(scope="module", params=ALGORITHMS)
async def gateway(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[httpx.AsyncClient, FakePulse, Signer]]:
    signer, pulse = signer_of(request.param), FakePulse()
    async with gateway_in_front_of(httpx.MockTransport(pulse), signer.settings) as client:
        yield client, pulse, signer


Gateway = tuple[httpx.AsyncClient, FakePulse, Signer]


async def answers_to(
    client: httpx.AsyncClient, headers: Any, **parameters: Any
) -> list[httpx.Response]:
    """To placing and to reading."""
    order_id = "0b6f4c1e-52c9-4f6e-8d0a-6a3f8a1f2b77"
    return [
        await client.post("/api/orders", json=order(), headers=headers, **parameters),
        await client.get(f"/api/orders/{order_id}", headers=headers, **parameters),
    ]


async def test_a_valid_token_is_accepted(gateway: Gateway) -> None:
    client, pulse, signer = gateway
    for scheme in ("Bearer", "bearer", "BEARER"):
        headers = {"Authorization": f"{scheme} {signer.token()}"}
        assert [r.status_code for r in await answers_to(client, headers)] == [202, 404]
    good: list[dict[str, Any]] = [
        {"aud": ["https://other.example", "https://pulse.example"]},
        {"nbf": NOW - 60},
        {"iat": NOW - 1.5, "exp": NOW + 3600.5},
        {"iat": None},
    ]
    for claims in good:
        headers = bearer(signer.token(**claims))
        assert [r.status_code for r in await answers_to(client, headers)] == [202, 404]
    assert len(pulse.requests) == 14
    pulse.requests.clear()


@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_forged_token_is_refused(gateway: Gateway, attack: str) -> None:
    client, pulse, signer = gateway
    for response in await answers_to(client, bearer(ATTACKS[attack](signer))):
        fault(response, 401, "UNAUTHORIZED")
        assert response.headers["www-authenticate"] == "Bearer"
    assert pulse.requests == []


ELSEWHERE: dict[str, Callable[[str], dict[str, Any]]] = {
    "nowhere": lambda _: {"headers": {}},
    "in the query": lambda token: {
        "headers": {},
        "params": {"access_token": token, "token": token, "Authorization": f"Bearer {token}"},
    },
    "in a cookie": lambda token: {"headers": {"Cookie": f"Authorization=Bearer {token}"}},
    "in another header": lambda token: {
        "headers": {"X-Authorization": f"Bearer {token}", "Proxy-Authorization": f"Bearer {token}"}
    },
    "without a scheme": lambda token: {"headers": {"Authorization": token}},
    "under another scheme": lambda token: {"headers": {"Authorization": f"Basic {token}"}},
    "in two headers": lambda token: {"headers": [("Authorization", f"Bearer {token}")] * 2},
    "after a blank": lambda token: {"headers": {"Authorization": f"Bearer x {token}"}},
    "empty": lambda _: {"headers": {"Authorization": "Bearer "}},
}


@pytest.mark.parametrize("where", ELSEWHERE)
async def test_a_valid_token_in_a_wrong_place_is_refused(gateway: Gateway, where: str) -> None:
    client, pulse, signer = gateway
    for response in await answers_to(client, **ELSEWHERE[where](signer.token())):
        fault(response, 401, "UNAUTHORIZED")
    assert pulse.requests == []


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [
        ("orders:write", [202, 403]),
        ("orders:read", [403, 404]),
        ("orders:write orders:read extra", [202, 404]),
        ("", [403, 403]),
        (None, [403, 403]),
        ("orders", [403, 403]),
        ("orders:*", [403, 403]),
        ("ORDERS:WRITE ORDERS:READ", [403, 403]),
        ("orders:writeorders:read", [403, 403]),
        ("orders:write,orders:read", [403, 403]),
        (["orders:write", "orders:read"], [403, 403]),
        ({"orders:write": True}, [403, 403]),
    ],
    ids=str,
)
async def test_a_token_allows_only_its_scopes(
    gateway: Gateway, scope: Any, statuses: list[int]
) -> None:
    client, pulse, signer = gateway
    answers = await answers_to(client, bearer(signer.token(scope=scope)))
    assert [response.status_code for response in answers] == statuses
    for response, wanted in zip(answers, ("orders:write", "orders:read"), strict=True):
        if response.status_code == 403:
            assert fault(response, 403, "FORBIDDEN") == {"required_scope": wanted}
    assert len(pulse.requests) == statuses.count(202) + statuses.count(404)
    pulse.requests.clear()


async def test_the_reason_of_a_refusal_is_given_only_for_a_valid_signature(
    gateway: Gateway,
) -> None:
    client, _, signer = gateway
    messages = {
        "expired": signer.token(exp=1),
        "not valid yet": signer.token(nbf=NOW + 600),
        "another audience": signer.token(aud="x"),
        "another issuer": signer.token(iss="x"),
        "must have the claims exp": signer.token(exp=None),
    }
    for why, token in messages.items():
        response = await client.get("/api/orders/x", headers=bearer(token))
        assert why in response.json()["error"]["message"]
    for forged in (untrusted_signer_of(signer.algorithm).token(exp=1), unsigned("none")(signer)):
        response = await client.get("/api/orders/x", headers=bearer(forged))
        assert response.json()["error"]["message"] == "the token is not valid"
        assert forged[-20:] not in response.text

"""The maximum lifetime of a token, from its `iat` to its `exp`, is a setting."""

import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
import pytest

from pulse.settings import Settings
from tests.support.cli import run_pulse
from tests.support.gateway import FakePulse, gateway_in_front_of
from tests.support.orders import fault, order
from tests.support.tokens import AUDIENCE, ISSUER, bearer, signer_of

SIGNER = signer_of("HS256")
NOW = int(time.time())


async def answered(most_seconds: float | None, **claims: Any) -> httpx.Response:
    settings = msgspec.structs.replace(SIGNER.settings, jwt_max_lifetime_seconds=most_seconds)
    async with gateway_in_front_of(httpx.MockTransport(FakePulse()), settings) as client:
        token = SIGNER.token(**claims)
        return await client.post("/api/orders", json=order(), headers=bearer(token))


@pytest.mark.parametrize(
    ("most_seconds", "claims"),
    [
        (None, {"iat": NOW - 10, "exp": NOW + 10**9}),
        (None, {"exp": NOW + 10**9}),
        (3600, {"iat": NOW - 10, "exp": NOW + 3590}),
        (3600, {"iat": NOW - 10.5, "exp": NOW + 3589.5}),
    ],
)
async def test_a_token_with_the_maximum_lifetime_is_accepted(
    most_seconds: float | None, claims: dict[str, Any]
) -> None:
    assert (await answered(most_seconds, **claims)).status_code == 202


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"iat": NOW - 10, "exp": NOW + 3591}, "more than 3600 s after it was issued"),
        ({"iat": NOW - 10, "exp": 10**400}, "more than 3600 s after it was issued"),
        ({"iat": -(10**400), "exp": NOW + 3600}, "more than 3600 s after it was issued"),
        ({"exp": NOW + 3600}, "must have the claims exp, iss, aud, sub, iat"),
    ],
)
async def test_a_token_with_a_longer_or_unknown_lifetime_is_refused(
    claims: dict[str, Any], said: str
) -> None:
    response = await answered(3600, **claims)
    fault(response, 401, "UNAUTHORIZED")
    assert said in response.json()["error"]["message"]


def test_the_limit_is_a_setting_and_pulse_token_keeps_it(tmp_path: Path) -> None:
    settings = Settings.from_environment({"PULSE_JWT_MAX_LIFETIME_SECONDS": "900"})
    assert settings.jwt_max_lifetime_seconds == 900
    environment = {
        "data_dir": tmp_path,
        "jwt_secret": SIGNER.key,
        "jwt_audience": AUDIENCE,
        "jwt_issuer": ISSUER,
        "jwt_max_lifetime_seconds": 900,
    }
    minted = run_pulse("token", "--subject", "alice", **environment)
    claims = jwt.decode(minted.out.strip(), options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 900

    refused = run_pulse("token", "--subject", "alice", "--lifetime-seconds", "901", **environment)
    assert refused.exit_code == 2
    assert "PULSE_JWT_MAX_LIFETIME_SECONDS" in refused.err

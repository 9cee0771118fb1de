"""An invalid proxy or certificate variable is one error line without a traceback."""

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from pulse.application.callers import Caller
from pulse.application.over_http import PulseUnavailable, open_orders_over_http
from pulse.http_client import EnvironmentUnusable, open_client
from tests.support.cli import run_pulse
from tests.support.processes import environment, free_port
from tests.support.tokens import AUDIENCE, ISSUER

PASSWORD_OF_PROXY = "proxy-password"  # noqa: S105 - never used
WRONG = {
    "HTTP_PROXY": ["ftp://proxy:1", "http://proxy:99999", "http://proxy:b"],
    "HTTPS_PROXY": [f"http://user:{PASSWORD_OF_PROXY}@[::1", "://", "socks4://proxy:1"],
    "https_proxy": ["http://\x7f"],
    "ALL_PROXY": ["socks5://127.0.0.1:1080", "socks5h://127.0.0.1:1080"],
    "NO_PROXY": ["[::1"],
    "SSL_CERT_FILE": ["/nope", "/etc/passwd", "/etc"],
    "SSLKEYLOGFILE": ["/nope/x"],
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]
OF_EACH_KIND = [(name, WRONG[name][0]) for name in ("HTTPS_PROXY", "ALL_PROXY", "SSL_CERT_FILE")]
GATEWAY = {
    "jwt_algorithm": "ES256",
    "jwt_audience": AUDIENCE,
    "jwt_issuer": ISSUER,
    "jwt_jwks_url": "https://issuer.example/keys",
    "log_format": "json",
}


@pytest.mark.parametrize(("name", "value"), CASES)
def test_the_variable_is_named_and_its_value_is_not(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentUnusable) as caught:
        open_client("PULSE_JWT_JWKS_URL", trust_env=True)
    said = str(caught.value)
    assert name.upper() in said
    assert "correct or unset" in said
    assert value not in said.replace("://host", "")


def test_a_gateway_with_a_jwks_url_names_the_variable_and_does_not_start(tmp_path: Path) -> None:
    name, value = OF_EACH_KIND[0]
    found = subprocess.run(
        [sys.executable, "-m", "pulse.cli", "gateway"],
        env=environment({"port": free_port(), **GATEWAY}) | {name: value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 3, found.stderr
    assert name.upper() in found.stderr
    assert "PULSE_JWT_JWKS_URL" in found.stderr
    assert "Traceback" not in found.stderr
    assert PASSWORD_OF_PROXY not in found.stderr


@pytest.mark.parametrize(("name", "value"), OF_EACH_KIND)
def test_pulse_load_names_the_variable_in_one_line(
    tmp_path: Path, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orders.ndjson").write_text("{}\n")
    monkeypatch.setenv(name, value)
    url = "http://pulse.example"
    found = run_pulse("load", str(tmp_path / "orders.ndjson"), "--url", url)
    assert found.exit_code == 2, found.err
    assert found.err.count("\n") == 1
    assert found.err.startswith("pulse: ")
    assert name.upper() in found.err
    assert PASSWORD_OF_PROXY not in found.err


@pytest.mark.parametrize(("name", "value"), [one for one in CASES if one[0] != "SSLKEYLOGFILE"])
async def test_the_gateways_client_of_the_api_uses_none_of_them(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    async with open_orders_over_http(f"http://127.0.0.1:{free_port()}", "t" * 32) as orders:
        with pytest.raises(PulseUnavailable):
            await orders.order(uuid4(), Caller.of_token(ISSUER, "alice"))

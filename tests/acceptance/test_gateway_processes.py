"""The gateway in one process with the API, and as a separate process in front of it."""

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.cli import run_pulse
from tests.support.fleet import api_alone
from tests.support.orders import fault, order
from tests.support.processes import (
    PLAIN_HTTP,
    PulseProcess,
    free_port,
    pulse,
    run_to_end,
    until,
    uvicorn_on,
)
from tests.support.tokens import AUDIENCE, ISSUER, bearer, signer_of

SIGNER = signer_of("EdDSA")
GATEWAY_TOKEN = "gateway-token-" + "g" * 32
DESK_TOKEN = "desk-token-" + "d" * 32
SERVICES = f"gateway:{GATEWAY_TOKEN},desk:{DESK_TOKEN}"
IDENTITY: dict[str, Any] = {
    "jwt_algorithm": "EdDSA",
    "jwt_public_key": SIGNER.public_pem,
    "jwt_audience": AUDIENCE,
    "jwt_issuer": ISSUER,
}


@contextlib.contextmanager
def gateway_alone(home: Path, api: PulseProcess, *command: str, **settings: Any) -> Iterator[Any]:
    """A separate gateway in front of this API."""
    port = free_port()
    process = PulseProcess(
        home,
        command=(*command, "--port", str(port)),
        port=port,
        api_base_url=api.http.base_url,
        gateway_service_token=GATEWAY_TOKEN,
        **settings,
    )
    try:
        process.http.base_url = f"http://127.0.0.1:{port}"
        process.until_serving()
        yield process
    finally:
        process.close()


def test_a_separate_gateway_survives_a_restart_of_the_api(
    tmp_path: Path, module_database_url: str
) -> None:
    request, headers = order(), bearer(SIGNER.token())
    command = ("-m", "uvicorn", "pulse.gapi:app")
    api_port = free_port()
    settings: dict[str, Any] = {"database_url": module_database_url, "service_tokens": SERVICES}
    uvicorn = ("-m", "uvicorn", "pulse.main:app", "--port", str(api_port))
    first = PulseProcess(tmp_path, command=uvicorn, port=api_port, **settings)
    first.http.base_url = f"http://127.0.0.1:{api_port}"
    try:
        first.until_serving()
        with gateway_alone(tmp_path, first, *command, **IDENTITY) as gateway:
            placed = gateway.http.post("/api/orders", json=request, headers=headers)
            assert placed.status_code == 202
            path = f"/api/orders/{placed.json()['order_id']}"
            assert gateway.http.get(path, headers=headers).json()["placed_by"] == f"{ISSUER}|alice"
            bob = gateway.http.get(path, headers=bearer(SIGNER.token(sub="bob")))
            fault(bob, 404, "ORDER_NOT_FOUND")
            cancel = f"{path}/cancel"
            bob = gateway.http.post(cancel, headers=bearer(SIGNER.token(sub="bob")))
            fault(bob, 404, "ORDER_NOT_FOUND")
            cancelled = gateway.http.post(cancel, json={"reason": "a test"}, headers=headers)
            assert cancelled.status_code == 200
            assert cancelled.json()["order_queue_status"] == "CANCELLED"
            first.stop()
            for _ in range(3):
                unavailable = gateway.http.post("/api/orders", json=request, headers=headers)
                fault(unavailable, 503, "UNAVAILABLE")
            fault(gateway.http.post(cancel, headers=headers), 503, "UNAVAILABLE")
            assert gateway.http.get("/health").status_code == 200
            second = PulseProcess(tmp_path, command=uvicorn, port=api_port, **settings)
            second.http.base_url = first.http.base_url
            try:
                second.until_serving()
                again = gateway.http.post("/api/orders", json=request, headers=headers)
                assert (again.status_code, again.content) == (202, placed.content)
                repeated = gateway.http.post(cancel, headers=headers)
                assert (repeated.status_code, repeated.content) == (200, cancelled.content)
            finally:
                second.close()
            assert "Traceback" not in gateway.logged
    finally:
        first.close()


@pytest.mark.parametrize("way", ["in one process", "alone"])
def test_without_a_key_every_token_is_refused_and_one_line_names_the_setting(
    tmp_path: Path, module_database_url: str, way: str
) -> None:
    port = free_port()
    alone = ("-m", "uvicorn", "pulse.gapi:app", "--port", str(port))
    process = PulseProcess(
        tmp_path,
        command=alone if way == "alone" else uvicorn_on(port),
        port=port,
        database_url=module_database_url,
    )
    root = f"http://127.0.0.1:{port}{'' if way == 'alone' else '/gapi'}"
    try:
        process.http.base_url = root
        process.until_serving()
        for token in (SIGNER.token(), "x", signer_of("HS256").token()):
            refused = process.http.post("/api/orders", json=order(), headers=bearer(token))
            fault(refused, 401, "UNAUTHORIZED")
        assert process.http.get("/api/hello").json() == {"message": "Hello from GAPI"}
        assert process.logged.count("gateway.no_token_key") == 1
        assert "PULSE_JWT_SECRET" in process.logged
    finally:
        process.close()


def minted(*arguments: str, **settings: Any) -> str:
    ended = run_pulse("token", *arguments, **settings)
    assert ended.exit_code == 0, ended.err
    return ended.out.strip()


def test_up_creates_one_development_key_and_its_tokens_are_accepted(
    tmp_path: Path, data_dir: Path
) -> None:
    key = data_dir / "gateway-development.key"
    with pulse(tmp_path, data_dir=data_dir) as up:
        made = key.read_text()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        up.http.base_url = f"http://127.0.0.1:{up.port}/gapi"
        alice = bearer(minted("--subject", "alice", data_dir=data_dir))
        placed = up.http.post("/api/orders", json=order(), headers=alice)
        assert placed.status_code == 202
        path = f"/api/orders/{placed.json()['order_id']}"
        assert up.http.get(path, headers=alice).json()["placed_by"] == "pulse-development|alice"
        bob = minted("--subject", "bob", "--scope", "orders:read", data_dir=data_dir)
        fault(up.http.get(path, headers=bearer(bob)), 404, "ORDER_NOT_FOUND")
        fault(up.http.post("/api/orders", json=order(), headers=bearer(bob)), 403, "FORBIDDEN")
        assert up.stop() == 0
        assert made not in up.logged + up.output
    with pulse(tmp_path, data_dir=data_dir) as up:
        assert key.read_text() == made
        up.http.base_url = f"http://127.0.0.1:{up.port}/gapi"
        assert up.http.get(path, headers=alice).status_code == 200
        assert up.stop() == 0
        assert made not in up.logged + up.output


def test_up_creates_no_development_key_if_a_key_is_configured(
    tmp_path: Path, data_dir: Path
) -> None:
    with pulse(tmp_path, data_dir=data_dir, **IDENTITY) as up:
        url = f"http://127.0.0.1:{up.port}/gapi/api/orders"
        answer = httpx.post(
            url, json=order(), headers=bearer(SIGNER.token()), trust_env=False, verify=PLAIN_HTTP
        )
        assert answer.status_code == 202
        assert not (data_dir / "gateway-development.key").exists()
    ended = run_pulse("token", "--subject", "x", data_dir=data_dir, **IDENTITY)
    assert ended.exit_code == 1
    assert "only the issuer has the private key" in ended.err


def test_pulse_gateway_uses_the_development_key(tmp_path: Path, data_dir: Path) -> None:
    with pulse(tmp_path, data_dir=data_dir):
        pass
    with (
        api_alone(tmp_path, data_dir=data_dir, service_tokens=SERVICES) as api,
        gateway_alone(tmp_path, api, "-m", "pulse.cli", "gateway", data_dir=data_dir) as gateway,
    ):
        until(lambda: "The gateway listens on" in gateway.output, "it greets")
        token = bearer(minted("--subject", "alice", data_dir=data_dir))
        placed = gateway.http.post("/api/orders", json=order(), headers=token)
        assert placed.status_code == 202
        gateway.http.headers.update(token)
        order_id = placed.json()["order_id"]
        assert gateway.http.get(f"/api/orders/{order_id}").json()["order_id"] == order_id
        assert gateway.stop() == 0


def test_load_sends_a_service_token(tmp_path: Path, module_database_url: str) -> None:
    file = tmp_path / "orders.ndjson"
    file.write_text(httpx.Request("POST", "http://x", json=order()).content.decode() + "\n")
    with pulse(tmp_path, database_url=module_database_url, service_tokens=SERVICES) as up:
        command = ("-m", "pulse.cli", "load", str(file), "--url", up.url)
        assert run_to_end(command).returncode == 1
        assert run_to_end(command, service_token=DESK_TOKEN).returncode == 0
        assert run_to_end((*command, "--token", DESK_TOKEN)).returncode == 0


@pytest.mark.parametrize(
    ("command", "host"),
    [
        (("up", "--host", "0.0.0.0"), "0.0.0.0"),  # noqa: S104
        (("up",), "::"),
        (("api", "--host", "::"), "::"),
        (("api",), "no-such-host.invalid"),
    ],
)
def test_without_service_tokens_only_loopback_addresses_are_allowed(
    tmp_path: Path, command: tuple[str, ...], host: str
) -> None:
    settings: dict[str, Any] = {"data_dir": tmp_path / "data", "port": free_port()}
    if "--host" not in command:
        settings["host"] = host
    ended = run_pulse(*command, **settings)
    assert (ended.exit_code, ended.out) == (2, "")
    assert f"will not listen on {host}" in ended.err
    assert "set PULSE_SERVICE_TOKENS" in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_with_service_tokens_every_address_is_allowed(
    tmp_path: Path, module_database_url: str
) -> None:
    every = "0.0.0.0"  # noqa: S104 - for the moment of the test, and only with tokens
    settings = {"database_url": module_database_url, "host": every, "service_tokens": SERVICES}
    with pulse(tmp_path, **settings) as up:
        fault(up.http.get("/internal/hello"), 401, "UNAUTHORIZED")
        hello = up.http.get("/internal/hello", headers=bearer(DESK_TOKEN))
        assert hello.json() == {"message": "Hello from Pulse"}


def test_under_plain_uvicorn_a_request_with_a_proxys_header_is_not_local(
    tmp_path: Path, module_database_url: str
) -> None:
    """Uvicorn trusts X-Forwarded-For of a proxy on this machine, and would report 127.0.0.1."""
    port = free_port()
    for trusted in ("127.0.0.1", "*"):
        command = (*uvicorn_on(port), "--forwarded-allow-ips", trusted)
        with pulse(tmp_path, command=command, port=port, database_url=module_database_url) as up:
            assert up.http.get("/internal/hello").status_code == 200
            for name in ("X-Forwarded-For", "Forwarded", "X-Forwarded-Proto"):
                for value in ("127.0.0.1", "8.8.8.8", "for=127.0.0.1", ""):
                    refused = up.http.get("/internal/hello", headers={name: value})
                    fault(refused, 403, "FORBIDDEN")


def test_a_unix_socket_does_not_count_as_loopback(tmp_path: Path, module_database_url: str) -> None:
    path = str(tmp_path / "pulse.sock")
    command = ("-m", "uvicorn", "main:app", "--uds", path)
    process = PulseProcess(tmp_path, command=command, database_url=module_database_url)
    transport = httpx.HTTPTransport(uds=path)
    try:
        until(Path(path).exists, "it listens")
        with httpx.Client(transport=transport, base_url="http://pulse.test") as http:
            assert http.get("/pulse/health").status_code == 200
            fault(http.get("/pulse/internal/hello"), 403, "FORBIDDEN")
    finally:
        process.close()

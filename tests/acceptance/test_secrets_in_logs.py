"""No secret is logged: requests with canaries that are accepted, refused or crash."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.orders import order
from tests.support.processes import PulseProcess, free_port, pulse, until, url_of, uvicorn_on
from tests.support.tokens import AUDIENCE, ISSUER, Signer

CANARY: Final = "canary"
SECRET: Final = f"{CANARY}-jwt-secret-{'s' * 32}"
DESK: Final = f"{CANARY}-desk-{'d' * 32}"
GATEWAY: Final = f"{CANARY}-gateway-{'g' * 32}"
SIGNER: Final = Signer("HS256", SECRET)
TOKEN: Final = SIGNER.token(sub="alice", jti=f"{CANARY}-jti")  # the subject is logged: the caller
EXPIRED: Final = SIGNER.token(sub=f"{CANARY}-subject", exp=1)
SETTINGS: Final[dict[str, Any]] = {
    "jwt_secret": SECRET,
    "jwt_audience": AUDIENCE,
    "jwt_issuer": ISSUER,
    "service_tokens": f"desk:{DESK},gateway:{GATEWAY}",
    "gateway_service_token": GATEWAY,
    "log_level": "debug",
}
CRASHING: Final = """
import sys, uvicorn
from pulse.application.in_process import InProcessOrders
async def crash(self, requested, caller, trace):
    raise RuntimeError("planted")
InProcessOrders.place = crash
uvicorn.run("main:app", port=int(sys.argv[1]))
"""


def bodies() -> list[bytes]:
    """Bodies with a canary in every field: valid, invalid by each rule, and not JSON."""
    key = {"order_unique_key": f"{CANARY}-key"}
    wrong: list[dict[str, Any]] = [
        {"instrument": f"NSE:{CANARY}"},
        {"side": f"{CANARY}-side"},
        {"total_quantity": f"{CANARY}-quantity"},
        {"split_config": {f"{CANARY}-field": f"{CANARY}-value"}},
        {f"{CANARY}-field": f"{CANARY}-value"},
        {"side": "SELL"},
    ]
    requests = [order(**key), *[{**order(**key), **change} for change in wrong]]
    odd = [f'{{"{CANARY}'.encode(), f"[{CANARY}]".encode(), b"\xff" + CANARY.encode()]
    return [*[json.dumps(request).encode() for request in requests], *odd]


def header_sets() -> list[dict[str, str]]:
    extra = {
        "Cookie": f"session={CANARY}-cookie",
        "X-Api-Key": f"{CANARY}-api-key",
        "X-Pulse-On-Behalf-Of": f"{ISSUER}|bob",
        "Content-Type": "application/json",
    }
    tokens = [TOKEN, EXPIRED, TOKEN[:-3], f"{CANARY}-garbage", DESK, GATEWAY, "x" * 9000 + CANARY]
    plain = [{k: v for k, v in extra.items() if k != "X-Pulse-On-Behalf-Of"}, extra]
    return [
        {**headers, "Authorization": f"Bearer {token}"} for headers in plain for token in tokens
    ]


def send_everything(http: httpx.Client, paths: list[str]) -> set[int]:
    """Send every path with every set of headers and every body; returns the statuses."""
    statuses = set()
    query = {"access_token": TOKEN, "limit": f"{CANARY}-limit"}
    for headers in header_sets():
        for path in paths:
            for content in bodies():
                statuses.add(http.post(path, content=content, headers=headers).status_code)
            statuses.add(http.get(path, params=query, headers=headers).status_code)
    return statuses


@pytest.fixture
def all_in_one(tmp_path: Path, conninfo: str) -> Iterator[PulseProcess]:
    port = free_port()
    settings = {"database_url": url_of(conninfo), "command": uvicorn_on(port), **SETTINGS}
    with pulse(tmp_path, port=port, **settings) as found:
        found.http.base_url = f"http://127.0.0.1:{port}"
        yield found


PATHS = ["/gapi/api/orders", "/pulse/internal/orders"]


def test_accepted_and_refused_requests_log_no_secret(all_in_one: PulseProcess) -> None:
    statuses = send_everything(all_in_one.http, PATHS)
    assert statuses == {201, 202, 400, 401, 403, 409}
    until(
        lambda: "POST /gapi/api/orders" in all_in_one.logged + all_in_one.output,
        "uvicorn's access log",
    )
    until(lambda: "http.answered" in all_in_one.logged, "requests have lines")
    assert CANARY not in all_in_one.logged + all_in_one.output


def test_signing_in_to_the_console_logs_no_secret(all_in_one: PulseProcess) -> None:
    shown = all_in_one.http.get("/console/sign-in")
    csrf_token = shown.text.partition('name="csrf_token" value="')[2].partition('"')[0]
    for token, status in ((f"{CANARY}-wrong", 401), (GATEWAY, 403), (DESK, 303)):
        form = {"csrf_token": csrf_token, "token": token}
        answer = all_in_one.http.post("/console/sign-in", data=form)
        assert answer.status_code == status
        assert CANARY not in answer.text
    assert all_in_one.http.get("/console").status_code == 200
    until(lambda: '"/console"' in all_in_one.logged, "the page has its line")
    logged = all_in_one.logged + all_in_one.output
    assert CANARY not in logged
    assert all_in_one.http.cookies["pulse_session"] not in logged
    assert csrf_token not in logged


def test_crashes_log_no_secret(tmp_path: Path, conninfo: str) -> None:
    port = free_port()
    command = ("-c", CRASHING, str(port))
    settings = {"database_url": url_of(conninfo), "command": command, **SETTINGS}
    with pulse(tmp_path, port=port, **settings) as found:
        found.http.base_url = f"http://127.0.0.1:{port}"
        assert 500 in send_everything(found.http, PATHS)
        until(lambda: "planted" in found.logged, "the crash is logged")
        assert "Traceback" in found.logged
        assert CANARY not in found.logged + found.output


def test_a_separate_gateway_logs_no_secret_even_while_pulse_is_down(
    tmp_path: Path, all_in_one: PulseProcess
) -> None:
    port = free_port()
    command = ("-m", "uvicorn", "pulse.gapi:app", "--port", str(port))
    url = f"http://127.0.0.1:{all_in_one.port}/pulse"
    gateway = PulseProcess(tmp_path, command=command, port=port, api_base_url=url, **SETTINGS)
    try:
        gateway.http.base_url = f"http://127.0.0.1:{port}"
        gateway.until_serving()
        assert {202, 409} <= send_everything(gateway.http, ["/api/orders"])
        all_in_one.stop()
        assert 503 in send_everything(gateway.http, ["/api/orders"])
        until(lambda: "pulse.unavailable" in gateway.logged, "the outage is logged")
        for process in (gateway, all_in_one):
            assert CANARY not in process.logged + process.output
    finally:
        gateway.close()


@pytest.mark.parametrize("variable", ["service_tokens", "jwt_secret", "gateway_service_token"])
def test_a_refused_start_does_not_print_the_invalid_secret(tmp_path: Path, variable: str) -> None:
    process = PulseProcess(tmp_path, **{**SETTINGS, variable: CANARY})
    try:
        assert process.wait() == 2
        assert f"PULSE_{variable.upper()}=***" in process.logged
        assert CANARY not in process.logged + process.output
    finally:
        process.close()

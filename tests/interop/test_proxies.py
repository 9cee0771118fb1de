"""Behind common proxies: no request is smuggled, and every valid one is answered."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from pulse.domain import INTERNAL_SCOPE, order_id_for
from tests.support.haproxy import HAPROXY, haproxy
from tests.support.http import is_listening, send_raw
from tests.support.nginx import NGINX, nginx
from tests.support.orders import order
from tests.support.processes import DEADLINE_SECONDS, PulseProcess, free_port, until
from tests.support.tokens import SERVICE_TOKEN, Signer

CADDY = shutil.which("caddy")

NGINX_WITH_WEBSOCKETS = """
daemon off; {as_root} pid {home}/nginx.pid; error_log stderr crit; events {{}}
http {{
    access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/t; uwsgi_temp_path {home}/t; scgi_temp_path {home}/t;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port};
        location {path} {{
            proxy_pass http://127.0.0.1:{pulse};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""
OLD_NGINX = """
daemon off; {as_root} pid {home}/nginx.pid; error_log stderr crit; events {{}}
http {{
    access_log off; client_body_temp_path {home}/body; proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/t; uwsgi_temp_path {home}/t; scgi_temp_path {home}/t;
    server {{
        listen 127.0.0.1:{port};
        location {path} {{ proxy_pass http://127.0.0.1:{pulse}; proxy_http_version 1.0; }}
    }}
}}
"""
STOCK_CADDY = """
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{port} {{
    reverse_proxy {path}* 127.0.0.1:{pulse}
}}
"""


Proxy = Callable[[Path, int, str], AbstractContextManager[int]]


@contextlib.contextmanager
def running(command: list[str], home: Path, port: int) -> Iterator[int]:
    with (home / "proxy.err").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env={"HOME": str(home), "PATH": "/usr/bin:/usr/sbin"}
        )
    try:
        until(lambda: is_listening(port) or process.poll() is not None, f"{command[0]} listens")
        assert process.poll() is None, (home / "proxy.err").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(DEADLINE_SECONDS)


def nginx_of(template: str) -> Proxy:
    def started(home: Path, pulse_port: int, path: str) -> AbstractContextManager[int]:
        port = free_port()
        configuration = home / "nginx.conf"
        as_root = "user root;" if Path("/proc/self").stat().st_uid == 0 else ""
        text = template.format(home=home, port=port, pulse=pulse_port, path=path, as_root=as_root)
        configuration.write_text(text)
        return running([NGINX or "nginx", "-c", str(configuration)], home, port)

    return started


def caddy(home: Path, pulse_port: int, path: str) -> AbstractContextManager[int]:
    port = free_port()
    configuration = home / "Caddyfile"
    configuration.write_text(STOCK_CADDY.format(port=port, pulse=pulse_port, path=path))
    command = [CADDY or "caddy", "run", "--config", str(configuration), "--adapter", "caddyfile"]
    return running(command, home, port)


@contextlib.contextmanager
def documented_haproxy(home: Path, pulse_port: int, path: str) -> Iterator[int]:
    with haproxy(home, pulse_port) as proxy:
        yield proxy.public_port if path == "/gapi/" else proxy.services_port


@contextlib.contextmanager
def documented_nginx(home: Path, pulse_port: int, path: str) -> Iterator[int]:
    with nginx(home, pulse_port) as proxy:
        yield proxy.public_port if path == "/gapi/" else proxy.internal_port


PROXIES = [
    pytest.param(start, id=name, marks=pytest.mark.skipif(not found, reason="not on this machine"))
    for name, found, start in (
        ("nginx with the WebSocket snippet", NGINX, nginx_of(NGINX_WITH_WEBSOCKETS)),
        ("nginx with its defaults before 1.29.7", NGINX, nginx_of(OLD_NGINX)),
        ("Caddy", CADDY, caddy),
        ("HAProxy as documented", HAPROXY, documented_haproxy),
    )
]


STREAMED = [
    *PROXIES,
    pytest.param(
        documented_nginx,
        id="nginx as documented",
        marks=pytest.mark.skipif(not NGINX, reason="not on this machine"),
    ),
]


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_proxy_of_the_gateway_cannot_be_used_for_smuggling(
    served: PulseProcess, signer: Signer, tmp_path: Path, proxy: Proxy
) -> None:
    hidden = order()
    content = json.dumps(hidden).encode()
    smuggled = (
        b"POST /pulse/internal/orders HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
    )
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
    framings = [
        b"%bContent-Length: %d\r\n\r\n%b" % (offer, len(smuggled), smuggled)
        for offer in (
            b"Connection: close\r\n",
            b"Connection: close, Upgrade\r\nUpgrade: websocket\r\n",
            b"Connection: close, Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        )
    ]
    framings += [
        b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk,
        b"Connection: close\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + chunk,
        b"Connection: close\r\nTransfer-Encoding: identity, chunked\r\n\r\n" + chunk,
        b"Connection: close\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n0\r\n"
        b"Authorization: Bearer x\r\n\r\n" + smuggled,
    ]
    outer = b"POST /gapi/api/orders HTTP/1.1\r\nHost: localhost\r\n"
    with proxy(tmp_path, served.port, "/gapi/") as port:
        for framing in framings:
            answered = send_raw(port, outer + framing)
            assert answered.startswith(b"HTTP/1.1 "), answered
            assert b"order_id" not in answered
        url = f"http://127.0.0.1:{port}/gapi/api/orders"
        headers = {"authorization": f"Bearer {signer.token()}"}
        upgrades = {"Connection": "Upgrade", "Upgrade": "h2c", **headers}
        for offered in (headers, upgrades):
            valid = httpx.post(url, json=order(), headers=offered, trust_env=False, timeout=30)
            assert valid.status_code == 202, valid.text
    order_id = order_id_for(INTERNAL_SCOPE, hidden["order_unique_key"])
    assert served.http.get(f"/internal/orders/{order_id}").status_code == 404


@pytest.mark.parametrize(
    "proxy", [param for param in PROXIES if param.id != "nginx with the WebSocket snippet"]
)
def test_without_service_tokens_a_proxied_caller_is_refused(
    served: PulseProcess, tmp_path: Path, proxy: Proxy
) -> None:
    with proxy(tmp_path, served.port, "/pulse/") as port:
        url = f"http://127.0.0.1:{port}/pulse/internal/orders"
        answer = httpx.post(url, json=order(), trust_env=False, timeout=30)
        assert answer.status_code == 403
        assert "PULSE_SERVICE_TOKENS" in answer.json()["error"]["message"]


@pytest.mark.parametrize("proxy", STREAMED)
def test_an_event_stream_passes_as_it_arrives(
    guarded: PulseProcess, tmp_path: Path, proxy: Proxy
) -> None:
    """A proxy that buffers would pass nothing on before its timeout."""
    headers = {"authorization": f"Bearer {SERVICE_TOKEN}"}
    with (
        proxy(tmp_path, guarded.port, "/pulse/") as port,
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}/pulse", headers=headers, trust_env=False, timeout=30
        ) as client,
    ):
        end = client.get("/internal/orders?limit=1").json()["as_of_position"]
        stream = f"/internal/events/stream?type=OrderCreated&after={end}"
        with client.stream("GET", stream) as response:
            lines = response.iter_lines()
            assert response.status_code == 200
            assert "event: log" in [next(lines) for _ in range(4)]
            for _ in range(2):
                order_id = client.post("/internal/orders", json=order()).json()["order_id"]
                assert order_id in next(line for line in lines if line.startswith('data: {"pos'))

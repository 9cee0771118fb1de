"""curl and Java place orders, by every version of HTTP that they speak."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.orders import order
from tests.support.processes import PulseProcess

ORDERS = "/pulse/internal/orders"
JAVA_SOURCE = Path(__file__).with_name("PlaceOrder.java")


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("version", ["--http1.1", "--http2", "--http2-prior-knowledge"])
def test_curl_places_an_order_by_every_version_of_http(served: PulseProcess, version: str) -> None:
    url = f"http://127.0.0.1:{served.port}{ORDERS}"
    answered = subprocess.run(
        ["curl", "-sS", version, "-o", "/dev/null", "-w", "%{http_code} %{http_version}", url,
         "-H", "Content-Type: application/json", "-d", json.dumps(order())],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    expected = "201 2" if version == "--http2-prior-knowledge" else "201 1.1"
    assert answered.stdout == expected


# Without a JDK, java cannot run a source file.
@pytest.mark.skipif(shutil.which("javac") is None, reason="no JDK on this machine")
def test_javas_default_client_places_an_order(served: PulseProcess) -> None:
    url = f"http://127.0.0.1:{served.port}{ORDERS}"
    answered = subprocess.run(
        ["java", str(JAVA_SOURCE), url, json.dumps(order())],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert answered.stdout.split() == ["201", "200"]

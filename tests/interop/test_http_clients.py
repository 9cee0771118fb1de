"""curl and Java place orders, by every version of HTTP that they speak; the greeting's commands."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.orders import order
from tests.support.processes import ROOT, PulseProcess, greeted_commands, pulse, until

ORDERS = "/pulse/internal/orders"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
JAVA_SOURCE = Path(__file__).with_name("PlaceOrder.java")


@needs_curl
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


@needs_curl
def test_the_curl_commands_of_the_greeting_work(tmp_path: Path, module_database_url: str) -> None:
    settings = {"database_url": module_database_url, "data_dir": tmp_path / "data"}
    with pulse(tmp_path, forked=False, **settings) as up:
        until(lambda: "listens" in up.output, "it greets")
        post, get, through_gateway = greeted_commands(up.output)
        answers = [
            subprocess.run(  # noqa: S602 - the test runs the printed line
                command, shell=True, capture_output=True, check=True, timeout=20
            ).stdout
            for command in (post, post)
        ]
        assert answers[0] == answers[1]
        order_id = json.loads(answers[0])["order_id"]
        up.until_first_released(order_id)
        shown = subprocess.run(  # noqa: S602 - same
            get, shell=True, capture_output=True, check=True, timeout=20
        ).stdout
        assert json.loads(shown) == up.order(order_id)
        assert len(json.loads(shown)["slices"]) == 5
        outside = subprocess.run(  # noqa: S602 - same
            through_gateway, shell=True, capture_output=True, check=True, timeout=20, cwd=ROOT
        ).stdout
        assert json.loads(outside)["order_unique_key"] == json.loads(answers[0])["order_unique_key"]
        assert json.loads(outside)["order_id"] != order_id


# Without a JDK, java cannot run a source file.
@pytest.mark.skipif(shutil.which("javac") is None, reason="no JDK on this machine")
def test_javas_default_client_places_an_order(served: PulseProcess) -> None:
    url = f"http://127.0.0.1:{served.port}{ORDERS}"
    answered = subprocess.run(
        ["java", str(JAVA_SOURCE), url, json.dumps(order())],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert answered.stdout.split() == ["201", "200"]

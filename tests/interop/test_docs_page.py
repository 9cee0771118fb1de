"""Each component serves its documentation page with all assets, and a browser shows it."""

import json
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from tests.support.browser import require_chromium
from tests.support.processes import PulseProcess, pulse

MAX_SECONDS = 60
SHOWN = {
    "pulse": (
        "/internal/orders/batch",
        "List slices by time",
        "Placing, previewing, reading and cancelling orders.",
    ),
    "gapi": (
        "/api/orders",
        "Read an order",
        "Placing orders, and reading, listing and cancelling one&#39;s own.",
    ),
}


@pytest.fixture(scope="module")
def served(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    home = tmp_path_factory.mktemp("page")
    with pulse(home, database_url=module_database_url) as process:
        yield process


class Addresses(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag
        self.found += [value or "" for name, value in attrs if name in {"href", "src"}]


def page_of(served: PulseProcess, component: str) -> str:
    return f"http://127.0.0.1:{served.port}/{component}/docs"


@pytest.mark.parametrize("component", ["pulse", "gapi"])
def test_every_asset_of_the_page_has_the_same_origin(served: PulseProcess, component: str) -> None:
    url = page_of(served, component)
    page = httpx.get(url, trust_env=False)
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    parts = Addresses()
    parts.feed(page.text)
    addresses = [urljoin(url, part) for part in parts.found if part != "data:,"]
    assert len(addresses) == 4
    for address in addresses:
        assert urlsplit(address).netloc == urlsplit(url).netloc
        part_answer = httpx.get(address, trust_env=False)
        assert part_answer.status_code == 200, address
        assert part_answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("component", ["pulse", "gapi"])
def test_no_other_file_is_served_below_the_page(served: PulseProcess, component: str) -> None:
    for name in ("page.py", "page.html", "..%2Fpage.py", "swagger-ui-bundle.js.map", "plugin.py"):
        answer = httpx.get(f"{page_of(served, component)}/{name}", trust_env=False)
        assert answer.status_code == 404, name


@pytest.mark.parametrize("component", ["pulse", "gapi"])
def test_a_browser_shows_the_page_and_requests_nothing_from_other_hosts(
    served: PulseProcess, component: str, tmp_path: Path
) -> None:
    shown = subprocess.run(
        [
            require_chromium(),
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # the browser's own, too
            f"--user-data-dir={tmp_path / 'profile'}",
            f"--log-net-log={tmp_path / 'net.json'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=20000",
            "--dump-dom",
            page_of(served, component),
        ],
        capture_output=True,
        text=True,
        timeout=MAX_SECONDS,
        check=False,
    )
    for words in SHOWN[component]:
        assert words in shown.stdout or words.replace("&#39;", "'") in shown.stdout, words
    assert "CONSOLE" not in shown.stderr, shown.stderr  # an error, or what the policy forbade
    asked = requested_by_page(tmp_path / "net.json", f"http://127.0.0.1:{served.port}")
    assert {f"/{component}/openapi.json", f"/{component}/docs/swagger-ui-bundle.js"} <= {
        urlsplit(address).path for address in asked
    }
    assert {urlsplit(address).netloc for address in asked} == {f"127.0.0.1:{served.port}"}


def requested_by_page(net_log: Path, page_origin: str) -> list[str]:
    """The addresses that the page requested; requests of the browser itself do not count."""
    events = [event.get("params", {}) for event in json.loads(net_log.read_text())["events"]]
    return [
        params["url"]
        for params in events
        if params.get("initiator") == page_origin and params["url"].startswith(("http", "ws"))
    ]

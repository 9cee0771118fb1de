import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from pulse.load import LoadError, Pace, load_orders
from pulse.load.client import open_http

URL = "http://127.0.0.1:8000/pulse"
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "orders.ndjson"
    file.write_text('{"order_unique_key":"ouk_1"}\n' * 20)
    return file


def trouble(file: Path, pulse: Handler, *, url: str = URL, concurrency: int = 4) -> str:
    """What the load says before it gives up."""
    loading = load_orders(
        file,
        url,
        concurrency=concurrency,
        settle_seconds=1,
        console=Console(file=io.StringIO()),
        pace=Pace(attempts=3, retry_delay_seconds=0.001),
        transport=httpx.MockTransport(pulse),
    )
    with pytest.raises(LoadError) as raised:
        asyncio.run(loading)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def nobody(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused")


def never_asked(request: httpx.Request) -> httpx.Response:
    raise AssertionError(request)


def test_no_listener_is_said_with_what_to_do(file: Path) -> None:
    assert trouble(file, nobody) == (
        "no Pulse answers at http://127.0.0.1:8000/pulse; start it with `make run`, "
        "or name it with --url"
    )


def test_a_port_that_nobody_listens_at_is_no_traceback(file: Path) -> None:
    loading = load_orders(
        file, "http://127.0.0.1:1", concurrency=1, settle_seconds=1, console=Console()
    )
    with pytest.raises(LoadError, match=r"no Pulse answers at http://127\.0\.0\.1:1;"):
        asyncio.run(loading)


def test_a_pulse_that_goes_away_ends_the_load_after_a_few_tries(file: Path) -> None:
    posts: list[httpx.Request] = []

    def gone_after_health(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"status": "ok"})
        posts.append(request)
        raise httpx.ReadTimeout("gone")

    text = trouble(file, gone_after_health, concurrency=1)
    assert "stopped answering (ReadTimeout)" in text
    assert text.endswith("run the same command again: an order it already has is never doubled")
    assert len(posts) == 3


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (httpx.Response(404, json={"error": {"code": "NOT_FOUND", "message": "no"}}), 404),
        (httpx.Response(200, text="<html>hello</html>"), 200),
        (httpx.Response(200, json={"status": "strange"}), 200),
    ],
)
def test_something_else_at_the_url_is_told_from_pulse(
    file: Path, answer: httpx.Response, status: int
) -> None:
    assert trouble(file, lambda _: answer) == (
        f"http://127.0.0.1:8000/pulse/health answers {status}, not as a Pulse does; "
        "name the API's root with --url, such as http://127.0.0.1:8000/pulse"
    )


def test_a_password_in_the_url_is_refused_and_not_repeated(file: Path) -> None:
    told = trouble(file, never_asked, url="http://u:secretpw@127.0.0.1:1/pulse")
    assert told == "--url must hold no user and no password: pass a token with --token"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://x", "http:", "http://h:99999", "http://[::1"]
)
def test_a_url_that_is_none_is_refused(file: Path, url: str) -> None:
    assert trouble(file, never_asked, url=url) == (
        f"--url {url} is no URL of a Pulse: write it like http://127.0.0.1:8000/pulse"
    )


@pytest.mark.parametrize(
    ("host", "proxied"),
    [("127.0.0.1", False), ("localhost", False), ("[::1]", False), ("pulse.example", True)],
)
def test_a_proxy_of_the_environment_never_stands_before_this_machine(
    host: str, *, proxied: bool
) -> None:
    url = f"http://{host}:8000/pulse"
    http = open_http(url, trace_id="t1", connections=1, pace=Pace(), transport=None)
    assert http.trust_env is proxied


def test_no_concurrency_at_all_is_refused(file: Path) -> None:
    assert trouble(file, never_asked, concurrency=0) == "concurrency is 0; it must be at least 1"


def test_a_file_that_cannot_be_read_is_said_plainly(tmp_path: Path) -> None:
    empty = tmp_path / "empty.ndjson"
    empty.write_text("\n  \n")
    absent = tmp_path / "absent.ndjson"
    assert trouble(absent, never_asked) == (
        f"cannot read {absent}: No such file or directory; name a file with one JSON order per line"
    )
    assert f"cannot read {tmp_path}: Is a directory" in trouble(tmp_path, never_asked)
    assert f"{empty} holds no orders" in trouble(empty, never_asked)

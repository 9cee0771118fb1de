"""Signing in to the console: who may open a page, what ends a session, which forms are refused."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from pulse.http.auth import ServiceTokens
from pulse.http.console.sessions import COOKIE, MAX_SESSION_SECONDS, ConsoleSessions
from pulse.http.root import Root
from pulse.process.apps import all_in_one_app, api_app
from pulse.rights import ServiceRights
from pulse.secret import Secret, ServiceToken
from pulse.settings import Settings
from tests.support.api import BASE_URL, api_settings, client_of, lifespan_of
from tests.support.database import as_superuser
from tests.support.events import foreign_event
from tests.support.gateway import DESK_TOKEN, GATEWAY_TOKEN, SERVICES
from tests.support.log import write
from tests.support.processes import free_port
from tests.support.tokens import bearer
from tests.support.waiting import until

WRITER_TOKEN: Final = "writer-token-" + "w" * 32
CONSOLE: Final = "/console"
SIGN_IN: Final = f"{CONSOLE}/sign-in"
SIGN_OUT: Final = f"{CONSOLE}/sign-out"
CROSS_SITE: Final = {
    "sec-fetch-site": "cross-site",
    "sec-fetch-mode": "navigate",
    "sec-fetch-dest": "document",
}


@pytest.fixture(scope="module")
async def with_tokens(shared_conninfo: str) -> AsyncIterator[Root]:
    settings = api_settings(
        shared_conninfo,
        service_tokens=(*SERVICES, ServiceToken("writer", Secret(WRITER_TOKEN))),
        service_rights=(ServiceRights("writer", frozenset({"write"})),),
    )
    async with ready(settings) as app:
        yield app


@pytest.fixture(scope="module")
async def without_tokens(shared_conninfo: str) -> AsyncIterator[Root]:
    async with ready(api_settings(shared_conninfo)) as app:
        yield app


@asynccontextmanager
async def ready(settings: Settings) -> AsyncIterator[Root]:
    """An app that has passed its readiness check."""
    app = all_in_one_app(settings)
    async with lifespan_of(app), client_of(app) as client:

        async def is_ready() -> bool:
            return (await client.get("/pulse/health/ready")).status_code == httpx.codes.OK

        await until(is_ready, "it is ready")
        yield app


_addresses = iter(range(1, 1000))


def browser_of(app: Root, base_url: str = BASE_URL) -> httpx.AsyncClient:
    """A client with its own cookies, from an address of its own, since attempts are counted."""
    n = next(_addresses)
    transport = httpx.ASGITransport(app, client=(f"127.0.{n // 250}.{1 + n % 250}", 5000))
    return httpx.AsyncClient(transport=transport, base_url=base_url, timeout=30)


def csrf_of(page: httpx.Response) -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def sign_in(client: httpx.AsyncClient, token: str, path: str = SIGN_IN) -> httpx.Response:
    shown = await client.get(path)
    assert shown.status_code == 200, shown.text
    fields = re.findall(r'name="(csrf_token|next)" value="([^"]*)"', shown.text)
    return await client.post(SIGN_IN, data={**dict(fields), "token": token})


async def test_without_a_session_a_page_leads_to_the_sign_in_page_and_back(
    with_tokens: Root,
) -> None:
    async with browser_of(with_tokens) as client:
        refused = await client.get(f"{CONSOLE}?x=1%262")
        assert refused.status_code == 303
        to = urlsplit(refused.headers["location"])
        assert to.path == SIGN_IN
        assert parse_qs(to.query) == {"next": [f"{CONSOLE}?x=1%262"]}
        signed_in = await sign_in(client, DESK_TOKEN, refused.headers["location"])
        assert signed_in.status_code == 303
        assert signed_in.headers["location"] == f"{CONSOLE}?x=1%262"
        page = await client.get(CONSOLE)
        assert page.status_code == 200
        assert ">desk<" in page.text


async def test_the_cookie_is_for_this_site_the_console_and_no_script(with_tokens: Root) -> None:
    for base_url, secure in ((BASE_URL, False), ("https://localhost", True)):
        async with browser_of(with_tokens, base_url) as client:
            cookie = (await sign_in(client, DESK_TOKEN)).headers["set-cookie"]
            attributes = cookie.split("; ")[1:]
            expected = ["Path=/console", "HttpOnly", "SameSite=Strict", "Max-Age=43200"]
            assert attributes == [*expected, *(["Secure"] if secure else [])]
            assert DESK_TOKEN not in cookie
    async with browser_of(with_tokens) as client:
        client.headers["x-forwarded-proto"] = "https"  # of a proxy
        shown = await client.get(SIGN_IN)
        assert shown.headers["set-cookie"].endswith("; Secure")


async def test_a_wrong_token_is_refused_and_too_many_attempts_are_limited(
    with_tokens: Root,
) -> None:
    async with browser_of(with_tokens) as client:
        for _ in range(10):
            refused = await sign_in(client, "wrong")
            assert refused.status_code == 401
            assert "is not a service token" in refused.text
            assert "wrong" not in refused.text
            assert "set-cookie" not in refused.headers
        limited = await sign_in(client, "wrong")
        assert limited.status_code == 429
        assert "wait a minute" in limited.text
        assert int(limited.headers["retry-after"]) >= 1
        assert limited.headers["content-type"] == "text/html; charset=utf-8"
        assert (await sign_in(client, DESK_TOKEN)).status_code == 303  # others share the address


async def test_the_gateways_token_cannot_sign_in(with_tokens: Root) -> None:
    async with browser_of(with_tokens) as client:
        assert (await sign_in(client, GATEWAY_TOKEN)).status_code == 403
        assert (await client.get(CONSOLE, headers=bearer(GATEWAY_TOKEN))).status_code == 403


async def test_a_form_needs_the_csrf_token_of_its_session(with_tokens: Root) -> None:
    async with browser_of(with_tokens) as client, browser_of(with_tokens) as other:
        foreign = csrf_of(await other.get(SIGN_IN))
        await client.get(SIGN_IN)
        for fields in ({}, {"csrf_token": ""}, {"csrf_token": "x"}, {"csrf_token": foreign}):
            refused = await client.post(SIGN_IN, data={"token": DESK_TOKEN, **fields})
            assert refused.status_code == 403
            assert "the form is not from this session" in refused.text
        await sign_in(client, DESK_TOKEN)
        assert (await client.post(SIGN_OUT, data={"x": "y"})).status_code == 403
        assert (await client.get(CONSOLE)).status_code == 200


async def test_the_csrf_token_before_sign_in_is_worthless_afterwards(with_tokens: Root) -> None:
    async with browser_of(with_tokens) as client:
        before = csrf_of(await client.get(SIGN_IN))
        await sign_in(client, DESK_TOKEN)
        assert (await client.post(SIGN_OUT, data={"csrf_token": before})).status_code == 403


async def test_signing_out_ends_the_session(with_tokens: Root) -> None:
    async with browser_of(with_tokens) as client:
        await sign_in(client, DESK_TOKEN)
        token = csrf_of(await client.get(CONSOLE))
        assert (await client.post(SIGN_OUT, data={"csrf_token": token})).status_code == 303
        assert (await client.get(CONSOLE)).status_code == 303


async def test_a_page_needs_a_token_with_the_right_to_read(with_tokens: Root) -> None:
    async with browser_of(with_tokens) as client:
        await sign_in(client, WRITER_TOKEN)
        refused = await client.get(CONSOLE)
        assert refused.status_code == 403
        assert "the service writer does not have the right read" in refused.text


async def test_a_program_may_send_a_bearer_token(with_tokens: Root) -> None:
    async with browser_of(with_tokens) as client:
        assert (await client.get(CONSOLE, headers=bearer(DESK_TOKEN))).status_code == 200
        refused = await client.get(CONSOLE, headers=bearer("w" * 32))
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"


async def test_the_header_of_a_proxy_does_not_end_a_session(with_tokens: Root) -> None:
    basic = {"authorization": "Basic eDp5"}
    async with browser_of(with_tokens) as client:
        assert (await client.get(CONSOLE, headers=basic)).status_code == 303
        await sign_in(client, DESK_TOKEN)
        assert (await client.get(CONSOLE, headers=basic)).status_code == 200


async def test_a_long_path_leads_to_the_sign_in_page_without_the_way_back(
    with_tokens: Root,
) -> None:
    async with browser_of(with_tokens) as client:
        refused = await client.get(f"{CONSOLE}?x={'1' * 4096}")
        assert (refused.status_code, refused.headers["location"]) == (303, SIGN_IN)
        refused = await client.get(f"{SIGN_IN}?next={'1' * 4097}")
        assert refused.status_code == 400
        assert "a string of at most 4,096 characters" in refused.text


@pytest.mark.parametrize(
    "there",
    ["https://evil.example/", "//evil.example", "/consoles", "/console\\evil", "/", "/console\n"],
    ids=["url", "host", "longer", "backslash", "root", "newline"],
)
async def test_signing_in_never_leads_to_another_site(with_tokens: Root, there: str) -> None:
    async with browser_of(with_tokens) as client:
        path = str(httpx.URL(SIGN_IN, params={"next": there}))
        assert (await sign_in(client, DESK_TOKEN, path)).headers["location"] == CONSOLE


async def test_a_request_of_the_script_is_not_redirected(with_tokens: Root) -> None:
    async with browser_of(with_tokens) as client:
        refused = await client.get(CONSOLE, headers={"x-console-fragment": "1"})
        assert refused.status_code == 401
        assert "<header" not in refused.text
        await sign_in(client, DESK_TOKEN)
        fragment = await client.get(CONSOLE, headers={"x-console-fragment": "1"})
        assert fragment.status_code == 200
        assert 'data-live="counts"' in fragment.text
        assert 'data-live="position"' in fragment.text
        assert "<header" not in fragment.text


async def test_a_link_from_another_site_gets_a_page_with_a_link_and_keeps_the_session(
    with_tokens: Root,
) -> None:
    async with browser_of(with_tokens) as client:
        arrived = await client.get(CONSOLE, headers=CROSS_SITE)
        assert arrived.status_code == 200
        assert f'href="{CONSOLE}"' in arrived.text
        assert "set-cookie" not in arrived.headers


async def test_without_tokens_only_this_machine_opens_a_page(without_tokens: Root) -> None:
    async with browser_of(without_tokens) as client:
        assert (await client.get(CONSOLE)).status_code == 200
        assert (await client.get(SIGN_IN)).status_code == 303
        for headers in (
            {"host": "evil.example"},
            {"x-forwarded-for": "10.0.0.1"},
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        ):
            for path in (CONSOLE, f"{CONSOLE}/nothing"):
                refused = await client.get(path, headers=headers)
                assert refused.status_code == 403, headers
                assert "only direct requests from its own machine" in refused.text
        async with browser_of(without_tokens) as fresh:
            arrived = await fresh.get(CONSOLE, headers=CROSS_SITE)
            assert "another site" in arrived.text
            assert 'data-live="counts"' not in arrived.text


async def test_a_form_without_tokens_needs_a_csrf_token_too(without_tokens: Root) -> None:
    async with browser_of(without_tokens) as client:
        await client.get(CONSOLE)
        assert (await client.post(SIGN_OUT, data={"csrf_token": "x"})).status_code == 403


async def test_pages_have_strict_headers_and_files_are_cached(without_tokens: Root) -> None:
    async with browser_of(without_tokens) as client:
        page = await client.get(CONSOLE)
        assert page.headers["cache-control"] == "no-store"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", page.text)
        files = re.findall(r'(?:href|src)="(/console/static/[^"]+)"', page.text)
        assert len(files) >= 3
        for file in files:
            cached = await client.get(file)
            assert cached.status_code == 200
            assert "immutable" in cached.headers["cache-control"]
            assert "set-cookie" not in cached.headers
            assert (await client.get(file.partition("?")[0])).headers["cache-control"] == "no-store"
        for path in ("/console/static/nothing.js", "/console/static/..%2Fpages.py"):
            assert (await client.get(path)).status_code == 404


async def test_an_unknown_query_parameter_is_refused_with_a_page(without_tokens: Root) -> None:
    async with browser_of(without_tokens) as client:
        refused = await client.get(f"{CONSOLE}?dry_run=true")
        assert refused.status_code == 400
        assert "dry_run is unknown" in refused.text
        assert "What to do" in refused.text


async def test_the_api_alone_has_the_console_too(shared_conninfo: str) -> None:
    app = api_app(api_settings(shared_conninfo))
    async with lifespan_of(app), browser_of(app) as client:

        async def is_shown() -> bool:
            return (await client.get(CONSOLE)).status_code == httpx.codes.OK

        await until(is_shown, "the overview is shown")
        root = await client.get("/", headers={"accept": "text/html"})
        assert root.status_code == 404
        assert root.headers["content-type"] == "application/json"


async def test_without_a_database_the_overview_says_what_fails() -> None:
    app = all_in_one_app(Settings(database_url=f"postgresql://pulse@127.0.0.1:{free_port()}/none"))
    async with lifespan_of(app), browser_of(app) as client:
        shown = await client.get(CONSOLE)
        assert shown.status_code == 503
        assert 'data-live="' in shown.text  # the script refreshes it
        assert "This process is not ready (database)" in shown.text
        assert "pulse status" in shown.text


async def test_events_of_newer_code_leave_the_rest_of_the_overview(conninfo: str) -> None:
    newer = foreign_event()
    newer = replace(newer, topic="pulse.domain.events:OrderTeleported")
    write(as_superuser(conninfo), newer)
    async with ready(api_settings(conninfo)) as app, browser_of(app) as client:
        shown = await client.get(CONSOLE)
        assert shown.status_code == 200
        assert "A newer version of Pulse wrote to the log" in shown.text
        assert 'data-status="PENDING"' in shown.text
        assert 'data-status="COMPLETED"' not in shown.text


async def test_another_method_is_refused_with_those_that_are_possible(
    without_tokens: Root,
) -> None:
    async with browser_of(without_tokens) as client:
        refused = await client.delete(CONSOLE)
        assert refused.status_code == 405
        assert refused.headers["allow"] == "GET, HEAD, OPTIONS"
        assert "Not possible here" in refused.text


def scope_with(cookie: str) -> dict[str, Any]:
    return {"headers": [(b"cookie", f"other=1; {COOKIE}={cookie}".encode())]}


def name_of(sessions: ConsoleSessions, cookie: str) -> str | None:
    service = sessions.session_of(scope_with(cookie)).service
    return None if service is None else str(service.caller.placed_by)


DESK: Final = ServiceToken("desk", Secret(DESK_TOKEN))
NEXT: Final = ServiceToken("desk", Secret("next-desk-token-" + "n" * 32))


def test_every_process_with_the_token_accepts_the_cookie_and_no_other() -> None:
    cookie = ConsoleSessions(ServiceTokens([DESK])).sign_in(DESK_TOKEN)
    assert name_of(ConsoleSessions(ServiceTokens([NEXT, DESK])), cookie) == "desk"
    assert name_of(ConsoleSessions(ServiceTokens([NEXT])), cookie) is None
    renamed = ServiceToken("ops", DESK.token)
    assert name_of(ConsoleSessions(ServiceTokens([renamed])), cookie) is None


def test_a_session_ends_after_its_time() -> None:
    now = [1000.0]
    sessions = ConsoleSessions(ServiceTokens([DESK]), clock=lambda: now[0])
    cookie = sessions.sign_in(DESK_TOKEN)
    now[0] += MAX_SESSION_SECONDS - 1
    assert name_of(sessions, cookie) == "desk"
    now[0] += 1
    assert name_of(sessions, cookie) is None


def test_a_changed_cookie_is_not_a_session() -> None:
    sessions = ConsoleSessions(ServiceTokens([DESK]))
    cookie = sessions.sign_in(DESK_TOKEN)
    name, expires, nonce, code = cookie.split(":")
    forged = [
        f"ops:{expires}:{nonce}:{code}",
        f"desk:{int(expires) + 1}:{nonce}:{code}",
        f"desk:{expires}:{nonce[:-1]}A:{code}x",
        f"desk:{expires}:{nonce}:",
        f"desk:{expires}:{nonce}",
        f"desk::{nonce}:{code}",
        "desk:x",
        ":::",
        "",
        "ü" * 43,
    ]
    assert name == "desk"
    assert [name_of(sessions, each) for each in forged] == [None] * len(forged)
    assert name_of(sessions, cookie) == "desk"

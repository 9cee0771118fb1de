"""Signing in and out in a browser, with service tokens."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import (
    NARROW,
    Pages,
    follow,
    overflow_pixels,
    require_chromium,
    serious_findings,
)
from tests.support.processes import PulseProcess, pulse

DESK_TOKEN = "desk-token-" + "d" * 32
READER_TOKEN = "reader-token-" + "r" * 32


@pytest.fixture(scope="module")
def console(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PulseProcess]:
    """A Pulse process with service tokens."""
    require_chromium()
    with pulse(
        tmp_path_factory.mktemp("console"),
        database_url=module_database_url,
        service_tokens=f"desk:{DESK_TOKEN},reader:{READER_TOKEN}",
        service_rights="reader=read",
    ) as process:
        yield process


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Service token").fill(token)
    follow(page.get_by_role("button", name="Sign in"))


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_person_signs_in_is_led_back_and_signs_out(pages: Pages, *, scripts: bool) -> None:
    page = pages.new(java_script_enabled=scripts)
    page.goto("/console")
    assert "/console/sign-in?next=" in page.url
    sign_in(page, DESK_TOKEN)
    expect(page.locator("h1")).to_have_text("Overview")
    assert page.url.endswith("/console")
    (cookie,) = page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert cookie["path"] == "/console"
    expect(page.locator("form.session")).to_contain_text("desk")
    follow(page.get_by_role("button", name="Sign out"))
    expect(page.locator("h1")).to_have_text("Sign in")
    page.goto("/console")
    expect(page.locator("h1")).to_have_text("Sign in")


def test_a_wrong_token_is_explained(pages: Pages, page: Page) -> None:
    pages.expect_problem("401")
    page.goto("/console/sign-in")
    sign_in(page, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("is not a service token of this Pulse")
    expect(page.get_by_label("Service token")).to_have_value("")
    assert serious_findings(page) == []


def test_a_form_without_its_csrf_token_is_refused(pages: Pages, page: Page) -> None:
    pages.expect_problem("403")
    page.goto("/console/sign-in")
    page.evaluate("document.querySelector('[name=csrf_token]').value = 'x'")
    sign_in(page, DESK_TOKEN)
    expect(page.locator("h1")).to_have_text("Not allowed")
    assert page.locator("main").inner_text().count("the form is not from this session") == 1


def test_another_site_cannot_send_a_form(console: PulseProcess) -> None:
    """What a browser sends for a form of another site: without the Strict cookie."""
    answer = httpx.post(
        f"http://127.0.0.1:{console.port}/console/sign-out",
        data={"csrf_token": "x"},
        headers={"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
        trust_env=False,
    )
    assert answer.status_code == 401


def test_the_sign_in_page_is_accessible_and_fits(pages: Pages) -> None:
    page = pages.new(viewport=NARROW)
    page.goto("/console/sign-in")
    assert serious_findings(page) == []
    assert overflow_pixels(page) == 0

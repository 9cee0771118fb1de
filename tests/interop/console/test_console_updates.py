"""The console's script: live updates, pause, lost connections, times, keys, theme and copying.

The browser's clock is Playwright's, so that no test waits for the next refresh.
"""

import contextlib
import re
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, Request, Route, expect

from tests.support.browser import Pages
from tests.support.orders import order
from tests.support.processes import PulseProcess

LOG = "/console/log"
REFRESH_MS = 2_100
MANY_REFRESHES_MS = 20_000


def place(console: PulseProcess) -> str:
    answer = console.post(order())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["order_id"])


def opened(page: Page, path: str = LOG) -> Page:
    """The page, with a clock that the test can move on."""
    page.clock.install(time=datetime.now(UTC))
    page.goto(path)
    return page


def refresh(page: Page) -> None:
    """Let the page refresh."""
    with page.expect_response(lambda response: is_refresh(response.request)) as answer:
        page.clock.run_for(REFRESH_MS)
    answer.value.finished()


def is_refresh(request: Request) -> bool:
    return "x-console-fragment" in request.headers


def refreshes_of(page: Page) -> list[str]:
    """The refreshes from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if is_refresh(request) else None)
    return found


def until_shown(page: Page, text: str) -> None:
    """Refresh until the region of events has this text: projection and workers take some time."""
    for _ in range(20):
        refresh(page)
        with contextlib.suppress(AssertionError):
            expect(page.locator("[data-live=events]")).to_contain_text(text, timeout=500)
            return
    raise AssertionError(f"{text} is not shown")


def note(page: Page) -> str:
    return page.locator("[data-connection]").inner_text()


@pytest.fixture
def some_orders(console: PulseProcess) -> None:
    for _ in range(3):
        place(console)


@pytest.mark.usefixtures("some_orders")
def test_events_appear_while_orders_are_placed(console: PulseProcess, page: Page) -> None:
    opened(page)
    before = page.locator("[data-live=position]").inner_text()
    order_id = place(console)
    until_shown(page, order_id[:8])
    assert page.locator("[data-live=position]").inner_text() != before
    expect(page.locator("[data-connection]")).to_be_empty()


@pytest.mark.usefixtures("some_orders")
def test_an_update_keeps_focus_selection_open_events_and_scroll_position(
    console: PulseProcess, page: Page
) -> None:
    opened(page)
    row = page.locator("tr[data-row]").nth(2)
    key = row.get_attribute("data-key")
    row.locator("summary").click()
    page.keyboard.press("j")
    page.evaluate(
        """key => {
            window.row = document.querySelector(`[data-key="${key}"]`);
            window.focused = document.activeElement;
            getSelection().selectAllChildren(window.row.querySelector("pre"));
            window.selected = getSelection().toString();
            scrollTo(0, 40);
        }""",
        key,
    )
    until_shown(page, place(console)[:8])
    kept = page.evaluate(
        """() => [row.isConnected, row.querySelector("details").open, selected.length > 100,
                  getSelection().toString() === selected, document.activeElement === focused,
                  focused.matches("[data-row]"), scrollY > 0]"""
    )
    assert kept == [True] * 7


def test_a_filter_that_is_being_changed_is_left_alone(console: PulseProcess, page: Page) -> None:
    opened(page)
    page.get_by_label("After position").fill("12")
    until_shown(page, place(console)[:8])
    expect(page.get_by_label("After position")).to_have_value("12")


def test_a_paused_page_sends_no_request_until_it_is_resumed(
    console: PulseProcess, page: Page
) -> None:
    opened(page)
    refresh(page)
    refreshes = refreshes_of(page)
    pause = page.get_by_role("button", name="Pause")
    pause.click()
    expect(pause).to_have_attribute("aria-pressed", "true")
    assert re.fullmatch(r"Paused at [0-9:]{8}", note(page))
    order_id = place(console)
    page.clock.run_for(MANY_REFRESHES_MS)
    assert refreshes == []
    page.reload()
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    page.clock.run_for(MANY_REFRESHES_MS)
    assert refreshes == []
    page.get_by_role("button", name="Pause").click()
    until_shown(page, order_id[:8])
    expect(page.locator("[data-connection]")).to_be_empty()


def test_a_lost_connection_is_shown_and_missed_events_follow(
    console: PulseProcess, pages: Pages, page: Page
) -> None:
    pages.expect_problem("ERR_INTERNET_DISCONNECTED")
    opened(page)
    refresh(page)
    page.context.set_offline(True)
    page.clock.run_for(REFRESH_MS)
    expect(page.locator("[data-connection]")).to_contain_text(
        re.compile(r"^Connection lost at [0-9:]{8}, trying again$")
    )
    first = note(page)
    order_id = place(console)
    page.clock.run_for(MANY_REFRESHES_MS)
    assert note(page) == first
    page.context.set_offline(False)
    with page.expect_response(lambda response: is_refresh(response.request)):
        page.clock.run_for(1)
    expect(page.locator("[data-connection]")).to_contain_text("Connected again at")
    until_shown(page, order_id[:8])
    expect(page.locator("[data-connection]")).to_be_empty()


def let_a_refresh_be_answered(page: Page) -> None:
    page.clock.run_for(REFRESH_MS)
    page.evaluate("() => fetch('/console/static/icon.svg').then(r => r.text())")


def test_failing_answers_are_retried_with_backoff(pages: Pages, page: Page) -> None:
    pages.expect_problem("503")
    opened(page)
    page.route(re.compile(LOG), lambda route: route.fulfill(status=503))
    refreshes = refreshes_of(page)
    for _ in range(30):
        let_a_refresh_be_answered(page)
    assert "Pulse answered 503 at" in note(page)
    assert 4 <= len(refreshes) <= 8  # after 2, 2, 4, 8, 16 and 30 s
    page.unroute(re.compile(LOG))
    for _ in range(60):  # a refresh, after up to 30 s, and the one after it
        if note(page):
            let_a_refresh_be_answered(page)
    expect(page.locator("[data-connection]")).to_be_empty()


OUTAGES = {
    "overview": ("/console", r"(<div class=.notices.*?</div>\n).*</main>", r"\1</main>"),
    "error": (LOG, r"<main.*</main>", r'<main id="content"><p data-live="error">Down</p></main>'),
}


@pytest.mark.parametrize("name", OUTAGES)
def test_a_page_opened_during_an_outage_recovers_by_itself(
    pages: Pages, page: Page, name: str
) -> None:
    pages.expect_problem("503")
    path, shown, instead = OUTAGES[name]

    def fail(route: Route) -> None:
        text = re.sub(shown, instead, route.fetch().text(), flags=re.DOTALL)
        route.fulfill(status=503, body=text, content_type="text/html")

    pattern = re.compile(f"{path}$")
    page.route(pattern, fail)
    opened(page, path)
    page.evaluate("window.stays = true")
    expect(page.locator("main table").first).not_to_be_attached()
    refresh(page)
    expect(page.locator("[data-connection]")).to_contain_text("Pulse answered 503")
    page.unroute(pattern)
    refresh(page)
    expect(page.locator("main h1")).to_be_visible()
    expect(page.locator("main [data-live]")).not_to_have_count(1)
    region = page.locator("[data-live=counts]" if name == "overview" else "[data-live=events]")
    expect(region).to_be_visible()
    assert page.locator("[data-live=error]").count() == 0
    assert page.evaluate("window.stays"), "the page was not loaded again"


def test_the_list_of_keys_has_those_that_work(page: Page) -> None:
    for path, has_filter in ((LOG, True), ("/console", False)):
        page.goto(path)
        page.locator("[data-keys]").click()
        keys = page.locator("dialog#keys kbd").all_inner_texts()
        assert ("/" in keys) == has_filter
        assert "?" in keys


def test_a_page_whose_session_has_ended_says_so_with_a_link(pages: Pages, page: Page) -> None:
    pages.expect_problem("401")
    opened(page, f"{LOG}?type=OrderCreated")
    page.route(re.compile(LOG), lambda route: route.fulfill(status=401))
    refreshes = refreshes_of(page)
    page.clock.run_for(REFRESH_MS)
    expect(page.locator("[data-connection]")).to_contain_text("Signed out")
    link = page.locator("[data-connection]").get_by_role("link", name="Sign in")
    expect(link).to_have_attribute(
        "href", "/console/sign-in?next=%2Fconsole%2Flog%3Ftype%3DOrderCreated"
    )
    page.clock.run_for(MANY_REFRESHES_MS)
    assert len(refreshes) == 1


def test_a_hidden_tab_sends_no_request_and_refreshes_when_it_is_shown(
    console: PulseProcess, page: Page
) -> None:
    opened(page)
    hide = """hidden => {
        Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, arg=True)
    refreshes = refreshes_of(page)
    order_id = place(console)
    page.clock.run_for(MANY_REFRESHES_MS)
    assert refreshes == []
    page.evaluate(hide, arg=False)
    until_shown(page, order_id[:8])


@pytest.mark.usefixtures("some_orders")
def test_times_are_shown_as_ages_that_advance_with_the_time_in_the_title(page: Page) -> None:
    opened(page)
    page.get_by_role("button", name="Pause").click()
    time = page.locator("[data-live=events] time").first
    expect(time).to_have_text(re.compile(r"^(now|\d+ .+ ago)$"))
    page.clock.run_for(70_000)
    expect(time).to_have_text(re.compile(r"^\d+ min( \d+ s)? ago$"))
    assert time.get_attribute("title", timeout=1_000) is not None
    expect(time).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))


@pytest.mark.usefixtures("some_orders")
def test_one_switch_shows_all_times_in_exchange_time_and_is_remembered(page: Page) -> None:
    opened(page)
    time = page.locator("[data-live=events] time").first
    utc = datetime.fromisoformat(time.get_attribute("datetime") or "")
    page.get_by_role("button", name="UTC").click()
    title = time.get_attribute("title") or ""
    assert title.endswith(" IST")
    shown = datetime.fromisoformat(title.removesuffix(" IST") + "+05:30")
    assert abs((shown - utc).total_seconds()) < 1
    page.reload()
    page.get_by_role("button", name="IST").click()
    expect(time).to_have_attribute("title", re.compile(" UTC$"))


def test_the_theme_is_switched_and_remembered(pages: Pages) -> None:
    page = pages.new(color_scheme="light")
    page.goto(LOG)

    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = background()
    page.get_by_role("button", name="Theme").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    dark = background()
    assert dark != light
    page.reload()
    assert background() == dark
    page.get_by_role("button", name="Theme").click()
    assert background() == light


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.dataset.key || document.activeElement.id"))


@pytest.mark.usefixtures("some_orders")
def test_the_page_can_be_used_by_keys_alone(page: Page) -> None:
    opened(page)
    page.get_by_role("button", name="Pause").click()
    rows = [row.get_attribute("data-key") for row in page.locator("tr[data-row]").all()]
    press = page.keyboard.press
    press("j")
    assert focused(page) == rows[0]
    press("j")
    press("j")
    press("k")
    assert focused(page) == rows[1]
    for _ in range(len(rows) + 2):
        press("j")
    assert focused(page) == rows[-1]
    press("/")
    assert focused(page) == "type"
    press("j")
    press("?")
    assert focused(page) == "type"
    assert not page.locator("dialog#keys").is_visible()
    page.get_by_label("After position").focus()
    page.keyboard.type("jk/?")
    expect(page.get_by_label("After position")).to_have_value("jk/?")
    page.locator("main").focus()
    press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    press("j")
    press("Escape")
    expect(page.locator("dialog#keys")).to_be_hidden()
    press("j")
    order_link = page.locator("tr[data-row]").first.locator("a").first.get_attribute("href")
    page.route(re.compile("/console/orders/|/console/halts"), lambda route: route.fulfill(body=""))
    press("Enter")
    page.wait_for_url(re.compile(re.escape(str(order_link))))


@pytest.mark.parametrize("is_secure", [True, False], ids=["https", "http"])
def test_a_button_copies_text(pages: Pages, *, is_secure: bool) -> None:
    """Without a secure context, as on plain HTTP, browsers have no `navigator.clipboard`."""
    page = pages.new(permissions=["clipboard-read", "clipboard-write"])
    if not is_secure:
        page.add_init_script(
            "Object.defineProperty(navigator, 'clipboard', {value: undefined});"
            "Object.defineProperty(window, 'isSecureContext', {value: false});"
        )
    page.goto(LOG)
    text = "pulse replay 'ä <b>'"
    page.evaluate(
        """text => {
            const button = document.createElement("button");
            button.dataset.copy = text;
            button.textContent = "Copy";
            document.querySelector("main").append(button);
        }""",
        text,
    )
    button = page.locator(f'[data-copy="{text}"]')
    button.click()
    expect(button).to_have_text("Copied")
    field = page.get_by_label("After position")
    field.focus()
    page.keyboard.press("Control+V")
    expect(field).to_have_value(text)
    expect(button).to_have_text("Copy")


def test_without_scripts_the_page_has_no_control_that_does_nothing(pages: Pages) -> None:
    page = pages.new(java_script_enabled=False)
    page.goto(LOG)
    for name in ("Pause", "UTC", "Theme", "?"):
        expect(page.get_by_role("button", name=name, exact=True)).to_be_hidden()
    assert page.locator("[data-copy]:visible").count() == 0

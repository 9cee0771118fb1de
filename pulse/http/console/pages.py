"""What the pages of the console share: rendering, navigation, errors as pages, forms, text formats.

A page is a template that extends the layout. With the header of `FRAGMENT_HEADER` it is rendered
without the layout's header, for the script that refreshes it.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Request, Response
from litestar.di import Provide
from litestar.exceptions import HTTPException
from markupsafe import Markup, escape

from pulse.http.asgi import (
    SECURITY_HEADERS_KEY,
    Receive,
    Scope,
    Send,
    security_headers,
    trace_in,
)
from pulse.http.bodies import receive_form
from pulse.http.console.sessions import (
    CONSOLE_PATH,
    FRAGMENT_HEADER,
    CrossSiteNavigation,
    csrf_token_for,
    require_csrf_token,
    session_in,
)
from pulse.http.errors import answer_for, error_headers
from pulse.http.parameters import DEPENDENCIES as PARAMETER_DEPENDENCIES
from pulse.http.parameters import NoParameters, parse_query, read_parameters
from pulse.printable import printable
from pulse.rfc3339 import format_time
from pulse.rights import Right

AnyRequest = Request[Any, Any, Any]

HTML: Final = "text/html"
FORM: Final = "form"
"""The name of the handler argument for the fields of a form; without it a POST takes none."""

CSRF_FIELD: Final = "csrf_token"
MAX_FORM_BYTES: Final = 16 * 1024

PAGE_HEADERS: Final = security_headers(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    referrer_policy="same-origin",  # with no-referrer a browser sends `Origin: null` with forms
)


class NavigationEntry(NamedTuple):
    """A page that every page links to. `key` names it in `page(active=...)`."""

    key: str
    path: str
    title: str


NAVIGATION: Final = (
    NavigationEntry("overview", CONSOLE_PATH, "Overview"),
    NavigationEntry("orders", f"{CONSOLE_PATH}/orders", "Orders"),
    NavigationEntry("due", f"{CONSOLE_PATH}/due", "Due"),
    NavigationEntry("failed", f"{CONSOLE_PATH}/failed", "Failed"),
    NavigationEntry("log", f"{CONSOLE_PATH}/log", "Log"),
    NavigationEntry("halts", f"{CONSOLE_PATH}/halts", "Halts"),
)

WHAT_TO_DO: Final[Mapping[int, str]] = {
    400: "Correct the address or the form and try again.",
    401: "Sign in with a service token, then repeat what you did.",
    403: "Reload the page and try again. If a right is missing, use another service token, or ask "
    "the operator of Pulse for the right.",
    404: "Check the address; an order that was accepted is always found by its id.",
    405: "Use the links and buttons of the pages.",
    409: "Reload the page to see the current state.",
    413: "Send less text.",
    429: "Wait some seconds, then reload the page.",
    500: "Report this to the operator of Pulse, with the trace id below.",
    503: "Reload the page in some seconds. If that does not help, the operator of Pulse can see "
    "the reason with `pulse status` or at /health/ready.",
}
"""What the user can do about an error, by status."""

TITLES: Final[Mapping[int, str]] = {
    400: "This request is not valid",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Not possible here",
    409: "Not possible now",
    413: "Too much text",
    429: "Too many requests",
    500: "Pulse failed",
    503: "Not available now",
}


def page(  # noqa: PLR0913 - what a page may differ in
    request: AnyRequest,
    template: str,
    *,
    title: str,
    active: str = "",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **context: object,
) -> Response[str]:
    """The answer that shows a template. `active` is the page's key in NAVIGATION.

    `position=N` shows in the footer that the page is as of this position of the log.
    """
    text = _render(request.scope, template, title=title, active=active, **context)
    return Response(text, status_code=status, media_type=HTML, headers=dict(headers or {}))


def redirect(to: str, *cookies: tuple[bytes, bytes]) -> Response[bytes]:
    """The answer to a form: the browser opens this path next."""
    headers = {"location": to} | {name.decode(): value.decode() for name, value in cookies}
    return Response(b"", status_code=303, media_type=HTML, headers=headers)


def link(path: str, **parameters: str | int | None) -> str:
    """The path with these query parameters; None and the empty string are left out."""
    given = {name: value for name, value in parameters.items() if value not in {None, ""}}
    return f"{path}?{urlencode(given)}" if given else path


def handle_error(request: AnyRequest, error: Exception) -> Response[str]:
    """Litestar's handler for every exception: a page that says what is wrong and what to do."""
    status, headers, text = _error_page(request.scope, error)
    return Response(text, status_code=status, media_type=HTML, headers=headers)


async def send_error(scope: Scope, error: Exception, send: Send) -> None:
    """Answer a request that does not reach Litestar with the page of `handle_error`."""
    status, headers, text = _error_page(scope, error)
    body = text.encode()
    headers |= {"content-type": f"{HTML}; charset=utf-8", "content-length": str(len(body))}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def prepare_page(request: AnyRequest) -> None:
    """Set the headers of a page; the handler reads the query parameters itself."""
    request.scope[SECURITY_HEADERS_KEY] = PAGE_HEADERS  # type: ignore[typeddict-unknown-key]


async def read_request(request: AnyRequest) -> None:
    """Read the query parameters and the form that the route declares, before each handler.

    Empty parameters are left out: a browser sends every field of a form.

    Raises:
        BadRequest: one is unknown, repeated or invalid, or the body is not a form.
        Forbidden: a POST does not have the CSRF token of its session.
    """
    await prepare_page(request)
    query: bytes = request.scope["query_string"]
    pairs = [pair for pair in query.split(b"&") if _has_value(pair)]
    request.scope["query_string"] = b"&".join(pairs)
    await read_parameters(request)
    if request.method == "POST":
        declared = request.route_handler.parsed_fn_signature.parameters.get(FORM)
        struct = NoParameters if declared is None else declared.annotation
        request.state[FORM] = await _read_form(request.scope, request.receive, struct)


async def _form(request: AnyRequest) -> Any:  # noqa: ANN401 - of each route
    return request.state[FORM]


DEPENDENCIES: Final = {**PARAMETER_DEPENDENCIES, FORM: Provide(_form)}


def _has_value(pair: bytes) -> bool:
    """Whether a field has a value: a browser also sends the empty fields of a form."""
    name, equals, value = pair.partition(b"=")
    return bool(value or (name and not equals))


async def _read_form(scope: Any, receive: Receive, struct: type[msgspec.Struct]) -> msgspec.Struct:  # noqa: ANN401 - ASGI
    """The fields of a form, without its CSRF token, which is checked; empty fields are left out."""
    body = await receive_form(scope, receive, MAX_FORM_BYTES)
    pairs = [pair for pair in body.split(b"&") if pair]
    tokens = [value for name, _, value in (p.partition(b"=") for p in pairs) if name == _CSRF]
    require_csrf_token(scope, tokens[0].decode("latin-1") if len(tokens) == 1 else "")
    fields = [p for p in pairs if p.partition(b"=")[0] != _CSRF and _has_value(p)]
    return parse_query(b"&".join(fields), struct)


_CSRF: Final = CSRF_FIELD.encode()


def _error_page(scope: Any, error: Exception) -> tuple[int, dict[str, str], str]:  # noqa: ANN401 - ASGI
    """Status, headers and text of the page about an error."""
    scope[SECURITY_HEADERS_KEY] = PAGE_HEADERS
    if isinstance(error, CrossSiteNavigation):
        path: str = scope["raw_path"].decode("latin-1")
        query: str = scope["query_string"].decode("latin-1")
        requested = f"{path}?{query}" if query else path
        return 200, {}, _render(scope, "cross_site_link.html", title="Pulse", requested=requested)
    status, body = answer_for(error)
    text = _render(
        scope,
        "error.html",
        title=TITLES.get(status, "This did not work"),
        status=status,
        code=body.code,
        message=body.message,
        what_to_do=WHAT_TO_DO.get(status, WHAT_TO_DO[400]),
        is_retried=status == 503 and scope["method"] == "GET",  # noqa: PLR2004 - unavailable
        trace=trace_in(scope),
    )
    headers = error_headers(status, body)
    if isinstance(error, HTTPException) and error.headers and "allow" in error.headers:
        headers["allow"] = error.headers["allow"]
    return status, headers, text


def _render(scope: Any, template: str, **context: object) -> str:  # noqa: ANN401 - ASGI
    session = session_in(scope)
    service = session.service
    fragment = any(name == FRAGMENT_HEADER for name, _ in scope["headers"])
    shown = {
        "layout": "fragment.html" if fragment else "layout.html",
        "active": "",
        "position": None,
        "navigation": NAVIGATION if service else (),
        "signed_in_as": service.caller.placed_by if service and session.by_cookie else None,
        "csrf_token": csrf_token_for(session),
        "may": lambda right: _may(scope, right),
        **context,
    }
    return ENVIRONMENT.get_template(template).render(shown)


def _may(scope: Any, right: Right) -> bool:  # noqa: ANN401 - ASGI
    """Whether the service of this request has a right, so that a form is shown."""
    service = session_in(scope).service
    return service is not None and right in service.rights


def visible(text: object) -> Markup:
    r"""The text escaped, and each character that is not printable shown as in `\u202e`."""
    text = str(text)
    if text.isprintable():
        return escape(text)
    shown = Markup()
    for character in text:
        if character.isprintable():
            shown += escape(character)
        else:
            shown += Markup('<span class="unprintable">{}</span>').format(printable(character))
    return shown


def visible_lines(text: str) -> Markup:
    """`visible` for each line of a text whose line breaks come from Pulse. Not for attributes."""
    shown = "\n".join(map(visible, text.split("\n")))
    return Markup(shown.replace("&#34;", '"'))  # noqa: S704 - escaped; JSON would double in size


def prose(message: str) -> Markup:
    """A message of Pulse as a sentence: a capital letter first, commands in backticks as code."""
    parts = message.split("`")
    if len(parts) % 2 == 0:  # a backtick is not closed
        parts = [message]
    code = Markup("<code>{}</code>")
    shown = [code.format(visible(p)) if n % 2 else visible(p) for n, p in enumerate(parts)]
    text = Markup().join(shown)
    return text[:1].upper() + text[1:]


def grouped(number: int) -> str:
    """A whole number with commas between thousands, exact at any size."""
    return f"{number:,}"


def utc(time: datetime) -> str:
    """A time for people, in UTC to the second."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def utc_milliseconds(time: datetime) -> str:
    """A time for people, in UTC to the millisecond."""
    local = time.astimezone(UTC)
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03} UTC"


def utc_minute(time: datetime) -> str:
    """The hour and minute of a time, in UTC."""
    return f"{time.astimezone(UTC):%H:%M} UTC"


def duration(seconds: float) -> str:
    """A duration for people, to two units at most."""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 10:  # noqa: PLR2004 - below it tenths matter
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")]
    parts: list[tuple[int, str]] = []
    for size, unit in units:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)


class StaticFile(NamedTuple):
    """A file of `static/`, and the hash of its content, which its address has."""

    content: bytes
    media_type: str
    version: str


_TYPES: Final = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}


@cache
def static_files() -> Mapping[str, StaticFile]:
    """The files of `static/`, by name."""
    found = {}
    for file in files(__package__).joinpath("static").iterdir():
        media_type = _TYPES.get(file.name.rpartition(".")[2])
        if media_type is not None:
            content = file.read_bytes()
            found[file.name] = StaticFile(content, media_type, sha256(content).hexdigest()[:16])
    return found


def static_path(name: str) -> str:
    """The address of a static file. It changes with the content, so browsers may cache it."""
    return f"{CONSOLE_PATH}/static/{name}?v={static_files()[name].version}"


class _Templates(PackageLoader):
    """The templates without their indentation, so that pages are smaller."""

    def get_source(
        self, environment: Environment, template: str
    ) -> tuple[str, str, Callable[[], bool] | None]:
        source, path, is_current = super().get_source(environment, template)
        return _INDENTATION.sub("", source), path, is_current


_INDENTATION: Final = re.compile(r"^[ \t]+", re.MULTILINE)


def _environment() -> Environment:
    environment = Environment(
        loader=_Templates("pulse.http.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "visible": visible,
        "prose": prose,
        "grouped": grouped,
        "rfc3339": format_time,
        "utc": utc,
        "utc_milliseconds": utc_milliseconds,
        "visible_lines": visible_lines,
        "utc_minute": utc_minute,
        "duration": duration,
    }
    environment.globals |= {
        "static": static_path,
        "static_names": lambda: static_files().keys(),
        "console": CONSOLE_PATH,
        "csrf_field": CSRF_FIELD,
    }
    return environment


ENVIRONMENT: Final = _environment()

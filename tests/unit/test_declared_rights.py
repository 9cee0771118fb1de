"""Every route of the internal API declares the right that it needs; the guard checks it."""

import re
from typing import Any

import httpx
import pytest
from litestar import Litestar, delete, get
from litestar.handlers import HTTPRouteHandler, asgi

from pulse.http.api import app as api_module
from pulse.http.api.app import create_api
from pulse.http.auth import InternalAuthMiddleware
from pulse.http.errors import handle_error
from pulse.http.rights import check_right, needs, require_declared_rights
from pulse.rights import ALL_RIGHTS, DEFAULT_RIGHTS, Rights, ServiceRights
from pulse.secret import Secret, ServiceToken
from tests.support import documents
from tests.support.processes import ROOT
from tests.support.tokens import bearer

PAGE = (ROOT / "docs" / "reference" / "rights.md").read_text()
TOKEN = "t" * 32


@get("/internal/undeclared")
async def undeclared() -> None:
    """A route without a right."""


@get("/open", opt=needs("read"))
async def outside() -> None:
    """A route with a right, where no service is known."""


@asgi("/internal/raw", is_mount=True, copy_scope=True)
async def raw(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application without a right."""


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (undeclared, r"undeclared, /internal/undeclared: declare the right with opt=needs"),
        (raw, r"raw, /internal/raw: declare the right with opt=needs"),
        (outside, r"outside, /open: only routes below /internal have rights"),
    ],
    ids=["undeclared", "asgi", "outside"],
)
def test_a_route_must_declare_its_right(handler: Any, fault: str) -> None:
    app = Litestar([handler], openapi_config=None, logging_config=None)
    with pytest.raises(TypeError, match=fault):
        require_declared_rights(app)


def test_an_api_with_an_undeclared_route_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def list_routes(_: object) -> list[HTTPRouteHandler]:
        return [undeclared]

    monkeypatch.setattr(api_module, "list_routes", list_routes)
    with pytest.raises(TypeError, match="undeclared"):
        create_api(documents.UNUSED_USE_CASES)


@pytest.mark.parametrize(
    ("rights", "status"), [(ALL_RIGHTS, 204), (frozenset({"halt"}), 204), (DEFAULT_RIGHTS, 403)]
)
async def test_halting_needs_the_right_to_halt(rights: Rights, status: int) -> None:
    @delete("/internal/halts/1", opt=needs("halt"))
    async def lift() -> None:
        """A call that needs `halt`."""

    framework = Litestar(
        [lift],
        guards=[check_right],
        exception_handlers={Exception: handle_error},
        openapi_config=None,
        logging_config=None,
    )
    require_declared_rights(framework)
    app: Any = InternalAuthMiddleware(
        framework,
        [ServiceToken("ops", Secret(TOKEN))],
        [ServiceRights("ops", rights)],
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.delete("/internal/halts/1", headers=bearer(TOKEN))
    assert response.status_code == status
    if status == 403:
        assert response.json()["error"]["details"] == {"required_right": "halt"}


def test_the_page_has_the_right_of_every_call() -> None:
    declared = {}
    for path, methods in documents.API["paths"].items():
        for method, described in methods.items():
            right = re.search(r"needs the right `(\w+)`", described["description"])
            declared[f"{method.upper()} {path}"] = right[1] if right else None
    listed = {
        call: right.strip("`") if "`" in right else None
        for call, right in re.findall(r"^\| `([A-Z]+ [^`]+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    }
    assert declared == {call: listed.get(call, "not listed") for call in declared}

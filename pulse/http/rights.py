"""Authorisation at the internal API: each route declares the right that its call needs.

A route below `/internal` has `opt=needs(...)`. Before each call, a guard checks that right. The API
does not start if such a route has no `opt=needs(...)`. Code that bypasses Litestar calls
`require_right` itself.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec
from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.routes import HTTPRoute

from pulse.application.callers import Caller
from pulse.http.errors import Forbidden
from pulse.rights import Right, Rights, joined

SERVICE_KEY: Final = "pulse.service"
"""The `Service`, set by the auth middleware of the internal API."""

_RIGHT: Final = "right"


class Service(msgspec.Struct, frozen=True):
    """A service that calls the internal API, and the rights of its token."""

    caller: Caller
    rights: Rights


def needs(right: Right | None) -> dict[str, Any]:
    """The `opt` of a route whose call needs this right; None if any valid token suffices."""
    return {_RIGHT: right}


def right_of(handler: BaseRouteHandler) -> Right | None:
    """The right that a route declares; None if it needs none."""
    return cast("Right | None", handler.opt.get(_RIGHT))


def require_right(scope: Mapping[str, object], wanted: Right) -> None:
    """Require that the token of the calling service has this right.

    Raises:
        Forbidden: it does not.
        KeyError: the auth middleware does not cover this path, which is a bug.
    """
    require_granted_right(cast("Service", scope[SERVICE_KEY]), wanted)


def require_granted_right(service: Service, wanted: Right) -> None:
    """Require that this service has the right.

    Raises:
        Forbidden: it does not. The message names the setting that grants the right.
    """
    if wanted not in service.rights:
        name = service.caller.placed_by
        raise Forbidden(
            f"the service {name} does not have the right {wanted}: the operator of Pulse grants it "
            f"with PULSE_SERVICE_RIGHTS, as in {name}={joined(service.rights | {wanted})}",
            required_right=wanted,
        )


def check_right(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard: check the right that the route declares, if it declares one."""
    if (wanted := right_of(handler)) is not None:
        require_right(connection.scope, wanted)


def require_declared_rights(app: Litestar, *, every_path: bool = False) -> None:
    """Require that every route below `/internal` declares its right, and no other route does.

    The routes are those whose paths the auth middleware covers: all of them with `every_path`.
    OPTIONS is exempt: it only names the methods of a path.

    Raises:
        TypeError: a route does not; the message names it.
    """
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if handler.http_methods != {"OPTIONS"}:
                    _require_declared(route.path, handler, every_path=every_path)
        else:
            _require_declared(route.path, route.route_handler, every_path=every_path)


def _require_declared(path: str, handler: BaseRouteHandler, *, every_path: bool) -> None:
    covered = every_path or "internal" in path
    if covered and _RIGHT not in handler.opt:
        raise TypeError(f"{handler.handler_name}, {path}: declare the right with opt=needs(...)")
    if not covered and _RIGHT in handler.opt:
        raise TypeError(f"{handler.handler_name}, {path}: only routes below /internal have rights")

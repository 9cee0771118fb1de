"""The route templates of an application: which one a path matches, and the order that it names."""

import re
from collections.abc import Iterable
from typing import Any, Final

from litestar import Litestar

from pulse.http.asgi import ASGIApp, Receive, Scope, Send

UNMATCHED: Final = "unmatched"
"""The route of every path that no template matches: a caller must not create metric series."""

_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_ORDER_ID: Final = "order_id"
_UUID: Final = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


class Routes:
    """Finds the route of a path: in a dict, or by one pattern if the route has parameters.

    A route is a template with the prefix of its mount. Paths are without the prefix.
    """

    def __init__(self, templates: Iterable[str], prefix: str = "") -> None:
        names = sorted({_PARAMETER.sub(r"{\1}", template) for template in templates})
        routes = {name: prefix if prefix and name == "/" else prefix + name for name in names}
        self._fixed = {name: (routes[name], None) for name in names if "{" not in name}
        with_parameters = [name for name in names if "{" in name]
        self._with_parameters = [routes[name] for name in with_parameters]
        self._pattern = re.compile("|".join(map(_alternative, enumerate(with_parameters))))

    def find(self, path: str) -> tuple[str, str | None]:
        """The route of the path, and the order id in it if it is a UUID."""
        found = self._fixed.get(path)
        if found is not None:
            return found
        match = self._pattern.fullmatch(path)
        if match is not None and match.lastgroup is not None:
            number = match.lastgroup[1:]
            route = self._with_parameters[int(number)]
            return route, match[f"o{number}"] if _ORDER_ID in route else None
        if path.endswith("/") and path != "/":
            return self.find(path.rstrip("/") or "/")
        return UNMATCHED, None


def _alternative(numbered: tuple[int, str]) -> str:
    """A group of the pattern. It closes after the groups in it, so `lastgroup` is its name."""
    number, template = numbered
    pattern = _PARAMETER.sub(
        lambda found: f"(?:(?P<o{number}>{_UUID})|[^/]+)" if found[1] == _ORDER_ID else "[^/]+",
        template,
    )
    return f"(?P<r{number}>{pattern})"


NO_ROUTES: Final = Routes([])


class RoutedApp:
    """An ASGI application with its routes."""

    def __init__(self, app: ASGIApp, framework: Litestar) -> None:
        self._app = app
        self._templates = [route.path for route in framework.routes]

    def routes_below(self, prefix: str) -> Routes:
        """Its routes, mounted at this prefix."""
        return Routes(self._templates, prefix)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: ANN401 - awaitable
        """ASGI."""
        return self._app(scope, receive, send)

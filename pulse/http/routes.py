"""The route templates of an application: which one a path matches, and the order that it names."""

import re
from collections.abc import Iterable
from typing import Any, Final

from litestar import Litestar

from pulse.http.asgi import ASGIApp, Receive, Scope, Send

UNMATCHED: Final = "unmatched"
"""The route of every path that no template matches, so that callers cannot add label values."""

_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_ORDER_ID: Final = "order_id"
_UUID: Final = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"


class Routes:
    """Finds the template of a path, at a cost that does not grow with the number of templates."""

    def __init__(self, templates: Iterable[str]) -> None:
        names = sorted({_PARAMETER.sub(r"{\1}", template) for template in templates})
        self._fixed = {name: (name, None) for name in names if "{" not in name}
        self._with_parameters = [name for name in names if "{" in name]
        self._pattern = re.compile("|".join(map(_alternative, enumerate(self._with_parameters))))

    def find(self, path: str) -> tuple[str, str | None]:
        """The template of the path, and the order id in it if it is a UUID."""
        found = self._fixed.get(path)
        if found is not None:
            return found
        match = self._pattern.fullmatch(path)
        if match is not None and match.lastgroup is not None:
            template = self._with_parameters[int(match.lastgroup[1:])]
            order_id = match[f"o{match.lastgroup[1:]}"] if _ORDER_ID in template else None
            return template, order_id
        if path.endswith("/") and path != "/":
            return self.find(path.rstrip("/") or "/")
        return UNMATCHED, None


def _alternative(numbered: tuple[int, str]) -> str:
    """A group of the pattern. The last group that closes is the outer one, `lastgroup`."""
    number, template = numbered
    pattern = _PARAMETER.sub(
        lambda found: f"(?:(?P<o{number}>{_UUID})|[^/]+)" if found[1] == _ORDER_ID else "[^/]+",
        template,
    )
    return f"(?P<r{number}>{pattern})"


class RoutedApp:
    """An ASGI application with its routes."""

    def __init__(self, app: ASGIApp, framework: Litestar) -> None:
        self._app = app
        self.routes = Routes(route.path for route in framework.routes)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:  # noqa: ANN401 - awaitable
        """ASGI."""
        return self._app(scope, receive, send)

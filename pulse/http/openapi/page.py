"""The documentation page: Swagger UI, whose files come from an installed package."""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from pulse.http.asgi import SECURITY_HEADERS_KEY, security_headers
from pulse.http.errors import JSON

_SWAGGER_UI_PACKAGE: Final = "offapi"
"""A package that contains the files of Swagger UI. It is located, never imported."""
_SWAGGER_UI_FILES: Final = {
    "swagger-ui-bundle.js": "swagger_bundle.js",
    "swagger-ui.css": "swagger_style.css",
}
_PULSE_FILES: Final = ("page.js",)
_TYPES: Final = {"js": "text/javascript", "css": "text/css", "html": "text/html"}
_PAGE_HEADERS: Final = security_headers(
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)

AnyRequest = Request[Any, Any, Any]


def document_routes(document: Callable[[], dict[str, Any]]) -> list[HTTPRouteHandler]:
    """The routes of the document, which is made at the first request, and of its page."""

    @cache
    def encoded() -> bytes:
        return msgspec.json.encode(document())

    @get("/openapi.json", sync_to_thread=True)  # generating it takes 0.1 s
    def openapi() -> Response[bytes]:
        return Response(encoded(), media_type=JSON)

    @get("/docs", sync_to_thread=False)
    def page(request: AnyRequest) -> Response[bytes]:
        path: bytes = request.scope.get("raw_path", b"")  # Litestar strips slashes from `path`
        if slashes := len(path) - len(path.rstrip(b"/")):  # the page's relative links would break
            return Response(b"", status_code=307, headers={"location": "../" * slashes + "docs"})
        request.scope[SECURITY_HEADERS_KEY] = _PAGE_HEADERS  # type: ignore[typeddict-unknown-key]
        return _file("page.html")

    @get("/docs/{name:str}", sync_to_thread=False)
    def part(name: FromPath[str]) -> Response[bytes]:
        if name not in _PULSE_FILES and name not in _SWAGGER_UI_FILES:
            raise NotFoundException
        return _file(name)

    return [openapi, page, part]


def _file(name: str) -> Response[bytes]:
    return Response(_bytes_of(name), media_type=_TYPES[name.rpartition(".")[2]])


@cache
def _bytes_of(name: str) -> bytes:
    if name not in _SWAGGER_UI_FILES:
        return files(__package__).joinpath(name).read_bytes()
    package = find_spec(_SWAGGER_UI_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError(
            f"the package {_SWAGGER_UI_PACKAGE}, which contains Swagger UI, is not installed"
        )
    return Path(package.submodule_search_locations[0], _SWAGGER_UI_FILES[name]).read_bytes()

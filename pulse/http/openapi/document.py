"""A document put together."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import pulse
from pulse.http.openapi.schemas import SHARED, Schema

_ERRORS: Final = """
Errors have one shape, everywhere: `{"error":{"code","message","details"}}`, also for an unknown
path (404 `NOT_FOUND`) and a wrong method (405 `METHOD_NOT_ALLOWED`, with `Allow`). Bytes that are
not HTTP are answered 400 in plain text. HEAD is answered wherever GET is. The tracing headers are
taken from the request where valid, made where absent, and answered always. Answers are `no-store`.
A request counts once among the requests in flight, and once more for each 64 KiB of its body; one
more than a process takes is answered 503, except for health.
"""


class Tag(NamedTuple):
    """A group of operations."""

    name: str
    description: str


def document(  # noqa: PLR0913 - a document has that many parts
    title: str,
    description: str,
    *,
    tags: Iterable[Tag],
    paths: Mapping[str, Any],
    schemas: Mapping[str, Schema],
    security: Mapping[str, Any],
) -> dict[str, Any]:
    """An OpenAPI 3.1 document; its server is wherever the document was found."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": pulse.__version__,
            "description": description + _ERRORS,
        },
        "servers": [{"url": ".", "description": "where this document was found"}],
        "tags": [tag._asdict() for tag in tags],
        "paths": dict(paths),
        "components": {
            "schemas": {**SHARED, **schemas},
            "securitySchemes": dict(security),
        },
    }

"""The headers that keep a browser from doing anything with an answer but show it as what it is."""

from typing import Final

RawHeaders = list[tuple[bytes, bytes]]

HEADERS_KEY: Final = "pulse.security_headers"
"""Where a page that needs other headers lays them into its request's scope."""


def security_headers(content_security_policy: str) -> RawHeaders:
    """The headers of every answer, with this policy for its content."""
    return [
        (b"cache-control", b"no-store"),
        (b"content-security-policy", content_security_policy.encode("ascii")),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
    ]


SECURITY_HEADERS: Final = security_headers("default-src 'none'; frame-ancestors 'none'")
"""Of every answer that is data."""

"""Creates the HTTP clients of Pulse. Invalid proxy or certificate variables raise one error."""

import os
from typing import Any, Final
from urllib.request import getproxies

import httpx

from pulse.errors import PulseError

_MAX_PORT: Final = 65_535
_FILE_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


class EnvironmentUnusable(PulseError):
    """A client cannot be created because of an environment variable that is not Pulse's own."""


def open_client(purpose: str, *, trust_env: bool, **options: Any) -> httpx.AsyncClient:  # noqa: ANN401
    """Create an HTTP client; errors name its `purpose`, and `options` are passed to httpx.

    With `trust_env` the client uses the proxies and certificates from the environment.

    Raises:
        EnvironmentUnusable: one of these is unusable. Its value, which may have a password, is not
            repeated.
    """
    if trust_env:
        _require_usable_proxies(purpose)
    try:
        return httpx.AsyncClient(trust_env=trust_env, **options)
    except OSError as error:
        variables = [name for name in _FILE_VARIABLES if os.environ.get(name)]
        named = ", ".join(variables) or "the environment"
        reason = (error.strerror or type(error).__name__).lower()
        raise EnvironmentUnusable(
            f"the HTTP client for {purpose} cannot be set up with {named} ({reason}): correct or "
            "unset it"
        ) from None
    except (ImportError, ValueError, httpx.InvalidURL):
        raise EnvironmentUnusable(
            f"the HTTP client for {purpose} cannot be set up with NO_PROXY or the other proxy "
            "variables of the environment: correct or unset them"
        ) from None


def _require_usable_proxies(purpose: str) -> None:
    for kind, value in getproxies().items():
        proxy = value if "://" in value else f"http://{value}"
        if kind in {"http", "https", "all"} and not is_http_url(proxy):
            raise EnvironmentUnusable(
                f"the proxy in {kind.upper()}_PROXY cannot be used for {purpose}: expected "
                "http://host:port or https://host:port, not SOCKS; correct or unset it"
            )


def is_http_url(text: str) -> bool:
    """Whether this is a valid http or https URL."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        return False
    return url.scheme in {"http", "https"} and bool(url.host) and (url.port or 1) <= _MAX_PORT

"""What the gateway stands on: the keys of its tokens, and Pulse where that is another process."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx
import structlog
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from pulse.application import Orders, open_orders_over_http
from pulse.http.gateway import NoKeys, OneKey, RemoteKeys, TokenChecker, TokenRules
from pulse.http.gateway.keys import Keys
from pulse.http_client import open_client
from pulse.settings import Settings

_log = structlog.get_logger(__name__)

_TO_TAKE_TOKENS: Final = (
    "PULSE_JWT_AUDIENCE, PULSE_JWT_ISSUER, and either PULSE_JWT_SECRET (HS256) or "
    "PULSE_JWT_ALGORITHM with PULSE_JWT_PUBLIC_KEY or PULSE_JWT_JWKS_URL"
)
_TO_REACH_PULSE: Final = (
    "PULSE_GATEWAY_SERVICE_TOKEN here, and the same token in the API's PULSE_SERVICE_TOKENS as "
    "gateway:TOKEN"
)


@asynccontextmanager
async def open_token_checker(settings: Settings) -> AsyncIterator[TokenChecker]:
    """What tells good tokens of these settings from all others; none is good where no key is set.

    Says once in the log what to set then.
    """
    async with AsyncExitStack() as stack:
        keys = await _open_keys(settings, stack)
        if isinstance(keys, NoKeys):
            _log.warning("gateway.takes_no_tokens", set=_TO_TAKE_TOKENS)
        rules = TokenRules(
            settings.jwt_algorithm or "HS256",
            audience=settings.jwt_audience or "",
            issuer=settings.jwt_issuer or "",
            max_lifetime_seconds=settings.jwt_max_lifetime_seconds,
        )
        yield TokenChecker(rules, keys)


@asynccontextmanager
async def open_orders_elsewhere(
    settings: Settings, transport: httpx.AsyncBaseTransport | None
) -> AsyncIterator[Orders]:
    """The orders of the Pulse API that the settings name."""
    token = settings.gateway_service_token
    if token is None:
        _log.warning("gateway.has_no_service_token", set=_TO_REACH_PULSE)
    async with open_orders_over_http(
        settings.api_base_url, token.reveal() if token else None, transport=transport
    ) as orders:
        yield orders


async def _open_keys(settings: Settings, stack: AsyncExitStack) -> Keys:
    if settings.jwt_secret is not None:
        return OneKey(settings.jwt_secret.reveal().encode())
    if settings.jwt_public_key is not None:
        return OneKey(load_pem_public_key(settings.jwt_public_key.encode()))  # type: ignore[arg-type]
    if settings.jwt_jwks_url is None or settings.jwt_algorithm is None:
        return NoKeys()
    url = settings.jwt_jwks_url
    # a proxy of the environment may lie on the way to an issuer, never to this machine itself
    client = open_client(
        "PULSE_JWT_JWKS_URL",
        trust_env=url.startswith("https:"),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
    )
    http = await stack.enter_async_context(client)
    keys = RemoteKeys(http, url, settings.jwt_algorithm)
    stack.push_async_callback(keys.close)
    return keys

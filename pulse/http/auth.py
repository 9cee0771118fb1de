"""Authentication: two middlewares that put the `Caller` of a request into its scope, or refuse it.

InternalAuthMiddleware accepts service tokens or, if none are set, only requests from this machine.
GatewayAuthMiddleware accepts the tokens of callers. Health, the gateway's hello and the API
documentation are open.
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, cast

import msgspec

from pulse.application.callers import Caller, CallerUnnamable
from pulse.application.over_http import ON_BEHALF_OF
from pulse.http.asgi import ANONYMOUS, CALLER_KEY, ASGIApp, RawHeaders, Receive, Scope, Send
from pulse.http.errors import BadRequest, Forbidden, Unauthorized
from pulse.http.rights import SERVICE_KEY, Service
from pulse.rights import ALL_RIGHTS, DEFAULT_RIGHTS, GATEWAY_NAME, ServiceRights
from pulse.secret import ServiceToken

_SCOPES_KEY: Final = "pulse.token_scopes"
_BEARER: Final = b"bearer "
_NO_BEARER: Final = "this call needs a token: send it once, as Authorization: Bearer <token>"
_BEHALF_HEADER: Final = ON_BEHALF_OF.lower().encode("ascii")
_PROXY_HEADER: Final = re.compile(
    rb".*(forwarded|(client|real|user|source)-?ip|remote-?(ip|addr|user|port)|proxy|ssl).*"
    rb"|via|cdn-loop|surrogate-capability|front-end-https|x-(url-)?scheme|x-host|x-original-.+"
    rb"|x-(request|queue)-start|x-cluster-.+|x-cache.*|x-varnish|x-envoy-.+|x-arr-.+|x-azure-.+"
    rb"|x-amzn?-.+|x-appengine-.+|x-cloud-trace-context|x-goog-.+|x-vercel-.+|x-nf-.+|x-sucuri-.+"
    rb"|(cf|fastly|fly|akamai|incap|true|ali|eagleeye|cloudfront)-.+"
)
"""Header names that reverse proxies, load balancers and CDNs add, from their documentation."""
_PROXY_HTTP_VERSION: Final = "1.0"
"""The version that `proxy_pass` of nginx before 1.29.7 uses by default."""
_OWN_PAGES: Final = (b"same-origin", b"none")
"""Sec-Fetch-Site of a request by a page of this server, or by the person at the browser."""
_WITH_PORT: Final = re.compile(r":[0-9]*$")
NOT_THIS_MACHINE: Final = (
    "without service tokens the internal API accepts only direct requests from its own machine, "
    "to a Host such as 127.0.0.1 or localhost and without headers of a proxy: set "
    "PULSE_SERVICE_TOKENS to allow others"
)
THIS_MACHINE: Final = Service(ANONYMOUS, ALL_RIGHTS)
_NOT_GATEWAY: Final = f"only the service named {GATEWAY_NAME} may send {ON_BEHALF_OF}"
_NO_CALLER: Final = f"the {GATEWAY_NAME} must send {ON_BEHALF_OF} once, to name its caller"


def bearer_token(headers: RawHeaders) -> str:
    """The bearer token of the request.

    Raises:
        Unauthorized: there is no Authorization header, more than one, or one without such a token.
    """
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) != 1 or given[0][: len(_BEARER)].lower() != _BEARER:
        raise Unauthorized(_NO_BEARER)
    token = given[0][len(_BEARER) :].strip(b" ")
    if not token or not token.isascii():
        raise Unauthorized(_NO_BEARER)
    return token.decode("ascii")


class ServiceTokens:
    """The service tokens: which service each belongs to, with the rights of that service.

    `rights` has the services whose rights are not the default ones. Without tokens the object is
    false, and requests of this machine have all rights.
    """

    def __init__(
        self, tokens: Sequence[ServiceToken], rights: Sequence[ServiceRights] = ()
    ) -> None:
        given = {each.name: each.rights for each in rights}
        self._tokens = [
            (
                _digest(t.token.reveal()),
                t,
                Service(Caller(placed_by=t.name), given.get(t.name, DEFAULT_RIGHTS)),
            )
            for t in tokens
        ]

    def __bool__(self) -> bool:
        return bool(self._tokens)

    def find(self, sent: str) -> tuple[ServiceToken, Service]:
        """The token that was sent and its service, compared in constant time.

        Raises:
            Unauthorized: it is not a service token.
        """
        sent_digest = _digest(sent)
        found = None
        for digest, token, service in self._tokens:
            if hmac.compare_digest(digest, sent_digest):
                found = token, service
        if found is None:
            raise Unauthorized("the token is not a service token of this Pulse")
        return found

    def of_service(self, name: str) -> list[tuple[ServiceToken, Service]]:
        """The tokens of the service with this name: several during a rotation."""
        return [(token, service) for _, token, service in self._tokens if token.name == name]


class InternalAuthMiddleware:
    """Middleware that authenticates calls to every path that contains `internal` anywhere.

    So neither doubled slashes nor a prefix bypass it, however the path is routed. It also puts the
    rights of the service into the scope, for the routes to check. With `every_path` it
    authenticates all calls.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Sequence[ServiceToken],
        rights: Sequence[ServiceRights] = (),
        *,
        every_path: bool = False,
    ) -> None:
        self._app = app
        self._every_path = every_path
        self._tokens = ServiceTokens(tokens, rights)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI.

        Raises:
            Unauthorized: tokens are set, and none of them was sent.
            Forbidden: no tokens are set and the request may come from another machine; or it names
                a caller but is not from the gateway; or it is from the gateway, and does not name
                exactly one caller or is a call that callers may not make.
            BadRequest: the name of the caller is malformed.
        """
        if self._every_path or "internal" in scope["path"]:
            service = self._service(scope)
            scope[SERVICE_KEY] = service
            scope[CALLER_KEY] = _caller(scope, service)
        await self._app(scope, receive, send)

    def _service(self, scope: Scope) -> Service:
        if self._tokens:
            return self._tokens.find(bearer_token(scope["headers"]))[1]
        require_this_machine(scope)
        return THIS_MACHINE


def _caller(scope: Scope, service: Service) -> Caller:
    """The caller: the service itself, or the one that the gateway names."""
    headers: RawHeaders = scope["headers"]
    names = [value for name, value in headers if name == _BEHALF_HEADER]
    if service.caller.placed_by != GATEWAY_NAME:
        if names:
            raise Forbidden(_NOT_GATEWAY)
        return service.caller
    if len(names) != 1:
        raise Forbidden(_NO_CALLER)
    _require_allowed_for_gateway(scope)
    return _caller_named(names[0])


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def require_this_machine(scope: Scope, *, sites: Container[bytes] = _OWN_PAGES) -> None:
    """Require a direct request from a loopback address to a loopback host name.

    The check of Host stops DNS rebinding: a website can point its name at this machine and so make
    a browser here send requests, but the browser still sends that name as the Host.
    The check of Sec-Fetch-Site stops requests that a page of another site makes a browser send:
    only those of `sites` are accepted.

    A server may replace the peer's address by one from a proxy's header, so a request with such a
    header is refused. So is one without a peer address: a proxy may connect over a Unix socket.

    Raises:
        Forbidden: the request may come from another machine or another site.
    """
    peer: Any = scope.get("client")
    has_host = False
    here = peer and is_loopback(peer[0]) and scope["http_version"] != _PROXY_HTTP_VERSION
    for name, value in scope["headers"]:
        if name == b"host":
            has_host = True
            here = here and is_own_host(value.decode("latin-1"))
        elif name == b"sec-fetch-site":
            here = here and value in sites
        elif is_proxy_header(name):
            here = False
    if not (here and has_host):
        raise Forbidden(NOT_THIS_MACHINE)


@lru_cache(256)
def is_proxy_header(name: bytes) -> bool:
    """Whether a header of this name, in lower case, shows that a proxy forwarded the request."""
    return _PROXY_HEADER.fullmatch(name) is not None


@lru_cache(256)
def is_loopback(address: str) -> bool:
    """Whether this is a loopback address, IPv4-mapped IPv6 included; a host name is not."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback


@lru_cache(256)
def is_own_host(host: str) -> bool:
    """Whether a Host header names this machine: localhost or a loopback address."""
    name = host.rpartition(":")[0] if _WITH_PORT.search(host) else host
    return name.lower() == "localhost" or is_loopback(name.removeprefix("[").removesuffix("]"))


def _require_allowed_for_gateway(scope: Scope) -> None:
    """Allow the gateway only what its callers may do, and nothing that shows others' orders."""
    parts = [part for part in scope["path"].split("/") if part]
    orders = ["internal", "orders"]
    placing = scope["method"] == "POST" and parts == orders
    reading = scope["method"] == "GET" and (
        orders in (parts, parts[:-1]) or (parts[:2] == orders and parts[3:] == ["events"])
    )
    cancelling = scope["method"] == "POST" and parts[:2] == orders and parts[3:] == ["cancel"]
    if not (placing or reading or cancelling):
        raise Forbidden(f"the {GATEWAY_NAME} may only place, read, list and cancel orders")


def _caller_named(raw: bytes) -> Caller:
    try:
        return Caller.named(raw.decode("ascii"))
    except (CallerUnnamable, UnicodeDecodeError):
        raise BadRequest(
            f"{ON_BEHALF_OF} does not name a caller",
            expected="<issuer>|<subject>, each percent-encoded, including any % and | in it",
        ) from None


class Identity(msgspec.Struct, frozen=True):
    """The caller that a token proves, and the scopes that it grants."""

    caller: Caller
    scopes: frozenset[str]


class GatewayAuthMiddleware:
    """Middleware that checks the token of calls to every path that contains `orders`."""

    def __init__(self, app: ASGIApp, check: Callable[[str], Awaitable[Identity]]) -> None:
        self._app = app
        self._check = check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI.

        Raises:
            Unauthorized: there is no token, or it is not valid.
            KeysUnavailable: tokens cannot be checked now.
        """
        if "orders" in scope["path"]:
            identity = await self._check(bearer_token(scope["headers"]))
            scope[CALLER_KEY] = identity.caller
            scope[_SCOPES_KEY] = identity.scopes
        await self._app(scope, receive, send)


def require_scope(scope: Mapping[str, object], wanted: str) -> None:
    """Require that the caller's token grants this scope.

    Raises:
        Forbidden: it does not.
        KeyError: the auth middleware does not cover this path, which is a bug.
    """
    require_granted(cast("frozenset[str]", scope[_SCOPES_KEY]), wanted)


def require_granted(granted: frozenset[str], wanted: str) -> None:
    """Require that these scopes contain the wanted one.

    Raises:
        Forbidden: they do not.
    """
    if wanted not in granted:
        raise Forbidden(f"the token does not grant the scope {wanted}", required_scope=wanted)

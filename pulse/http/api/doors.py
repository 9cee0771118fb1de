"""The door of the internal API: service tokens, or where there are none, this machine alone."""

import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from pulse.application import ON_BEHALF_OF, Caller, CallerUnnamable
from pulse.http.callers import CALLER_KEY, RawHeaders, bearer_token
from pulse.http.errors import BadRequest, Forbidden, Unauthorized
from pulse.http.root import ASGIApp, Receive, Scope, Send
from pulse.secret import ServiceToken

GATEWAY_NAME: Final = "gateway"
"""The service that may name callers, must name one each time, and may do no more than they."""

_ANYONE: Final = Caller()
_BEHALF_HEADER: Final = ON_BEHALF_OF.lower().encode("ascii")
_GUARDED: Final = "internal"
_ORDERS: Final = ["internal", "orders"]
_PROXY_HEADER: Final = re.compile(
    rb".*(forwarded|(client|real|user|source)-?ip|remote-?(ip|addr|user|port)|proxy|ssl).*"
    rb"|via|cdn-loop|surrogate-capability|front-end-https|x-(url-)?scheme|x-host|x-original-.+"
    rb"|x-(request|queue)-start|x-cluster-.+|x-cache.*|x-varnish|x-envoy-.+|x-arr-.+|x-azure-.+"
    rb"|x-amzn?-.+|x-appengine-.+|x-cloud-trace-context|x-goog-.+|x-vercel-.+|x-nf-.+|x-sucuri-.+"
    rb"|(cf|fastly|fly|akamai|incap|true|ali|eagleeye|cloudfront)-.+"
)
"""Header names that reverse proxies, load balancers and CDNs add, from their documentation."""
_PROXY_HTTP_VERSION: Final = "1.0"
"""The version that nginx's `proxy_pass` uses by default."""
_WITH_PORT: Final = re.compile(r":[0-9]*$")
CLOSED: Final = (
    "without service tokens the internal API answers only requests made on its own machine, "
    "directly: set PULSE_SERVICE_TOKENS to let others in"
)
_NOT_GATEWAY: Final = f"{ON_BEHALF_OF} is only for the service whose name is {GATEWAY_NAME}"
_NO_CALLER: Final = f"the {GATEWAY_NAME} acts only for callers: it must send {ON_BEHALF_OF} once"


class InternalDoor:
    """Lets in who may use the internal API, lays their `Caller` into the scope, or raises."""

    def __init__(self, app: ASGIApp, tokens: Sequence[ServiceToken]) -> None:
        self._app = app
        self._tokens = [(_digest(t.token.reveal()), Caller(placed_by=t.name)) for t in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI. What is not below `/internal` is open: health, and what explains the API.

        A path that holds the word anywhere counts as below it, so that no way of routing, with
        doubled slashes or with a prefix, leads past the door.

        Raises:
            Unauthorized: tokens are set, and none of them was sent.
            Forbidden: none are set and the request may come from elsewhere; or it names a caller
                and is not from the gateway; or it is and asks for what callers may not.
            BadRequest: the caller's name is no such name.
        """
        if _GUARDED in scope["path"]:
            scope[CALLER_KEY] = self._caller(scope)
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        headers: RawHeaders = scope["headers"]
        service = self._service(headers) if self._tokens else _from_this_machine(scope, headers)
        names = [value for name, value in headers if name == _BEHALF_HEADER]
        if service.placed_by != GATEWAY_NAME:
            if names:
                raise Forbidden(_NOT_GATEWAY)
            return service
        if len(names) != 1:
            raise Forbidden(_NO_CALLER)
        _require_call_of_gateway(scope)
        return _named(names[0])

    def _service(self, headers: RawHeaders) -> Caller:
        """Whose token was sent. Every token is compared, in a time that tells nothing of them."""
        sent = _digest(bearer_token(headers))
        found = None
        for digest, service in self._tokens:
            if hmac.compare_digest(digest, sent):
                found = service
        if found is None:
            raise Unauthorized("this is no service token of Pulse")
        return found


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()


def _from_this_machine(scope: Scope, headers: RawHeaders) -> Caller:
    """Any direct client at a loopback address that calls this machine by a loopback name.

    A page of a website can point the website's name at this machine and so have a browser here ask
    in its place; the browser then still sends that name as the Host.

    A server may trust a proxy's header and put its address in place of the peer's, so a request
    with such a header is refused. So is one without a peer address: proxies use unix sockets.
    """
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    peer: Any = scope.get("client")
    if (
        not peer
        or not is_loopback(peer[0])
        or not hosts
        or not all(is_own_host(host) for host in hosts)
        or scope["http_version"] == _PROXY_HTTP_VERSION
        or any(is_proxy_header(name) for name, _ in headers)
    ):
        raise Forbidden(CLOSED)
    return _ANYONE


@lru_cache(256)
def is_proxy_header(name: bytes) -> bool:
    """Whether a header of this name, in lower case, shows that a proxy passed the request on."""
    return _PROXY_HEADER.fullmatch(name) is not None


@lru_cache(256)
def is_loopback(address: str) -> bool:
    """Whether an address is this machine's own, also where IPv6 wraps it; a name is not one."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped.is_loopback
    return found.is_loopback


@lru_cache(256)
def is_own_host(host: str) -> bool:
    """Whether a Host header is a name only this machine itself has: localhost or a loopback IP."""
    name = host.rpartition(":")[0] if _WITH_PORT.search(host) else host
    return name.lower() == "localhost" or is_loopback(name.removeprefix("[").removesuffix("]"))


def _require_call_of_gateway(scope: Scope) -> None:
    """The gateway's token opens what its callers may do, and nothing that shows others' orders."""
    parts = [part for part in scope["path"].split("/") if part]
    placing = scope["method"] == "POST" and parts == _ORDERS
    reading = scope["method"] == "GET" and parts[:-1] == _ORDERS
    if not (placing or reading):
        raise Forbidden(f"the {GATEWAY_NAME} may place one order and read one, no more")


def _named(raw: bytes) -> Caller:
    try:
        return Caller.named(raw.decode("ascii"))
    except (CallerUnnamable, UnicodeDecodeError):
        raise BadRequest(
            f"{ON_BEHALF_OF} names no caller",
            expected="<issuer>|<subject>, each percent-encoded, with its own % and | encoded too",
        ) from None

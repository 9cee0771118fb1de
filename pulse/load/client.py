"""The HTTP client of a running Pulse: asks again where that is safe, and returns outcomes."""

import secrets
import time
from typing import Final
from uuid import UUID

import httpx
import msgspec

from pulse.http_client import open_client
from pulse.load.answers import ErrorAnswer, HealthAnswer, OrderAnswer, PlacedAnswer
from pulse.load.errors import LoadError
from pulse.load.pace import Pace

UNREADABLE_ANSWER: Final = "UNREADABLE_ANSWER"
_ASK_AGAIN: Final = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_CONNECT_TIMEOUT_SECONDS: Final = 5.0
_MAX_PORT: Final = 65_535


class Accepted(msgspec.Struct, frozen=True):
    """Pulse has the order; `created` is false when it had it before."""

    order_id: UUID
    created: bool


class Refused(msgspec.Struct, frozen=True):
    """Pulse answered, but not with what was asked for."""

    code: str
    message: str


class Unavailable(Refused, frozen=True):
    """Pulse asked to come back later, more often than the pace allows."""


def new_trace_id() -> str:
    """A trace id as Pulse makes them: `t`, unix seconds, 12 hex digits."""
    return f"t{int(time.time())}{secrets.token_hex(6)}"


def open_http(  # noqa: PLR0913 - each is a choice of the caller
    base_url: str,
    *,
    trace_id: str,
    token: str | None = None,
    connections: int,
    pace: Pace,
    transport: httpx.AsyncBaseTransport | None,
) -> httpx.AsyncClient:
    """A pooled client below `base_url`. A proxy of the environment is not used for this machine.

    Raises:
        LoadError: `base_url` is no http URL, or `token` can be no token.
        EnvironmentUnusable: a proxy or certificate that the environment names cannot be used.
    """
    if "@" in base_url:  # what stands before it may be a secret
        raise LoadError("--url must hold no user and no password: pass a token with --token")
    expected = f"--url {base_url} is no URL of a Pulse: write it like http://127.0.0.1:8000/pulse"
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL:
        raise LoadError(expected) from None
    if url.scheme not in {"http", "https"} or not url.host or (url.port or 0) > _MAX_PORT:
        raise LoadError(expected)
    headers = {"X-Trace-Id": trace_id, "X-Request-Source": "PULSE_LOAD"}
    if token is not None:
        if not (token.isascii() and token.isprintable() and token.strip() == token != ""):
            raise LoadError("--token holds no token: it has blanks or other than ASCII characters")
        headers["Authorization"] = f"Bearer {token}"
    return open_client(
        "pulse load",
        base_url=url,
        headers=headers,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        timeout=httpx.Timeout(pace.request_timeout_seconds, connect=_CONNECT_TIMEOUT_SECONDS),
        trust_env=url.host not in _LOOPBACK,
        transport=transport,
    )


class PulseClient:
    """The calls a load makes. `retries` counts the requests that were sent again."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, pace: Pace) -> None:
        self.retries = 0
        self._http = http
        self._base_url = base_url
        self._pace = pace

    async def check_health(self) -> None:
        """Return when a Pulse lives at the base URL.

        Raises:
            LoadError: nothing listens there, or something that is no Pulse.
        """
        try:
            response = await self._http.get("/health")
        except httpx.RequestError:
            raise LoadError(
                f"no Pulse answers at {self._base_url}; start it with `make run`, "
                "or name it with --url"
            ) from None
        if response.status_code != httpx.codes.OK or not _is_health(response.content):
            raise LoadError(
                f"{self._base_url}/health answers {response.status_code}, not as a Pulse does; "
                "name the API's root with --url, such as http://127.0.0.1:8000/pulse"
            )

    async def place(self, body: bytes) -> Accepted | Refused:
        """Post one order request as it stands; asking again with the same key is safe.

        Raises:
            LoadError: the connection failed as often as the pace allows.
        """
        response = await self._ask(
            "POST", "/internal/orders", content=body, headers={"Content-Type": "application/json"}
        )
        if response.status_code not in {httpx.codes.CREATED, httpx.codes.OK}:
            return _refused(response)
        try:
            answer = msgspec.json.decode(response.content, type=PlacedAnswer)
        except ValueError as error:
            return Refused(UNREADABLE_ANSWER, f"{response.status_code} to a POST: {error}")
        return Accepted(answer.order_id, response.status_code == httpx.codes.CREATED)

    async def order(self, order_id: UUID) -> OrderAnswer | Refused:
        """The order as Pulse answers it now.

        Raises:
            LoadError: the connection failed as often as the pace allows.
        """
        response = await self._ask("GET", f"/internal/orders/{order_id}")
        if response.status_code != httpx.codes.OK:
            return _refused(response)
        try:
            return msgspec.json.decode(response.content, type=OrderAnswer)
        except ValueError as error:
            return Refused(UNREADABLE_ANSWER, f"200 to a GET: {error}")

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        attempt = 0
        while True:
            attempt += 1
            last = attempt >= self._pace.attempts
            retry_after = None
            try:
                response = await self._http.request(method, path, content=content, headers=headers)
            except httpx.RequestError as error:
                if last:
                    raise self._gone(error) from None
            else:
                if last or response.status_code not in _ASK_AGAIN:
                    return response
                retry_after = response.headers.get("Retry-After")
            self.retries += 1
            await self._pace.sleep(self._pace.retry_delay(attempt, retry_after))

    def _gone(self, error: httpx.RequestError) -> LoadError:
        return LoadError(
            f"Pulse at {self._base_url} stopped answering ({type(error).__name__}); when it is "
            "back run the same command again: an order it already has is never doubled"
        )


def _is_health(content: bytes) -> bool:
    try:
        msgspec.json.decode(content, type=HealthAnswer)
    except ValueError:
        return False
    return True


def _refused(response: httpx.Response) -> Refused:
    kind = Unavailable if response.status_code in _ASK_AGAIN else Refused
    try:
        error = msgspec.json.decode(response.content, type=ErrorAnswer).error
    except ValueError:
        return kind(f"HTTP_{response.status_code}", f"{response.reason_phrase}, without a reason")
    return kind(error.code, error.message)

"""A complete Pulse deployment under test: Postgres, processes, callers, readers and checks."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import msgspec
import psycopg

from pulse.application.callers import Caller as PulseCaller
from tests.faults.caller import Caller, Endpoint
from tests.faults.checks import (
    SealFiles,
    Verdict,
    check_all,
    until_projected,
    until_quiet,
    until_settled,
)
from tests.faults.ledger import Ledger, Orders
from tests.faults.member import Kind, Member
from tests.faults.reader import LogReader
from tests.faults.server import AnyServer, Server
from tests.support.tokens import AUDIENCE, ISSUER, bearer, signer_of

GATEWAY_TOKEN: Final = "gateway-token-" + "g" * 32
SERVICE_TOKEN: Final = "desk-token-" + "d" * 32
SERVICE_HEADERS: Final = bearer(SERVICE_TOKEN)
"""The headers of a service that calls the internal API."""

_TOKEN_SECONDS: Final = 7200


class Deployment:
    """A Postgres and the Pulse processes on it. Created by `open_deployment`."""

    def __init__(self, server: AnyServer, home: Path, random: Random) -> None:
        self.server = server
        self.members: list[Member] = []
        self.readers: list[LogReader] = []
        self.home = home
        self.seal = SealFiles.of(home)
        self.random = random
        self.ledger: Ledger
        self.caller: Caller
        self.caller_options: dict[str, Any] = {}
        self._settled_at: datetime | None = None

    def of_kind(self, *kinds: Kind) -> list[Member]:
        """The members of these kinds."""
        return [member for member in self.members if member.kind in kinds]

    @property
    def apis(self) -> list[Member]:
        """The members that serve the internal API."""
        return self.of_kind("api", "everything")

    def add(self, kind: Kind, **settings: Any) -> Member:
        """Add a member without starting it. `settings` override the deployment's settings.

        Two of them are not PULSE_* settings: `prefix`, a tuple put before the command, and
        `variables`, further environment variables.
        """
        prefix, variables = settings.pop("prefix", ()), settings.pop("variables", None)
        own = {
            "database_url": self.server.url,
            "poll_interval_seconds": 0.5,
            "service_tokens": f"gateway:{GATEWAY_TOKEN},desk:{SERVICE_TOKEN}",
            "service_rights": "desk=read+write+halt",
            **msgspec.structs.asdict(self.seal),
            **settings,
        }
        if kind in {"gateway", "everything"}:
            own |= {
                "jwt_algorithm": "EdDSA",
                "jwt_public_key": signer_of("EdDSA").public_pem,
                "jwt_audience": AUDIENCE,
                "jwt_issuer": ISSUER,
                "rate_limit_per_second": 0,
            }
        if kind == "gateway":
            own = {"api_base_url": self.api_url(), "gateway_service_token": GATEWAY_TOKEN} | {
                name: value
                for name, value in own.items()
                if not name.startswith(("service_", "seal_", "anchor_"))
            }
        member = self.new_member(kind, own, prefix=prefix, variables=variables)
        self.members.append(member)
        return member

    def new_member(self, kind: Kind, settings: dict[str, Any], **options: Any) -> Member:
        """A process that is not started; `options` are those of Member."""
        return Member(kind, self.home, settings, **options)

    def api_url(self) -> str:
        """The API that the next gateway calls; they are spread over the APIs."""
        return self.apis[len(self.of_kind("gateway")) % len(self.apis)].url

    def endpoints(self) -> list[Endpoint]:
        """Where orders are placed: every API, and every gateway with one caller's token."""
        endpoints = [Endpoint(member.url, headers=SERVICE_HEADERS) for member in self.apis]
        for gateway in self.of_kind("gateway", "everything"):
            token = signer_of("EdDSA").token(exp=int(time.time()) + _TOKEN_SECONDS)
            scope = PulseCaller.of_token(ISSUER, "alice").key_scope
            endpoints.append(Endpoint(gateway.gateway_url, "/api/orders", bearer(token), scope))
        return endpoints

    async def start(self, *members: Member) -> None:
        """Start these members and return when all of them serve."""
        for member in members:
            member.start()
        await asyncio.gather(*(member.until_serving() for member in members))

    async def until_serving_again(self, *, seconds: float = 60.0) -> float:
        """Wait until every endpoint has accepted an order and the order's slices are in the log.

        Returns the seconds this took, which is the recovery time unless a case measures it in
        another way. The orders are in the ledger.
        """
        begun = time.monotonic()
        async with asyncio.timeout(seconds):
            placed = await asyncio.gather(
                *(self._placed_at(endpoint) for endpoint in self.endpoints())
            )
            while not await self._all_have_outcomes(placed):
                await asyncio.sleep(0.02)
        return time.monotonic() - begun

    async def _placed_at(self, endpoint: Endpoint) -> str:
        async with Caller.with_endpoints(
            self.ledger, [endpoint], self.random, abandon_share=0.0, **self.caller_options
        ) as caller:
            order_id = await caller.place()
            self.caller.wrong += caller.wrong
            return str(order_id)

    async def _all_have_outcomes(self, order_ids: Sequence[str]) -> bool:
        with contextlib.suppress(psycopg.OperationalError):  # Postgres may be restarting
            rows = await self.server.fetch(
                "SELECT count(*) FROM stored_events"
                " WHERE originator_id = ANY (%s::text[]::uuid[]) AND originator_version = 2",
                list(order_ids),
            )
            return bool(rows[0][0] == len(order_ids))
        return False

    async def settle(self) -> datetime:
        """Wait until all work due at this moment is done, stop the workers, and return the moment.

        After this nothing is appended, so the log and the read model can be compared.
        """
        conninfo = self.server.conninfo
        await until_quiet(conninfo)
        self._settled_at = await until_settled(conninfo)
        await asyncio.gather(*(m.close() for m in self.of_kind("worker", "everything")))
        return self._settled_at

    async def verify(self, earlier: Orders | None = None, **expectations: Any) -> Verdict:
        """Wait until all work is done and the readers have read it, then run every check.

        `earlier` are orders of another ledger that must be stored too.
        """
        settled_at = self._settled_at or await self.settle()
        end = await until_projected(self.server.conninfo)
        await asyncio.gather(*(reader.until_at(end) for reader in self.readers))
        verdict = await check_all(
            self.server.conninfo,
            (earlier or {}) | self.ledger.read(),
            self.readers,
            settled_at=settled_at,
            seal=self.seal,
            **expectations,
        )
        if self.caller.wrong:
            shown = "; ".join(self.caller.wrong[:3])
            verdict.broken.append(f"{len(self.caller.wrong)} wrong answers: {shown}")
        return verdict


@asynccontextmanager
async def open_deployment(
    home: Path,
    random: Random,
    *,
    apis: int = 2,
    workers: int = 2,
    gateways: int = 0,
    everything: int = 0,
    readers: int = 2,
    settings: dict[str, Any] | None = None,
    server_options: dict[str, str] | None = None,
    server: AnyServer | None = None,
    caller: dict[str, Any] | None = None,
) -> AsyncIterator[Deployment]:
    """A deployment that serves. Its processes are stopped on exit.

    Workers start first. `settings` are PULSE_* settings of all members, `caller` options of the
    caller. By default it starts a Postgres with `server_options`.
    """
    home.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - before anything runs
    async with AsyncExitStack() as stack:
        if server is None:
            running = Server.running(home / "postgres", **(server_options or {}))
            server = await stack.enter_async_context(running)
        deployment = Deployment(server, home, random)
        stack.push_async_callback(close_all, deployment)
        counts: dict[Kind, int] = {
            "worker": workers,
            "api": apis,
            "everything": everything,
            "gateway": gateways,
        }
        for kind, count in counts.items():
            for _ in range(count):
                deployment.add(kind, **(settings or {}))
        await deployment.start(*deployment.members)
        deployment.ledger = await stack.enter_async_context(Ledger.open(home / "ledger.ndjson"))
        deployment.caller = await stack.enter_async_context(
            Caller.with_endpoints(
                deployment.ledger, deployment.endpoints(), random, **(caller or {})
            )
        )
        urls = [member.url for member in deployment.apis]
        for number in range(readers):
            reader = LogReader(urls, SERVICE_HEADERS, first=number % len(urls))
            follow_until_exit(deployment, reader, stack)
        yield deployment


def follow_until_exit(deployment: Deployment, reader: LogReader, stack: AsyncExitStack) -> None:
    """Let the reader follow the log until the stack is closed."""
    deployment.readers.append(reader)
    following = asyncio.ensure_future(reader.follow())
    stack.push_async_callback(_cancelled, following)


async def _cancelled(task: "asyncio.Future[None]") -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def close_all(deployment: Deployment) -> None:
    """Stop every member of the deployment."""
    await asyncio.gather(*(member.close() for member in deployment.members))

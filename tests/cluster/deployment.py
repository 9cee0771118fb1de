"""Pulse on the hosts of a cluster: two APIs, two hosts of workers, and a gateway."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

from pulse.application.callers import Caller as PulseCaller
from tests.cluster.cluster import Cluster, running_cluster
from tests.cluster.host import Host
from tests.faults.caller import Caller, Endpoint
from tests.faults.deployment import (
    SERVICE_HEADERS,
    Deployment,
    close_all,
    follow_until_exit,
)
from tests.faults.ledger import Ledger
from tests.faults.member import Kind, Member
from tests.faults.reader import LogReader
from tests.support.tokens import ISSUER, bearer, signer_of

_PORT: Final = 8000
_TOKEN_SECONDS: Final = 12 * 3600.0
_PROXY_ERRORS: Final = frozenset({502, 504})
"""What HAProxy answers if a host fails within a request; callers retry with the same key."""


class HostedMember(Member):
    """A Pulse process on a host of the cluster."""

    def __init__(self, kind: Kind, home: Path, settings: dict[str, Any], host: Host) -> None:
        super().__init__(
            kind, home, {**settings, "host": host.address}, prefix=host.prefix
        )  # fmt: skip
        self.host = host
        self.port = _PORT

    @property
    def url(self) -> str:
        """The base URL of its API or gateway."""
        return f"http://{self.host.address}:{self.port}"

    @property
    def _log_path(self) -> Path:
        return self.host.disk / f"{self.kind}-{self.starts}.log"


class ClusterDeployment(Deployment):
    """Its callers and readers use only HAProxy's addresses."""

    def __init__(self, cluster: Cluster, home: Path, random: Random) -> None:
        super().__init__(cluster, home, random)
        self.cluster = cluster
        self.caller_options = {
            "retryable": _PROXY_ERRORS,
            "max_back_off_seconds": 4.0,
            "retry_seconds": 120.0,
            "answer_seconds": 15.0,
        }
        self._free: dict[Kind, list[Host]] = {
            "api": list(cluster.apis),
            "worker": list(cluster.workers),
            "gateway": [cluster.gateway],
        }

    def new_member(self, kind: Kind, settings: dict[str, Any], **options: Any) -> Member:
        """A process on the next host of this kind."""
        assert not {name for name in options if options[name]}, "a HostedMember has no options"
        return HostedMember(kind, self.home, settings, self._free[kind].pop(0))

    def api_url(self) -> str:
        """The gateway calls the APIs through HAProxy, too."""
        return self.cluster.services_url

    def endpoints(self) -> list[Endpoint]:
        """HAProxy's address for services, and the public one with a caller's token."""
        return [
            Endpoint(self.cluster.services_url, headers=SERVICE_HEADERS),
            Endpoint(
                self.cluster.public_url,
                "/api/orders",
                bearer(caller_token()),
                PulseCaller.of_token(ISSUER, "alice").key_scope,
            ),
        ]

    def member_on(self, host: Host) -> HostedMember:
        """The process on that host."""
        found = [m for m in self.members if isinstance(m, HostedMember) and m.host is host]
        return found[0]


def caller_token() -> str:
    """A token of a caller of the gateway."""
    return signer_of("EdDSA").token(exp=int(time.time() + _TOKEN_SECONDS))


@asynccontextmanager
async def cluster_deployment(
    home: Path, random: Random, *, readers: int = 2
) -> AsyncIterator[ClusterDeployment]:
    """A cluster with Pulse that serves; nothing of it is left on exit but its files."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(running_cluster(home / "hosts"))
        deployment = ClusterDeployment(cluster, home, random)
        stack.push_async_callback(close_all, deployment)
        settings = {"migrate": False, "data_dir": home / "pulse"}
        for kind, count in (("worker", 2), ("api", 2), ("gateway", 1)):
            for _ in range(count):
                deployment.add(kind, **settings)  # type: ignore[arg-type]
        await deployment.start(*deployment.members)
        deployment.ledger = await stack.enter_async_context(Ledger.open(home / "ledger.ndjson"))
        deployment.caller = await stack.enter_async_context(
            Caller.with_endpoints(
                deployment.ledger, deployment.endpoints(), random, **deployment.caller_options
            )
        )
        for _ in range(readers):
            reader = LogReader([cluster.services_url], SERVICE_HEADERS)
            follow_until_exit(deployment, reader, stack)
        yield deployment

"""Faults of a cluster: hosts in network namespaces, Postgres under Patroni, HAProxy in front.

The cases run only when they are named, because they need root and programs of Debian.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import httpx

from tests.cluster import network
from tests.cluster.cluster import Cluster, Unavailable
from tests.cluster.deployment import ClusterDeployment, HostedMember, cluster_deployment
from tests.cluster.host import Host
from tests.faults.case import Case, CaseRun, Unsupported
from tests.faults.cases.fence import FenceProbe
from tests.faults.report import quantile
from tests.support.processes import PLAIN_HTTP

_ORDERS_PER_SECOND: Final = 50.0
_BETWEEN_SECONDS: Final = 2.0
_SERVING_SECONDS: Final = 150.0
_POLL_SECONDS: Final = 0.1
_OUTAGE_SECONDS: Final = 25.0
"""Longer than Patroni's lease lasts."""

_BURST: Final = 150
_STREAMING_SECONDS: Final = 45.0


class Injection:
    """One fault, from its moment until the cluster is whole again (times of this machine)."""

    def __init__(self) -> None:
        self.begun = time.time()
        self.ended = float("inf")
        self.leader_seconds: float | None = None


class ClusterRun:
    """A cluster under load, and what the injections measured."""

    def __init__(self, case_run: CaseRun, deployment: ClusterDeployment) -> None:
        self.case_run = case_run
        self.deployment = deployment
        self.cluster: Cluster = deployment.cluster
        self.injections: list[Injection] = []
        self.claims_seconds: list[float] = []
        self.turn = 0
        self.primary = deployment.cluster.postgres[0]

    async def until_serving(self) -> None:
        """Wait until orders are accepted at both addresses and split."""
        await self.deployment.until_serving_again(seconds=_SERVING_SECONDS)

    async def watch_for_leader(self, old: Host) -> None:
        """Record when Patroni reports that a host other than `old` is the primary."""
        injection = self.injections[-1]
        others = [host for host in self.cluster.postgres if host is not old]
        async with httpx.AsyncClient(timeout=1, trust_env=False, verify=PLAIN_HTTP) as http:
            while True:
                for host in others:
                    with contextlib.suppress(httpx.HTTPError):
                        answer = await http.get(f"http://{host.address}:8008/primary")
                        if answer.status_code == 200:
                            injection.leader_seconds = time.time() - injection.begun
                            return
                await asyncio.sleep(_POLL_SECONDS)


Fault = Callable[[ClusterRun], AbstractAsyncContextManager[None]]
"""Injects the fault on entry. On exit it repairs what Patroni and Pulse do not repair."""


async def run_faults(case_run: CaseRun, fault: Fault) -> None:
    """Inject the fault repeatedly into one cluster, each time when the cluster is whole again."""
    try:
        async with cluster_deployment(case_run.home / "cluster", case_run.random) as deployment:
            run = ClusterRun(case_run, deployment)
            async with deployment.caller.load(rate=_ORDERS_PER_SECOND):
                for run.turn in range(case_run.times):
                    await _inject(run, fault)
            await _report(run)
            case_run.add(await deployment.verify())
    except Unavailable as error:
        raise Unsupported(str(error)) from error


async def _inject(run: ClusterRun, fault: Fault) -> None:
    await run.until_serving()
    await asyncio.sleep(_BETWEEN_SECONDS)
    primary = run.primary = await run.cluster.until_whole()
    injection = Injection()
    run.injections.append(injection)
    watching = asyncio.ensure_future(run.watch_for_leader(primary))
    try:
        async with fault(run):
            await run.until_serving()
        await run.cluster.until_whole()
        await run.until_serving()
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    injection.ended = time.time()
    run.case_run.injected()


async def _report(run: ClusterRun) -> None:
    """Add the interruptions of acceptance and of splitting, and Patroni's own time."""
    case_run, caller = run.case_run, run.deployment.caller
    offset = time.time() - time.monotonic()
    accepted = sorted(at + offset for at in caller.placed.values())
    rows = await run.cluster.fetch(
        "SELECT extract(epoch FROM recorded_at)::float8 FROM stored_events"
        " WHERE originator_version = 2 ORDER BY recorded_at"
    )
    split = [at for (at,) in rows]
    row = case_run.row
    row.recoveries += [longest_pause(accepted, each.begun, each.ended) for each in run.injections]
    row.splits += [longest_pause(split, each.begun, each.ended) for each in run.injections]
    row.leaders += [
        each.leader_seconds for each in run.injections if each.leader_seconds is not None
    ]
    whole = [each.ended - each.begun for each in run.injections]
    case_run.fact(f"until all members ran and the cluster served again: {_spread(whole)}")
    if run.claims_seconds:
        case_run.fact(f"until the lost host's claims were released: {_spread(run.claims_seconds)}")


def longest_pause(moments: Sequence[float], begun: float, ended: float) -> float:
    """The longest time between `begun` and `ended` that has none of these sorted moments."""
    within = [begun, *(at for at in moments if begun < at < ended), ended]
    return max(later - sooner for sooner, later in itertools.pairwise(within))


def _spread(values: Sequence[float]) -> str:
    return f"p50 {quantile(values, 0.5):.1f} s, max {max(values):.1f} s"


# The faults


@asynccontextmanager
async def _primary_killed(run: ClusterRun) -> AsyncIterator[None]:
    os.kill(postmaster_of(run.primary), signal.SIGKILL)
    yield


@asynccontextmanager
async def _primary_off(run: ClusterRun) -> AsyncIterator[None]:
    primary = run.primary
    await asyncio.to_thread(primary.power_off)
    yield
    await asyncio.to_thread(primary.power_on)
    run.cluster.start_patroni(primary)


@asynccontextmanager
async def _primary_cut_off(run: ClusterRun) -> AsyncIterator[None]:
    """The primary is cut off from etcd and the replicas, not from HAProxy, APIs and clients."""
    cluster, primary = run.cluster, run.primary
    peers = [host for host in (*cluster.postgres, *cluster.etcds) if host is not primary]
    async with FenceProbe.writing_to(cluster, primary) as probe:
        begun = time.time()
        for host in peers:
            network.cut(host.name, [primary.address])
        network.cut(primary.name, [host.address for host in peers])
        yield
        await probe.until_both_known()
    for host in peers:
        network.join(host.name, [primary.address])
    network.join(primary.name, [host.address for host in peers])
    run.case_run.fact(
        f"{primary.name} accepted no write after {probe.last_old - begun:.2f} s, the next primary "
        f"its first after {probe.first_new - begun:.2f} s"
    )
    run.case_run.require(
        probe.last_old < probe.first_new,
        f"{primary.name} accepted a write {probe.last_old - probe.first_new:.2f} s after the next "
        "primary's first",
    )
    run.case_run.require(
        not (lost := await probe.lost()),
        f"{len(lost)} confirmed commits of {primary.name} are lost",
    )


@asynccontextmanager
async def _replica_off(run: ClusterRun) -> AsyncIterator[None]:
    replicas = [host for host in run.cluster.postgres if host is not run.primary]
    lost = replicas[run.turn % len(replicas)]
    await asyncio.to_thread(lost.power_off)
    await asyncio.sleep(_OUTAGE_SECONDS)
    yield
    await asyncio.to_thread(lost.power_on)
    run.cluster.start_patroni(lost)


@asynccontextmanager
async def _etcd_minority(run: ClusterRun) -> AsyncIterator[None]:
    lost = [host for n, host in enumerate(run.cluster.etcds) if n != run.turn % 3]
    for host in lost:
        await asyncio.to_thread(host.power_off)
    await asyncio.sleep(_OUTAGE_SECONDS)
    yield
    for host in lost:
        await asyncio.to_thread(host.power_on)
        run.cluster.start_etcd(host)


@asynccontextmanager
async def _api_off(run: ClusterRun) -> AsyncIterator[None]:
    lost = run.cluster.apis[run.turn % 2]
    await asyncio.to_thread(lost.power_off)
    yield
    await _start_again(run, lost)


@asynccontextmanager
async def _worker_off(run: ClusterRun) -> AsyncIterator[None]:
    """Power off a worker that has claims: it is frozen first, and thawed if it has none."""
    lost = run.cluster.workers[run.turn % 2]
    member = run.deployment.member_on(lost)
    claimed = 0
    async with asyncio.TaskGroup() as burst, asyncio.timeout(60):
        while not claimed:
            for _ in range(_BURST):
                burst.create_task(_place(run))
            claimed = await _frozen_with_claims(run, member)
        run.injections[-1].begun = time.time()
        await asyncio.to_thread(lost.power_off)
    due = await _due(run)
    run.case_run.fact(
        f"{lost.name} was lost with {claimed} claims; {due} orders had slices due in 20 s"
    )
    async with asyncio.TaskGroup() as meanwhile:
        meanwhile.create_task(_until_without_claims(run, member.pid))
        yield
    await _start_again(run, lost)


@asynccontextmanager
async def _haproxy_restarted(run: ClusterRun) -> AsyncIterator[None]:
    run.cluster.haproxy.kill("haproxy")
    run.cluster.start_haproxy()
    yield


@asynccontextmanager
async def _rolling_restart(run: ClusterRun) -> AsyncIterator[None]:
    """Every process once, one after the other, as for an update of all packages."""
    cluster, primary = run.cluster, run.primary
    for host in cluster.etcds:
        await asyncio.to_thread(host.stop, "etcd")
        cluster.start_etcd(host)
        await cluster.until_whole()
    for host in cluster.postgres:
        if host is not primary:
            await _restart_patroni(run, host)
    await _switch_over(run, primary)
    await _restart_patroni(run, primary)
    for host in (*cluster.apis, cluster.gateway, *cluster.workers):
        member = run.deployment.member_on(host)
        run.case_run.require(await member.stop() == 0, f"{host.name} did not stop with code 0")
        await run.deployment.start(member)
        await asyncio.sleep(2)  # until HAProxy has found it
    await asyncio.to_thread(cluster.haproxy.stop, "haproxy")
    cluster.start_haproxy()
    yield


@asynccontextmanager
async def _switched_over(run: ClusterRun) -> AsyncIterator[None]:
    await _switch_over(run, run.primary, begins=True)
    yield


@asynccontextmanager
async def _stale_host(run: ClusterRun) -> AsyncIterator[None]:
    """The primary is lost, and returns two timelines later, without its slot and old WAL."""
    cluster, primary = run.cluster, run.primary
    await _keep_wal(run, for_lost="5s", at_least="64MB")
    await asyncio.to_thread(primary.power_off)
    yield
    for _ in range(2):
        leader = await _until_leader(run)
        await _switch_over(run, leader)
        await run.until_serving()
    leader = await _until_leader(run)
    for _ in range(12):
        await cluster.fetch("SELECT pg_switch_wal() FROM pg_logical_emit_message(true, '', '')")
        await cluster.fetch("CHECKPOINT")
    removed = await cluster.fetch("SELECT min(name) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]+$'")
    await asyncio.to_thread(primary.power_on)
    cluster.start_patroni(primary)
    how = "by itself"
    try:
        await cluster.until_whole(_STREAMING_SECONDS)
    except TimeoutError:
        how = "after patronictl reinit"
        await asyncio.to_thread(
            cluster.patronictl, "reinit", "pulse", primary.name, "--force", "--wait"
        )
    await cluster.until_whole()
    run.case_run.fact(
        f"{primary.name} came back {how}; oldest WAL of {leader.name}: {removed[0][0]}"
    )
    await _keep_wal(run, for_lost="30min", at_least="1GB")  # as in deploy/patroni/patroni.yml


async def _keep_wal(run: ClusterRun, *, for_lost: str, at_least: str) -> None:
    """Change how long WAL is kept for a lost host, and how much is always kept."""
    changes = (f"member_slots_ttl={for_lost}", f"postgresql.parameters.wal_keep_size={at_least}")
    options = [part for change in changes for part in ("--set", change)]
    await asyncio.to_thread(run.cluster.patronictl, "edit-config", "pulse", "--force", *options)


async def _until_leader(run: ClusterRun) -> Host:
    async with asyncio.timeout(60):
        while (found := await run.cluster.primary()) is None:
            await asyncio.sleep(_POLL_SECONDS)
    return found


async def _switch_over(run: ClusterRun, primary: Host, *, begins: bool = False) -> None:
    """A planned switchover to any healthy replica, repeated while Patroni refuses it.

    If it `begins` the injection, the injection's time is that of the attempt that succeeds.
    """
    async with asyncio.timeout(90):
        while True:
            if begins:
                run.injections[-1].begun = time.time()
            try:
                await asyncio.to_thread(
                    run.cluster.patronictl,
                    "switchover", "pulse", "--leader", primary.name, "--force",
                )  # fmt: skip
            except AssertionError as error:
                print(f"  switchover refused: {str(error)[-200:]}")
                await asyncio.sleep(1)
            else:
                return


async def _restart_patroni(run: ClusterRun, host: Host) -> None:
    await asyncio.to_thread(host.stop, "patroni")
    run.cluster.start_patroni(host)
    await run.cluster.until_whole()


async def _start_again(run: ClusterRun, host: Host) -> None:
    await asyncio.to_thread(host.power_on)
    await run.deployment.start(run.deployment.member_on(host))


async def _place(run: ClusterRun) -> None:
    await run.deployment.caller.place()


async def _claims_of(run: ClusterRun, pid: int) -> int:
    rows = await run.cluster.fetch(
        "SELECT count(*) FROM order_claims WHERE claimed_by LIKE '%%' || %s || '%%'", f":{pid}:"
    )
    return int(rows[0][0])


async def _until_without_claims(run: ClusterRun, pid: int) -> None:
    """Record how long after the fault the claims of a lost process were released."""
    async with asyncio.timeout(_SERVING_SECONDS):
        while await _claims_of(run, pid):
            await asyncio.sleep(_POLL_SECONDS)
    run.claims_seconds.append(time.time() - run.injections[-1].begun)


async def _frozen_with_claims(run: ClusterRun, member: HostedMember) -> int:
    """Freeze the process when it has claims; returns their number, or 0 if it stays thawed."""
    for _ in range(20):
        if await _claims_of(run, member.pid):
            member.freeze()
            await asyncio.sleep(0.5)  # what the server still executes for it
            if claimed := await _claims_of(run, member.pid):
                return claimed
            member.thaw()
    return 0


async def _due(run: ClusterRun) -> int:
    rows = await run.cluster.fetch("SELECT count(*) FROM due_orders WHERE due_at < now() + '20 s'")
    return int(rows[0][0])


def postmaster_of(host: Host) -> int:
    """The process id of the server on that host."""
    return int((host.disk / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def _case(name: str, promise: str, fault: Fault) -> Case:
    async def run(case_run: CaseRun) -> None:
        await run_faults(case_run, fault)

    return Case(name=f"cluster_{name}", promise=promise, at_least=10, short=0, run=run)


CASES: Final = (
    _case("kill", "kill -9 of the primary's postmaster", _primary_killed),
    _case("power_off", "The host of the primary loses power", _primary_off),
    _case(
        "cut_off",
        "The primary is cut off from etcd and the replicas, but not from HAProxy, the APIs and "
        "other clients: it confirms no commit, and it is stopped before another host serves",
        _primary_cut_off,
    ),
    _case("replica", "The host of a synchronous replica loses power for 25 s", _replica_off),
    _case(
        "etcd",
        "Two of three hosts of etcd lose power for 25 s, longer than the primary's lease: the "
        "primary continues, because it reaches every replica",
        _etcd_minority,
    ),
    _case("api", "The host of an API loses power", _api_off),
    _case(
        "worker",
        "A host of workers loses power while it has claims and slices are due: the other host "
        "splits and releases them",
        _worker_off,
    ),
    _case("haproxy", "HAProxy is killed and started again", _haproxy_restarted),
    _case("rolling", "Every process is restarted, one after the other", _rolling_restart),
    _case("switchover", "A planned switchover", _switched_over),
    _case(
        "stale",
        "The host of the primary loses power and comes back two timelines later, when its "
        "replication slot and the WAL it needs are gone, as after an hour",
        _stale_host,
    ),
)
"""In the order of docs/explanation/reliability.md."""

"""Clocks 5 minutes fast or slow: such an API refuses orders, such a worker is on time."""

import asyncio
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import aiohttp
import msgspec
import psycopg

from pulse.domain import Claim, SlicesScheduled, TimedOut
from pulse.postgres import Database
from pulse.projections.claims import PRESENCE_CLASS, Claims
from tests.faults.caller import Caller, Endpoint
from tests.faults.case import Case, CaseRun
from tests.faults.checks import until_quiet, until_settled
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.faults.member import Member
from tests.faults.shifted_clock import check_shift, shifted

_SHIFT_SECONDS: Final = 300.0
_TIMEOUT_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 0.5
_LATE_SECONDS: Final = 1.5
"""The time that the check, the append and a busy machine may take."""

_MAX_STAMP_ERROR_SECONDS: Final = 10.0
_MAX_POLLS: Final = 50
_POLL_SECONDS: Final = 0.2
_REFUSED: Final = 40
_HELD: Final = 10
_ORDERS_PER_SECOND: Final = 60.0
_UNAVAILABLE: Final = 503
_DUE_SLICES: Final = """
SELECT count(*), count(*) FILTER (WHERE state <> 'RELEASED')
  FROM order_slices WHERE scheduled_at > %s AND scheduled_at <= %s"""
_DELAYS: Final = """
SELECT extract(epoch FROM e.recorded_at - (s ->> 'scheduled_at')::timestamptz)::float8
  FROM (SELECT recorded_at, convert_from(state, 'UTF8')::json AS data FROM stored_events
         WHERE topic = 'pulse.domain:SlicesReleased') e, json_array_elements(e.data -> 'slices') s
 WHERE (s ->> 'scheduled_at')::timestamptz > %s AND (s ->> 'scheduled_at')::timestamptz <= %s"""
"""From the time of each slice to its release, both by the database's clock."""
_HOLDER: Final = "held-by-hand"


async def run(case_run: CaseRun) -> None:
    """An API and a worker with the right clock, and one of each with each wrong clock."""
    fast, slow = _SHIFT_SECONDS, -_SHIFT_SECONDS
    await asyncio.gather(check_shift(fast), check_shift(slow))
    settings = {
        "timeout_seconds": _TIMEOUT_SECONDS,
        "timeout_check_interval_seconds": _CHECK_SECONDS,
    }
    async with case_run.deployment(
        apis=1, workers=1, settings=settings, expectations={"may_fail": ["TIMED_OUT"]}
    ) as deployment:
        right = deployment.of_kind("worker")
        apis = {by: deployment.add("api", variables=shifted(by), **settings) for by in (fast, slow)}
        workers = {
            by: deployment.add("worker", variables=shifted(by), **settings) for by in (fast, slow)
        }
        await deployment.start(*apis.values(), *workers.values())
        case_run.injected(len(apis) + len(workers))
        async with deployment.caller.load(rate=_ORDERS_PER_SECOND):
            for by, api in apis.items():
                await _check_refusals(case_run, deployment, api, by)
            await asyncio.sleep(1.0 if case_run.short else 10.0)
        await until_quiet(deployment.server.conninfo)
        held = await _time_outs(case_run, deployment, [*right, *workers.values()])
        if not case_run.short:
            for worker in workers.values():
                held |= await _time_outs(case_run, deployment, [worker])
        wrong_pids = {worker.pid for worker in workers.values()}
        for by, worker in workers.items():
            others = [other for other in deployment.of_kind("worker") if other is not worker]
            await _check_releases(case_run, deployment, by, others)
            wrong_pids |= {worker.pid for worker in workers.values()}
        await _check_outcomes(case_run, deployment, held, wrong_pids)


async def _readiness(api: Member) -> tuple[int, str]:
    """The status of readiness, and its message about the clock."""
    async with (
        aiohttp.ClientSession(headers=SERVICE_HEADERS) as http,
        http.get(f"{api.url}/health/ready") as ready,
    ):
        body = msgspec.json.decode(await ready.read())
    return ready.status, str(
        body.get("error", {}).get("details", {}).get("checks", {}).get("clock")
    )


async def _check_refusals(
    case_run: CaseRun, deployment: Deployment, api: Member, by: float
) -> None:
    """Every order gets 503, none is stored, and readiness gives the reason."""
    endpoint = Endpoint(api.url, headers=SERVICE_HEADERS)
    async with Caller.with_endpoints(
        deployment.ledger, [endpoint], case_run.random, abandon_share=1.0
    ) as caller:
        keys = [caller.request() for _ in range(_REFUSED)]
        await asyncio.gather(*(caller.place(request) for request in keys))
        statuses = dict(caller.statuses)
        deployment.caller.wrong += caller.wrong
    wrong = f"API {by:+g} s"
    case_run.require(statuses == {_UNAVAILABLE: _REFUSED}, f"{wrong}: orders got {statuses}")
    known = deployment.ledger.read()
    sent = {request["order_unique_key"] for request in keys}
    ids = [str(order.order_id) for order in known.values() if order.key in sent]
    rows = await deployment.server.fetch(
        "SELECT count(*) FROM stored_events WHERE originator_id = ANY (%s::text[]::uuid[])", ids
    )
    case_run.require(rows[0][0] == 0, f"{wrong}: {rows[0][0]} of its orders are stored")
    status, reason = await _readiness(api)
    for _ in range(_MAX_POLLS):  # a new process refuses orders before it has measured its clock
        if not reason.endswith("not measured yet"):
            break
        await asyncio.sleep(_POLL_SECONDS)
        status, reason = await _readiness(api)
    direction = "ahead of" if by > 0 else "behind"
    reported = status == _UNAVAILABLE and f"s {direction} the database's" in reason
    case_run.require(reported, f"{wrong}: readiness says {status} {reason}")
    case_run.fact(f"{wrong}: {_REFUSED} orders, answers {statuses}; readiness: {reason}")


async def _time_outs(case_run: CaseRun, deployment: Deployment, running: list[Member]) -> set[UUID]:
    """Claim orders as a worker that is present but idle; returns the orders, which time out.

    Only the workers `running` run meanwhile; they must record each timeout on time.
    """
    workers = deployment.of_kind("worker")
    for worker in workers:
        worker.freeze()
    async with await psycopg.AsyncConnection.connect(
        deployment.server.conninfo, autocommit=True
    ) as presence:
        await presence.execute(
            "SELECT pg_advisory_lock_shared(%s::integer, hashtext(%s))", (PRESENCE_CLASS, _HOLDER)
        )
        claims = await _claim(deployment)
        for worker in running:
            worker.thaw()
        ended = await _until_ended(deployment, list(claims))
        for worker in workers:
            worker.thaw()
    after = [
        (ended[order_id] - claim.first_claimed_at).total_seconds()
        for order_id, claim in claims.items()
    ]
    who = "all workers" if len(running) > 1 else f"only worker {running[0].pid}"
    case_run.fact(
        f"{len(claims)} claims with {who} running: timed out {min(after):.2f} to "
        f"{max(after):.2f} s after the claim, by the database's clock"
    )
    latest = _TIMEOUT_SECONDS + _CHECK_SECONDS + _LATE_SECONDS
    case_run.require(min(after) >= _TIMEOUT_SECONDS, f"timed out early, after {min(after):.3f} s")
    case_run.require(max(after) <= latest, f"timed out late, after {max(after):.2f} s")
    return set(claims)


async def _claim(deployment: Deployment) -> dict[UUID, Claim]:
    claims: dict[UUID, Claim] = {}
    await asyncio.gather(*(deployment.caller.place() for _ in range(_HELD)))
    database = Database(deployment.server.conninfo, pool_size=2)
    await database.open()
    try:
        async with asyncio.timeout(10):
            while len(claims) < _HELD:
                claims |= await Claims(database, _HOLDER).claim(_HELD - len(claims))
                await asyncio.sleep(0.02)
    finally:
        await database.close()
    return claims


async def _until_ended(deployment: Deployment, order_ids: list[UUID]) -> dict[UUID, datetime]:
    """Wait for the outcome of each order; its time by the database's clock."""
    async with asyncio.timeout(60):
        while True:
            rows = await deployment.server.fetch(
                "SELECT originator_id, recorded_at FROM stored_events"
                " WHERE originator_id = ANY (%s) AND originator_version = 2",
                order_ids,
            )
            if len(rows) == len(order_ids):
                return dict(rows)
            await asyncio.sleep(0.05)


async def _check_outcomes(
    case_run: CaseRun, deployment: Deployment, held: set[UUID], wrong_pids: set[int]
) -> None:
    """Only the orders of the idle worker timed out; workers with wrong clocks set right times."""
    await until_quiet(deployment.server.conninfo)
    rows = await deployment.server.fetch(
        "SELECT originator_id, topic, state, extract(epoch FROM recorded_at)::float8"
        " FROM stored_events WHERE originator_version = 2"
    )
    wrong = {row[0] for row in rows if row[1] == TimedOut.TOPIC} ^ held
    case_run.require(not wrong, f"{len(wrong)} orders timed out wrongly or did not time out")
    split = [row for row in rows if row[1] == SlicesScheduled.TOPIC]
    by_wrong = [row for row in split if _pid(row[2]) in wrong_pids]
    off = sum(abs(_timestamp(row[2]) - row[3]) > _MAX_STAMP_ERROR_SECONDS for row in split)
    case_run.fact(
        f"{len(split)} orders split, {len(by_wrong)} of them by workers with wrong clocks, "
        f"{off} with a wrong timestamp"
    )
    case_run.require(bool(by_wrong), "no worker with a wrong clock split any order")
    case_run.require(not off, f"{off} outcomes have a timestamp of a wrong clock")


async def _check_releases(
    case_run: CaseRun, deployment: Deployment, by: float, others: list[Member]
) -> None:
    """Stop the other workers: the one with the wrong clock releases slices at their times.

    That none is early is checked after every case. This checks that none is late or expires.
    """
    await asyncio.gather(*(deployment.caller.place(_with_slices(deployment)) for _ in range(_HELD)))
    await until_quiet(deployment.server.conninfo)
    await asyncio.gather(*(other.stop() for other in others))
    ((since,),) = await deployment.server.fetch("SELECT clock_timestamp()")
    await asyncio.sleep(6.0 if case_run.short else 60.0)
    until = await until_settled(deployment.server.conninfo)
    ((slices, not_released),) = await deployment.server.fetch(_DUE_SLICES, since, until)
    delays = [delay for (delay,) in await deployment.server.fetch(_DELAYS, since, until)]
    await deployment.start(*others)
    what = f"only a worker {by:+g} s"
    case_run.fact(
        f"{what}: {slices} slices due, released {min(delays, default=0.0):.3f} to "
        f"{max(delays, default=0.0):.3f} s after their time"
    )
    case_run.require(slices > 0, f"{what}: no slice was due")
    case_run.require(not_released == 0, f"{what}: {not_released} of {slices} slices not released")
    case_run.require_in_time(
        max(delays, default=0.0) < _LATE_SECONDS, f"{what}: released {max(delays):.2f} s late"
    )


def _with_slices(deployment: Deployment) -> dict[str, Any]:
    """An order that has a slice every three seconds."""
    return deployment.caller.request(
        total_quantity=1000,
        split_config={"num_splits": 20, "duration_minutes": 1, "randomize": True},
    )


def _pid(state: bytes) -> int:
    """The process that recorded an event."""
    instance: str = msgspec.json.decode(state)["recorded_by"]["instance"]
    return int(instance.split(":")[1])


def _timestamp(state: bytes) -> float:
    return datetime.fromisoformat(msgspec.json.decode(state)["timestamp"]).timestamp()


CASE: Final = Case(
    name="clocks",
    promise="The clocks of some processes are 5 min fast or slow: such an API accepts no order "
    "and gives the reason. No claim times out early or late, every other order is COMPLETED, and "
    "a worker releases slices at their times by the database's clock",
    at_least=4,
    short=4,
    run=run,
)

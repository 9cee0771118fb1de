"""Clocks 5 minutes fast and slow: no orders for such an API, no false time-outs by a worker."""

import asyncio
from datetime import datetime
from typing import Final
from uuid import UUID

import aiohttp
import msgspec
import psycopg

from pulse.domain import Claim, SlicesScheduled, TimedOut
from pulse.postgres import Database
from pulse.projections.claims import PRESENCE_CLASS, Claims
from tests.faults.caller import Caller, Endpoint
from tests.faults.case import Case, CaseRun
from tests.faults.checks import until_quiet
from tests.faults.deployment import DESK, Deployment
from tests.faults.member import Member
from tests.faults.shifted_clock import prove, shifted

_SHIFT_SECONDS: Final = 300.0
_TIMEOUT_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 0.5
_LATE_SECONDS: Final = 1.5
"""What looking, appending and a busy machine may take after the check is due."""

_MOST_OFF_SECONDS: Final = 10.0
_LOOKS: Final = 50
_LOOK_AGAIN_SECONDS: Final = 0.2
_REFUSED: Final = 40
_HELD: Final = 10
_RATE: Final = 60.0
_UNAVAILABLE: Final = 503
_HOLDER: Final = "held-by-hand"


async def run(case_run: CaseRun) -> None:
    """A right API and worker, and beside them an API and a worker for each wrong clock."""
    fast, slow = _SHIFT_SECONDS, -_SHIFT_SECONDS
    await asyncio.gather(prove(fast), prove(slow))
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
        async with deployment.caller.load(rate=_RATE):
            for by, api in apis.items():
                await _refuses(case_run, deployment, api, by)
            await asyncio.sleep(1.0 if case_run.short else 10.0)
        await until_quiet(deployment.server.conninfo)
        held = await _time_outs(case_run, deployment, [*right, *workers.values()])
        if not case_run.short:
            for worker in workers.values():
                held |= await _time_outs(case_run, deployment, [worker])
        await _judge_outcomes(case_run, deployment, held, {w.pid for w in workers.values()})


async def _readiness(api: Member) -> tuple[int, str]:
    """Its status, and what it says of the clock."""
    async with (
        aiohttp.ClientSession(headers=DESK) as http,
        http.get(f"{api.url}/health/ready") as ready,
    ):
        said = msgspec.json.decode(await ready.read())
    return ready.status, str(
        said.get("error", {}).get("details", {}).get("checks", {}).get("clock")
    )


async def _refuses(case_run: CaseRun, deployment: Deployment, api: Member, by: float) -> None:
    """Every order is answered with 503 and why, none is stored, and readiness says the same."""
    endpoint = Endpoint(api.url, headers=DESK)
    async with Caller.with_endpoints(
        deployment.ledger, [endpoint], case_run.random, gives_up=1.0
    ) as caller:
        keys = [caller.request() for _ in range(_REFUSED)]
        await asyncio.gather(*(caller.place(request) for request in keys))
        statuses = dict(caller.statuses)
        deployment.caller.wrong += caller.wrong
    wrong = f"the API {by:+g} s"
    case_run.require(statuses == {_UNAVAILABLE: _REFUSED}, f"{wrong}: orders answered {statuses}")
    known = deployment.ledger.read()
    sent = {request["order_unique_key"] for request in keys}
    ids = [str(order.order_id) for order in known.values() if order.key in sent]
    rows = await deployment.server.fetch(
        "SELECT count(*) FROM stored_events WHERE originator_id = ANY (%s::text[]::uuid[])", ids
    )
    case_run.require(rows[0][0] == 0, f"{wrong}: {rows[0][0]} of its orders are stored")
    status, reason = await _readiness(api)
    for _ in range(_LOOKS):  # at its start it may not have measured yet: it refuses all the same
        if not reason.endswith("not measured yet"):
            break
        await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        status, reason = await _readiness(api)
    direction = "ahead of" if by > 0 else "behind"
    told = status == _UNAVAILABLE and f"s {direction} the database's" in reason
    case_run.require(told, f"{wrong}: readiness says {status} {reason}")
    case_run.fact(f"{wrong}: {_REFUSED} orders, {statuses}; readiness: {reason}")


async def _time_outs(case_run: CaseRun, deployment: Deployment, at_work: list[Member]) -> set[UUID]:
    """Hold claims as a worker that is there and does nothing; who works then ends them in time."""
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
        for worker in at_work:
            worker.thaw()
        ended = await _until_ended(deployment, list(claims))
        for worker in workers:
            worker.thaw()
    after = [
        (ended[order_id] - claim.first_claimed_at).total_seconds()
        for order_id, claim in claims.items()
    ]
    who = "all workers" if len(at_work) > 1 else f"only {at_work[0].kind} {at_work[0].pid}"
    case_run.fact(
        f"{len(claims)} claims watched over by {who}: timed out {min(after):.2f} to "
        f"{max(after):.2f} s after the claim, by the database's clock"
    )
    latest = _TIMEOUT_SECONDS + _CHECK_SECONDS + _LATE_SECONDS
    case_run.require(min(after) >= _TIMEOUT_SECONDS, f"timed out early, after {min(after):.3f} s")
    case_run.require_in_time(max(after) <= latest, f"timed out late, after {max(after):.2f} s")
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
    """When each was ended, by the database's clock."""
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


async def _judge_outcomes(
    case_run: CaseRun, deployment: Deployment, held: set[UUID], wrong_pids: set[int]
) -> None:
    """Only what was held by hand timed out; workers with wrong clocks split, and stamped right."""
    await until_quiet(deployment.server.conninfo)
    rows = await deployment.server.fetch(
        "SELECT originator_id, topic, state, extract(epoch FROM recorded_at)::float8"
        " FROM stored_events WHERE originator_version = 2"
    )
    false = {row[0] for row in rows if row[1] == TimedOut.TOPIC} ^ held
    case_run.require(not false, f"{len(false)} orders timed out falsely or not at all")
    split = [row for row in rows if row[1] == SlicesScheduled.TOPIC]
    by_wrong = [row for row in split if _pid(row[2]) in wrong_pids]
    off = sum(abs(_timestamp(row[2]) - row[3]) > _MOST_OFF_SECONDS for row in split)
    case_run.fact(
        f"{len(split)} orders split, {len(by_wrong)} of them by workers with wrong clocks, "
        f"{off} stamped wrongly"
    )
    case_run.require(bool(by_wrong), "no worker with a wrong clock split any order")
    case_run.require(not off, f"{off} outcomes are stamped by a wrong clock")


def _pid(state: bytes) -> int:
    """The process that recorded an event."""
    instance: str = msgspec.json.decode(state)["recorded_by"]["instance"]
    return int(instance.split(":")[1])


def _timestamp(state: bytes) -> float:
    return datetime.fromisoformat(msgspec.json.decode(state)["timestamp"]).timestamp()


CASE: Final = Case(
    name="clocks",
    promise="application clocks 5 min fast and slow: no order accepted from such an API, which "
    "says why; no claim timed out early, none late; every other order COMPLETED",
    at_least=4,
    short=4,
    run=run,
)

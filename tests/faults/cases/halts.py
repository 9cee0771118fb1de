"""Halts race releases: after the answer to a halt no slice in its scope is released."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import aiohttp
import msgspec
from eventsourcing.persistence import StoredEvent

from pulse.domain import (
    Event,
    OrderCreated,
    ReleasesHalted,
    ReleasesResumed,
    SlicesReleased,
)
from pulse.eventstore import EventMapper
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.support.processes import url_of
from tests.support.proxy import proxied

_SPLITS: Final = (20, 30)
_ORDERS_PER_RELEASE: Final = 1 / 18
"""Some slices expire while their orders are halted."""

_CONCURRENT: Final = 30
_HELD_SECONDS: Final = (0.0, 0.4)
_PAUSE_SECONDS: Final = (0.05, 0.6)
_CLOSE: Final = timedelta(seconds=0.02)
_CALLER: Final = {"minutes": (1,), "splits": _SPLITS, "abandon_share": 0.0}
_TARGETS: Final[tuple[dict[str, str], ...]] = (
    {"scope": "ALL"},
    {"scope": "CALLER", "placed_by": "desk"},
    {"scope": "INSTRUMENT", "instrument": "NSE:RELIANCE"},
    {"scope": "INSTRUMENT", "instrument": "NSE:TCS"},
)
_LOG: Final = """
SELECT originator_id, originator_version, topic, state, recorded_at
  FROM stored_events ORDER BY notification_id"""


class _Answered(msgspec.Struct, frozen=True):
    """A halt that was answered, and the database's time right after the answer."""

    halt_id: UUID
    at: datetime


async def run(case_run: CaseRun) -> None:
    """Halt and resume while slices are released; one of two releasers gets no notifications."""
    settings = {"batch_size": 50, "poll_interval_seconds": 0.5}
    answered: list[_Answered] = []
    async with (
        case_run.deployment(apis=2, workers=1, settings=settings, caller=_CALLER) as deployment,
        proxied(deployment.server.conninfo) as proxy,
    ):
        over_proxy = f"{url_of(proxy.conninfo)}&sslmode=disable&gssencmode=disable"
        worker = deployment.add("worker", database_url=over_proxy, **settings)
        await deployment.start(worker)
        proxy.drop_notifications = True
        orders = int(case_run.times * _ORDERS_PER_RELEASE) + 1
        for first in range(0, orders, _CONCURRENT):
            count = min(_CONCURRENT, orders - first)
            await asyncio.gather(*(deployment.caller.place() for _ in range(count)))
        halting = [
            asyncio.create_task(_halt_and_resume(case_run, deployment, target, answered))
            for target in _TARGETS
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(75):
                await asyncio.gather(*halting)
        await _lift_all(deployment)
        await deployment.settle()
        await _check(case_run, deployment, answered)


async def _halt_and_resume(
    case_run: CaseRun, deployment: Deployment, target: dict[str, str], answered: list[_Answered]
) -> None:
    """Halt this target again and again; each call goes to a random API."""
    random = case_run.random
    async with aiohttp.ClientSession(headers=SERVICE_HEADERS) as http:
        while True:
            await asyncio.sleep(random.uniform(*_PAUSE_SECONDS))
            api = random.choice(deployment.apis).url
            body = {**target, "reason": "a race"}
            async with http.post(f"{api}/internal/halts", json=body) as response:
                halt = await response.json()
                case_run.require(response.status == 201, f"a halt was answered {response.status}")
            ((at,),) = await deployment.server.fetch("SELECT clock_timestamp()")
            answered.append(_Answered(UUID(halt["halt_id"]), at))
            await asyncio.sleep(random.uniform(*_HELD_SECONDS))
            api = random.choice(deployment.apis).url
            async with http.delete(f"{api}/internal/halts/{halt['halt_id']}") as response:
                case_run.require(response.status == 200, f"a lift was answered {response.status}")


async def _lift_all(deployment: Deployment) -> None:
    """Lift the halts that were in force when the callers were stopped."""
    api = deployment.apis[0].url
    async with aiohttp.ClientSession(headers=SERVICE_HEADERS) as http:
        async with http.get(f"{api}/internal/halts") as response:
            halts = (await response.json())["halts"]
        for halt in halts:
            async with http.delete(f"{api}/internal/halts/{halt['halt_id']}") as response:
                response.raise_for_status()


async def _check(case_run: CaseRun, deployment: Deployment, answered: Iterable[_Answered]) -> None:
    """No release is in the log while a halt of its scope is in force, by position and by time."""
    answered_at = {one.halt_id: one.at for one in answered}
    orders: dict[UUID, OrderCreated] = {}
    in_force: dict[UUID, ReleasesHalted] = {}
    released: list[tuple[datetime, OrderCreated]] = []
    halted: set[UUID] = set()
    counts: Counter[str] = Counter()
    while_halted, after_answer = list[str](), list[str]()
    for recorded_at, event in await _events(deployment):
        match event:
            case OrderCreated():
                orders[event.originator_id] = event
            case ReleasesHalted():
                in_force[event.halt_id] = event
                halted.add(event.halt_id)
                counts["halts"] += 1
                counts["close"] += any(
                    _covers(event, order) and recorded_at - at < _CLOSE
                    for at, order in released[-20:]
                )
            case ReleasesResumed():
                del in_force[event.halt_id]
            case SlicesReleased():
                order = orders[event.originator_id]
                released.append((recorded_at, order))
                for halt in in_force.values():
                    if _covers(halt, order):
                        while_halted.append(f"{order.originator_id} at {recorded_at}")
                        answer = answered_at.get(halt.halt_id)
                        if answer is not None and recorded_at > answer:
                            after_answer.append(f"{order.originator_id} at {recorded_at}")
            case _:
                pass
    case_run.injected(len(released))
    case_run.fact(
        f"{len(released):,} releases, {counts['halts']:,} halts, {counts['close']:,} of them less "
        f"than {_CLOSE.total_seconds() * 1000:g} ms after a release in their scope"
    )
    case_run.require(not while_halted, f"released while halted: {while_halted[:5]}")
    case_run.require(not after_answer, f"released after a halt was answered: {after_answer[:5]}")
    lost = set(answered_at) - halted
    case_run.require(not lost, f"{len(lost)} halts were answered and are not in the log")
    case_run.require(counts["close"] > 0, "no halt raced a release, so this case cannot fail")


async def _events(deployment: Deployment) -> list[tuple[datetime, Event]]:
    """The log in commit order, with the time of each event by the database's clock."""
    mapper = EventMapper()
    return [
        (recorded_at, mapper.event_of(StoredEvent(stream, version, topic, bytes(state))))
        for stream, version, topic, state, recorded_at in await deployment.server.fetch(_LOG)
    ]


def _covers(halt: ReleasesHalted, order: OrderCreated) -> bool:
    return (
        halt.scope == "ALL"
        or (halt.scope == "INSTRUMENT" and halt.instrument == order.instrument)
        or (halt.scope == "CALLER" and halt.placed_by == order.placed_by)
    )


CASE: Final = Case(
    name="halts",
    promise="Releases race halts of four targets, set and lifted at two APIs, while one of two "
    "releasers gets no notifications: no release is in the log after a halt of its scope and "
    "before the halt was lifted, and every halt that was answered is in the log",
    at_least=10_000,
    short=250,
    run=run,
    waits=True,
)

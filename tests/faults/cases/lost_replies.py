"""The connection breaks at every byte of an append's reply, and of its request."""

import asyncio
import itertools
from typing import Any, Final

from tests.faults.caller import Caller, Endpoint
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import SERVICE_HEADERS, Deployment
from tests.faults.proxy import Interruption, Proxy, Sent

APPEND: Final = "INSERT INTO stored_events"
_APIS: Final = 4
_CUT_AGAIN: Final = 0.25
_WARM_UP_ORDERS: Final = 3
_CONCURRENT: Final = 8
_STRIDE: Final = 67
"""Visits all byte positions, far apart from each other in a short run."""


class _Cuts:
    """Cuts each append at the next byte position, alternating between reply and request.

    The first append on a new connection retries a cut one; one in four of these is cut again.
    """

    def __init__(self, case_run: CaseRun, proxy: Proxy) -> None:
        self.replies_cut: set[int] = set()
        self.requests_cut: set[int] = set()
        self.reply_size = 0
        self.on = False
        self._case_run = case_run
        self._at = itertools.count()
        proxy.interrupt = self._interrupt
        proxy.on_reply = self._learn

    @property
    def left(self) -> bool:
        """Whether cuts are left."""
        return self._case_run.row.injected < self._case_run.times

    def _learn(self, text: str, size: int) -> None:
        if APPEND in text and not self.on:
            self.reply_size = max(self.reply_size, size)

    def _interrupt(self, sent: Sent) -> Interruption | None:
        if APPEND not in sent.text or not self.on or not self.left:
            return None
        if APPEND not in sent.before and self._case_run.random.random() >= _CUT_AGAIN:
            return None
        self._case_run.injected()
        position, of_request = divmod(next(self._at), 2)
        if of_request:
            position = position * _STRIDE % sent.size
            self.requests_cut.add(position)
            return Interruption(request_bytes=position)
        position = position * _STRIDE % (self.reply_size + 1)
        self.replies_cut.add(position)
        return Interruption(reply_bytes=position)


async def run(case_run: CaseRun) -> None:
    """Place orders in sequence at each of four APIs; cut every append, so that Pulse retries it."""
    async with (
        case_run.deployment(apis=1, workers=1) as deployment,
        Proxy.in_front_of(deployment.server.conninfo) as proxy,
    ):
        cuts = _Cuts(case_run, proxy)
        apis = [deployment.add("api", database_url=proxy.url) for _ in range(_APIS)]
        await deployment.start(*apis)
        endpoints = [Endpoint(api.url, headers=SERVICE_HEADERS) for api in apis]
        async with Caller.with_endpoints(
            deployment.ledger, endpoints, case_run.random, abandon_share=0.0
        ) as caller:
            for _ in range(_WARM_UP_ORDERS * _APIS):
                await caller.place()
            cuts.on = True
            requests = await _place_while_cut(deployment, endpoints, cuts)
            cuts.on = False
            await _post_again(case_run, caller, requests)
            deployment.caller.wrong += caller.wrong
        await asyncio.gather(*(api.stop() for api in apis))
        case_run.fact(
            f"replies cut at {len(cuts.replies_cut)} of {cuts.reply_size + 1} byte positions, "
            f"requests at {len(cuts.requests_cut)}; {len(requests)} orders, each posted twice"
        )
        positions = min(cuts.reply_size + 1, case_run.times // 2)
        case_run.require(
            len(cuts.replies_cut) >= positions, "not every byte position of a reply was cut"
        )


async def _place_while_cut(
    deployment: Deployment, endpoints: list[Endpoint], cuts: _Cuts
) -> list[dict[str, Any]]:
    """Place one order at a time at each endpoint, so that each order has its own append and cut."""
    requests: list[dict[str, Any]] = []

    async def place_at(endpoint: Endpoint) -> None:
        async with Caller.with_endpoints(
            deployment.ledger, [endpoint], deployment.random, abandon_share=0.0
        ) as caller:
            while cuts.left:
                requests.append(caller.request())
                await caller.place(requests[-1])
            deployment.caller.wrong += caller.wrong
            deployment.caller.answers += caller.answers

    async with asyncio.TaskGroup() as placing:
        for endpoint in endpoints:
            placing.create_task(place_at(endpoint))
    return requests


async def _post_again(case_run: CaseRun, caller: Caller, requests: list[dict[str, Any]]) -> None:
    """Post the same orders again; the ledger check compares their ids."""
    before = len(caller.answers)
    left = iter(requests)
    refused: list[str] = []

    async def post() -> None:
        for request in left:
            key = request["order_unique_key"]
            refused.extend([] if await caller.place(request) else [key])

    await asyncio.gather(*(post() for _ in range(_CONCURRENT)))
    case_run.require(not refused, f"{len(refused)} not accepted: {', '.join(refused[:5])}")
    statuses = {answer.status for answer in caller.answers[before:]}
    case_run.require(statuses == {200}, f"orders posted again got {statuses}")


CASE: Final = Case(
    name="lost_replies",
    promise="The connection is cut at each byte of an append's reply and of its request: no order "
    "is doubled, and none gets a false 409. Every order is accepted; posted again, it gets 200 "
    "with the same id",
    at_least=2000,
    short=150,
    run=run,
)

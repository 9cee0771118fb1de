"""The connection breaks around COMMIT: at every byte of an append's answer, and of its request."""

import asyncio
import itertools
from typing import Any, Final

from tests.faults.caller import Caller, Endpoint
from tests.faults.case import Case, CaseRun
from tests.faults.deployment import DESK, Deployment
from tests.faults.proxy import Proxy, Sent, Stop

APPEND: Final = "INSERT INTO stored_events"
_APIS: Final = 4
_CUT_AGAIN: Final = 0.25
_WARM_UP_ORDERS: Final = 3
_AT_ONCE: Final = 8
_STRIDE: Final = 67
"""Goes through all places, and far apart in a short run."""


class _Cuts:
    """Cuts appends, each at the next byte: of an answer, of a request, in turn.

    The first append on a connection, which is the retry of one that was cut, is let through three
    times in four.
    """

    def __init__(self, case_run: CaseRun, proxy: Proxy) -> None:
        self.answers_cut: set[int] = set()
        self.requests_cut: set[int] = set()
        self.answer_size = 0
        self.on = False
        self._scene = case_run
        self._at = itertools.count()
        proxy.meet = self._meet
        proxy.on_reply = self._learn

    @property
    def left(self) -> bool:
        """Whether there are cuts to make."""
        return self._scene.row.injected < self._scene.times

    def _learn(self, text: str, size: int) -> None:
        if APPEND in text and not self.on:
            self.answer_size = max(self.answer_size, size)

    def _meet(self, sent: Sent) -> Stop | None:
        if APPEND not in sent.text or not self.on or not self.left:
            return None
        if APPEND not in sent.before and self._scene.random.random() >= _CUT_AGAIN:
            return None
        self._scene.injected()
        place, of_request = divmod(next(self._at), 2)
        if of_request:
            place = place * _STRIDE % sent.size
            self.requests_cut.add(place)
            return Stop(request_bytes=place)
        place = place * _STRIDE % (self.answer_size + 1)
        self.answers_cut.add(place)
        return Stop(reply_bytes=place)


async def run(case_run: CaseRun) -> None:
    """Orders one after another at each of four APIs; every append is cut, and retried by Pulse."""
    async with (
        case_run.deployment(apis=1, workers=1) as deployment,
        Proxy.before(deployment.server.conninfo) as proxy,
    ):
        cuts = _Cuts(case_run, proxy)
        apis = [deployment.add("api", database_url=proxy.url) for _ in range(_APIS)]
        await deployment.start(*apis)
        endpoints = [Endpoint(api.url, headers=DESK) for api in apis]
        async with Caller.with_endpoints(
            deployment.ledger, endpoints, case_run.random, gives_up=0.0
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
            f"answers cut at {len(cuts.answers_cut)} of {cuts.answer_size + 1} places, "
            f"requests at {len(cuts.requests_cut)}; {len(requests)} orders, each posted twice"
        )
        places = min(cuts.answer_size + 1, case_run.times // 2)
        case_run.require(len(cuts.answers_cut) >= places, "not every byte of an answer was cut at")


async def _place_while_cut(
    deployment: Deployment, endpoints: list[Endpoint], cuts: _Cuts
) -> list[dict[str, Any]]:
    """One order at a time at each endpoint, so that each has an append, and a cut, of its own."""
    requests: list[dict[str, Any]] = []

    async def place_at(endpoint: Endpoint) -> None:
        async with Caller.with_endpoints(
            deployment.ledger, [endpoint], deployment.random, gives_up=0.0
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
    """The same orders again: each is there already; that its id is the same the ledger shows."""
    before = len(caller.answers)
    left = iter(requests)
    refused: list[str] = []

    async def post() -> None:
        for request in left:
            key = request["order_unique_key"]
            refused.extend([] if await caller.place(request) else [key])

    await asyncio.gather(*(post() for _ in range(_AT_ONCE)))
    case_run.require(not refused, f"{len(refused)} not accepted: {', '.join(refused[:5])}")
    statuses = {answer.status for answer in caller.answers[before:]}
    case_run.require(statuses == {200}, f"posted again, orders were answered {statuses}")


CASE: Final = Case(
    name="lost_replies",
    promise="the connection cut at each byte of an append's answer and of its request: 0 doubled, "
    "0 false 409; every order is accepted, and posted again answered 200 with the same id",
    at_least=2000,
    short=150,
    run=run,
)

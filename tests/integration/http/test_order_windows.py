"""start_at, session policies and windows over HTTP, with a clock and a calendar of the test."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from pulse.application.callers import Caller
from pulse.application.in_process import InProcessOrders
from pulse.application.origin import Origin
from pulse.application.over_http import OrdersOverHttp, open_orders_over_http
from pulse.domain import (
    MarketClosed,
    OrderRefused,
    OrderSpec,
    OrderUniqueKeyTaken,
    Session,
    Window,
    order_id_for,
    parse_order_request,
)
from pulse.eventstore import EventMapper, EventStore
from pulse.http.api.app import create_api
from pulse.http.auth import InternalAuthMiddleware
from pulse.postgres import Database, DatabaseUnavailable
from pulse.projections.order_view import FoldedStream, OrderReader
from pulse.projections.rebuild import Rebuild
from pulse.testing import ListedSessions
from tests.support.api import client_of, root_of
from tests.support.documents import UNUSED, UNUSED_USE_CASES
from tests.support.events import MAPPER, TRACE
from tests.support.gateway import DESK_TOKEN, GATEWAY_TOKEN, RIGHTS, SERVICES
from tests.support.log import read_log, stored_log
from tests.support.orders import JSON, body, fault, fault_in, new_key, order, split_config
from tests.support.read_model import folded, project, queue
from tests.support.tokens import bearer

ORDERS = "/internal/orders"
NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
"""A Monday, half an hour before the close."""
OPENS = [datetime(2026, 3, day, 3, 45, tzinfo=UTC) for day in (2, 4, 5)]
CALENDAR = ListedSessions(
    Session(opens_at=at, closes_at=at + timedelta(minutes=375)) for at in OPENS
)
ALICE = Caller.of_token("issuer.example", "alice")
NEXT = {"starts_at": "2026-03-04T03:45:00Z", "ends_at": "2026-03-04T04:45:00Z"}


class Desk:
    """The API with a clock, a default policy and a calendar that a test can change."""

    def __init__(self, database: Database, store: EventStore, reader: OrderReader) -> None:
        self.now = NOW
        self.database = database
        self.store = store
        self._reader = reader
        self.client: httpx.AsyncClient = UNUSED
        self.over_http: OrdersOverHttp = UNUSED
        self.orders = self.with_settings()

    def with_settings(self, **settings: Any) -> InProcessOrders:
        return InProcessOrders(
            self.store,
            self._reader,
            lambda: self.now,
            Origin("host:1:abc"),
            **{"calendar": CALENDAR, **settings},
        )

    async def post(self, request: dict[str, Any] | list[Any], path: str = ORDERS) -> httpx.Response:
        return await self.client.post(path, json=request)

    async def read(self, order_id: str) -> Any:
        answer = await self.client.get(f"{ORDERS}/{order_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()


class Changeable:
    """Passes every call on to the use cases that `desk.orders` are now."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._desk.orders, name)


@pytest.fixture
async def desk(database: Database, store: EventStore) -> AsyncIterator[Desk]:
    desk = Desk(database, store, OrderReader(database, MAPPER))
    api = InternalAuthMiddleware(
        create_api(msgspec.structs.replace(UNUSED_USE_CASES, orders=Changeable(desk))),
        SERVICES,
        RIGHTS,
    )
    async with root_of(api) as root, client_of(root) as client:
        client.headers.update(bearer(DESK_TOKEN) | JSON)
        desk.client = client
        transport = httpx.ASGITransport(root, raise_app_exceptions=False)
        async with open_orders_over_http(
            "http://localhost", GATEWAY_TOKEN, transport=transport
        ) as desk.over_http:
            yield desk


def planned(
    policy: str | None = None, start_at: str | None = None, minutes: int = 60, **changes: Any
) -> dict[str, Any]:
    config: dict[str, Any] = {"num_splits": 5, "duration_minutes": minutes}
    if policy is not None:
        config["session_policy"] = policy
    if start_at is not None:
        config["start_at"] = start_at
    return order(split_config=config, **changes)


def spec_of(request: dict[str, Any]) -> OrderSpec:
    return parse_order_request(msgspec.json.encode(request))


@pytest.mark.parametrize(
    ("policy", "start_at", "window"),
    [
        (None, None, ("2026-03-02T09:30:00Z", "2026-03-02T10:30:00Z")),
        (None, "2026-03-02T15:00:05+05:30", ("2026-03-02T09:30:05Z", "2026-03-02T10:30:05Z")),
        ("NONE", "2026-03-31T23:30:00Z", ("2026-03-31T23:30:00Z", "2026-04-01T00:30:00Z")),
        ("CLIP", None, ("2026-03-02T09:30:00Z", "2026-03-02T09:59:59Z")),
        ("ROLL", None, ("2026-03-02T09:30:00Z", "2026-03-04T04:15:00Z")),
        ("REJECT", "2026-03-05T09:15:00+05:30", ("2026-03-05T03:45:00Z", "2026-03-05T04:45:00Z")),
        ("CLIP", "2026-03-03T06:00:00Z", ("2026-03-04T03:45:00Z", "2026-03-04T04:45:00Z")),
    ],
)  # fmt: skip
async def test_an_order_shows_what_was_asked_and_its_window_in_every_answer(
    desk: Desk, policy: str | None, start_at: str | None, window: tuple[str, str]
) -> None:
    request = planned(policy, start_at)
    answer = await desk.post(request)
    assert answer.status_code == 201, answer.text
    order_id = answer.json()["order_id"]
    read = await desk.read(order_id)
    assert read["window"] == {"starts_at": window[0], "ends_at": window[1]}
    config = read["split_config"]
    assert config["session_policy"] == policy
    asked = config["start_at"]
    assert (asked is None) == (start_at is None)
    if start_at is not None:
        assert asked.endswith("Z")
        assert datetime.fromisoformat(asked) == datetime.fromisoformat(start_at)
    await project(desk.database)
    (listed,) = (await desk.client.get(ORDERS)).json()["orders"]
    assert listed == read
    (event,) = (await desk.client.get(f"{ORDERS}/{order_id}/events")).json()["events"]
    data = event["data"]
    assert (data["start_at"], data["session_policy"]) == (asked, policy)
    assert (data["window_starts_at"], data["applied_policy"]) == (window[0], policy or "NONE")
    with_sessions = policy not in (None, "NONE")
    assert data["calendar_digest"] == (CALENDAR.digest if with_sessions else None)
    assert bool(data["sessions"]) == with_sessions
    assert data["splitter_version"] == (2 if with_sessions else 1)
    placed = await desk.over_http.place(spec_of(request), ALICE, TRACE)
    view = await desk.over_http.order(placed.order_id, ALICE, TRACE)
    assert view.window == Window(
        starts_at=datetime.fromisoformat(window[0]), ends_at=datetime.fromisoformat(window[1])
    )


async def test_a_preview_has_the_same_window(desk: Desk) -> None:
    request = planned("ROLL")
    preview = (await desk.post(request, f"{ORDERS}/preview")).json()
    assert preview["window"] == {
        "starts_at": "2026-03-02T09:30:00Z",
        "ends_at": "2026-03-04T04:15:00Z",
    }
    assert preview["slices"][-1]["scheduled_at"] == preview["window"]["ends_at"]


REFUSED: list[tuple[dict[str, Any], int, str, str]] = [
    ({"start_at": "2026-03-02T09:29:58.999999Z"}, 400, "INVALID_SPLIT_CONFIG", "in the past"),
    ({"start_at": "2026-04-02T09:30:00Z"}, 400, "INVALID_SPLIT_CONFIG", "30 days ahead"),
    ({"start_at": "2026-03-02T09:30:00"}, 400, "INVALID_SPLIT_CONFIG", "no offset from UTC"),
    ({"start_at": "2026-02-30T09:30:00Z"}, 400, "INVALID_SPLIT_CONFIG", "not a valid time"),
    ({"start_at": 1772443800}, 400, "INVALID_SPLIT_CONFIG", "is a whole number"),
    ({"session_policy": "SKIP"}, 400, "INVALID_SPLIT_CONFIG", "is not allowed"),
    ({"session_policy": "REJECT"}, 422, "MARKET_CLOSED", "is not inside one trading session"),
    (
        {"session_policy": "CLIP", "start_at": "2026-03-02T09:59:58Z"},
        422,
        "MARKET_CLOSED",
        "less than one second for each of 5 slices",
    ),
]


@pytest.mark.parametrize(("config", "status", "code", "message"), REFUSED)
async def test_an_impossible_window_is_refused_by_every_call_and_nothing_is_stored(
    desk: Desk, config: dict[str, Any], status: int, code: str, message: str
) -> None:
    request = planned()
    request["split_config"] |= config
    answers = [await desk.post(request, path) for path in (ORDERS, f"{ORDERS}/preview")]
    details = [fault(answer, status, code) for answer in answers]
    assert details[0] == details[1]
    assert message in answers[0].json()["error"]["message"]
    batch = (await desk.post([request, planned()], f"{ORDERS}/batch")).json()["results"]
    assert [one["status"] for one in batch] == [status, 201]
    assert fault_in(batch[0]["body"], code) == details[0]
    if status == 422:
        assert details[0] == {"session_policy": config["session_policy"], "next_window": NEXT}
    else:
        (field,) = config
        assert details[0]["field"] == f"split_config.{field}"
    assert len(await stored_log(desk.database)) == 1


async def test_an_unknown_window_is_null(desk: Desk) -> None:
    for request in (
        planned("REJECT", minutes=376),
        planned("ROLL", "2026-03-25T00:00:00Z", minutes=1440),
    ):
        details = fault(await desk.post(request), 422, "MARKET_CLOSED")
        assert details["next_window"] is None


async def test_a_start_up_to_a_second_ago_is_accepted(desk: Desk) -> None:
    answer = await desk.post(planned(start_at="2026-03-02T09:29:59Z"))
    assert answer.status_code == 201
    read = await desk.read(answer.json()["order_id"])
    assert read["window"]["starts_at"] == "2026-03-02T09:29:59Z"


CHANGES: dict[str, dict[str, Any]] = {
    "start_at has passed": {"now": NOW + timedelta(days=3)},
    "another default": {"session_policy": "REJECT"},
    "another calendar": {"calendar": ListedSessions([Session(opens_at=NOW, closes_at=NOW)])},
    "no calendar": {"calendar": None},
    "all of them": {"now": NOW + timedelta(days=40), "session_policy": "CLIP", "calendar": None},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("policy", [None, "NONE", "CLIP", "ROLL"])
async def test_the_same_request_is_the_same_order_whatever_has_changed(
    desk: Desk, change: str, policy: str | None
) -> None:
    request = planned(policy, "2026-03-02T15:30:00+05:30" if policy != "CLIP" else None)
    first = await desk.post(request)
    assert first.status_code == 201
    over_http = await desk.over_http.place(spec_of(request), ALICE, TRACE)
    settings: dict[str, Any] = dict(CHANGES[change])
    desk.now = settings.pop("now", desk.now)
    desk.orders = desk.with_settings(**settings)
    again = await desk.post(request)
    assert (again.status_code, again.json()) == (200, first.json())
    if policy != "CLIP":  # the same instant with another offset
        request["split_config"]["start_at"] = "2026-03-02T10:00:00Z"
        assert (await desk.post(request)).status_code == 200
    batch = (await desk.post([request, planned()], f"{ORDERS}/batch")).json()["results"]
    assert (batch[0]["status"], batch[0]["body"]) == (200, first.json())
    placed = await desk.over_http.place(spec_of(request), ALICE, TRACE)
    assert (placed.order_id, placed.created) == (over_http.order_id, False)


@pytest.mark.parametrize("change", CHANGES)
async def test_other_data_is_a_conflict_whatever_has_changed(desk: Desk, change: str) -> None:
    request = planned("ROLL", "2026-03-02T10:00:00Z")
    order_id = (await desk.post(request)).json()["order_id"]
    settings: dict[str, Any] = dict(CHANGES[change])
    desk.now = settings.pop("now", desk.now)
    desk.orders = desk.with_settings(**settings)
    for other in (
        {"start_at": "2026-03-02T10:00:01Z"},
        {"session_policy": None},
        {"start_at": None},
    ):
        config = {**request["split_config"], **other}
        answer = await desk.post({**request, "split_config": config})
        details = fault(answer, 409, "DUPLICATE_ORDER_UNIQUE_KEY")
        assert details["existing_order_id"] == order_id


async def test_naming_the_default_policy_is_other_data_than_naming_no_policy(desk: Desk) -> None:
    desk.orders = desk.with_settings(session_policy="CLIP")
    request = planned()
    first = await desk.post(request)
    assert (await desk.read(first.json()["order_id"]))["window"][
        "ends_at"
    ] == "2026-03-02T09:59:59Z"
    request["split_config"]["session_policy"] = "CLIP"
    fault(await desk.post(request), 409, "DUPLICATE_ORDER_UNIQUE_KEY")


async def test_in_a_batch_refusals_retries_and_new_orders_keep_their_places(desk: Desk) -> None:
    known = planned("ROLL", "2026-03-02T10:00:00Z")
    order_id = (await desk.post(known)).json()["order_id"]
    desk.now += timedelta(days=1)
    late = planned(start_at="2026-03-02T10:00:00Z")
    batch = [late, planned(), known, planned("REJECT"), {**known, "side": "SELL"}, planned()]
    results = (await desk.post(batch, f"{ORDERS}/batch")).json()["results"]
    assert [one["status"] for one in results] == [400, 201, 200, 422, 409, 201]
    assert results[2]["body"]["order_id"] == order_id


class UnavailableReader(OrderReader):
    """A reader whose database is unavailable."""

    async def as_created(self, order_id: UUID) -> FoldedStream | None:
        raise DatabaseUnavailable(f"no connection to read {order_id}")


async def test_a_refusal_is_not_given_if_the_key_cannot_be_looked_up(
    database: Database, store: EventStore
) -> None:
    desk = Desk(database, store, UnavailableReader(database, MAPPER))
    spec = parse_order_request(body(split_config=split_config(start_at='"2026-03-01T00:00:00Z"')))
    with pytest.raises(DatabaseUnavailable):
        await desk.orders.place(spec, Caller(), TRACE)
    refused, placed = await desk.orders.place_each(
        [spec, parse_order_request(body())], Caller(), TRACE
    )
    assert isinstance(refused, DatabaseUnavailable)
    assert not isinstance(placed, Exception)


async def test_over_http_the_refusals_are_those_of_the_api(desk: Desk) -> None:
    refusals: list[tuple[dict[str, Any], type[Exception]]] = [
        (planned("REJECT"), MarketClosed),
        (planned("REJECT", minutes=400), MarketClosed),
        (planned(start_at="2026-03-01T00:00:00Z"), OrderRefused),
    ]
    for request, expected in refusals:
        spec = spec_of(request)
        with pytest.raises(expected) as over_http:
            await desk.over_http.place(spec, ALICE, TRACE)
        with pytest.raises(expected) as in_process:
            await desk.orders.place(spec, ALICE, TRACE)
        assert str(over_http.value) == str(in_process.value)
        attributes = vars(in_process.value)
        assert vars(over_http.value) == attributes
    taken = planned(start_at="2026-03-02T10:00:00Z")
    placed = await desk.over_http.place(spec_of(taken), ALICE, TRACE)
    assert placed.order_id == order_id_for(ALICE.key_scope, taken["order_unique_key"])
    desk.now += timedelta(days=1)
    other = spec_of({**taken, "side": "SELL"})
    with pytest.raises(OrderUniqueKeyTaken):
        await desk.over_http.place(other, ALICE, TRACE)


async def test_the_queue_has_the_windows_and_a_rebuild_finds_no_difference(desk: Desk) -> None:
    for request in (
        planned(),
        planned("CLIP"),
        planned("ROLL", "2026-03-02T09:59:59Z"),
        planned(start_at="2026-03-04T00:00:00.000001Z"),
        planned("REJECT", "2026-03-05T03:45:00Z", order_unique_key=new_key()),
    ):
        assert (await desk.post(request)).status_code == 201
    await project(desk.database)
    log = await read_log(desk.store, after=0, limit=100)
    events = [(record.position, MAPPER.event_of(record)) for record in log]
    assert await queue(desk.database) == folded(events)
    rebuilt = await Rebuild(desk.database, EventMapper(), lambda *_: None).run()
    assert (rebuilt.events, rebuilt.replaced) == (5, 0)

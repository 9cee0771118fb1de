"""The lists of the gateway, in one process with the API and as a separate app: own orders only."""

import base64
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent

from pulse.application.callers import Caller
from pulse.application.orders import OwnOrderQuery
from pulse.application.own_cursors import OwnCursorKey, encode_own_cursor
from pulse.domain import OrderCreated, SlicesScheduled, order_id_for
from tests.support.database import as_superuser
from tests.support.events import (
    order_created,
    slices_scheduled,
    splitting_failed,
    stored,
    timed_out,
)
from tests.support.gateway import (
    GATEWAY_TOKEN,
    WAYS,
    FakePulse,
    Served,
    gateway_in_front_of,
    refusal,
    served,
)
from tests.support.log import write
from tests.support.orders import fault, order
from tests.support.tokens import ISSUER, bearer, signer_of
from tests.support.waiting import until

SIGNER = signer_of("HS256")
ALICE = Caller.of_token(ISSUER, "alice")
WITHHELD = {"position", "claimed_by", "claimed_at"}
IN_ORDER = ["order_id", "version", "type", "occurred_at", "recorded_at", "data"]


@pytest.fixture(params=WAYS)
async def own_apps(request: pytest.FixtureRequest, conninfo: str) -> AsyncIterator[Served]:
    """The same on the test's own database."""
    async with served(request.param, conninfo, SIGNER) as found:
        yield found


async def get(apps: Served, path: str, subject: str, **parameters: Any) -> httpx.Response:
    query = f"?{urlencode(parameters, quote_via=quote)}" if parameters else ""
    headers = bearer(apps.signer.token(sub=subject))
    return await apps.gateway.get(f"/api/{path}{query}", headers=headers)


async def listed(apps: Served, subject: str, **parameters: Any) -> list[str]:
    response = await get(apps, "orders", subject, **parameters)
    assert response.status_code == 200, response.text
    assert list(response.json()) == ["orders", "next_cursor"]
    return [one["order_unique_key"] for one in response.json()["orders"]]


async def placed(apps: Served, subject: str, *keys: str, **changes: Any) -> list[str]:
    """The ids of orders with these keys, all of them listed."""
    ids = []
    for key in keys:
        response = await apps.place(order(order_unique_key=key, **changes), subject)
        assert response.status_code == 202, response.text
        ids.append(response.json()["order_id"])

    async def all_listed() -> bool:
        return set(keys) <= set(await listed(apps, subject, limit=200))

    await until(all_listed, "the orders are listed")
    return ids


def anyone() -> str:
    """A subject that no other test uses."""
    return f"caller {uuid4().hex}"


async def test_callers_list_their_own_orders_and_no_others(apps: Served) -> None:
    alice, bob = anyone(), anyone()
    ids = await placed(apps, alice, "a", "b", "c")
    await placed(apps, bob, "b", "d")
    await apps.api.post("/internal/orders", json=order())
    assert await listed(apps, alice) == ["c", "b", "a"]
    assert await listed(apps, bob) == ["d", "b"]
    assert await listed(apps, anyone()) == []
    shown_orders: list[dict[str, Any]] = []

    async def listed_as_read_alone() -> bool:  # workers may be splitting the orders
        shown_orders[:] = (await get(apps, "orders", alice)).json()["orders"]
        return shown_orders == [(await apps.read(order_id, alice)).json() for order_id in ids[::-1]]

    await until(listed_as_read_alone, "the orders are listed as each is read")
    for shown in shown_orders:
        inside = (await apps.api.get(f"/internal/orders/{shown['order_id']}")).json()
        assert {*inside} - {*shown} == WITHHELD
        assert list(shown) == [name for name in inside if name not in WITHHELD]


async def test_filters_are_of_the_callers_scope(apps: Served) -> None:
    alice, bob = anyone(), anyone()
    await placed(apps, alice, "a%", "ab", instrument="NSE:A")
    await placed(apps, alice, "c", instrument="NSE:B")
    await placed(apps, bob, "bob's", instrument="NSE:A")
    assert await listed(apps, alice, instrument="NSE:A") == ["ab", "a%"]
    assert await listed(apps, alice, order_unique_key="a%") == ["a%"]
    assert await listed(apps, alice, order_unique_key="bob's") == []
    assert await listed(apps, alice, order_unique_key="c", instrument="NSE:A") == []
    assert await listed(apps, alice, order_queue_status="FAILED") == []
    (second,) = (await get(apps, "orders", alice, order_unique_key="ab")).json()["orders"]
    assert await listed(apps, alice, created_from=second["created_at"]) == ["c", "ab"]
    assert await listed(apps, alice, created_before=second["created_at"]) == ["a%"]


async def test_orders_are_read_page_by_page_and_cursors_have_no_position(apps: Served) -> None:
    alice, bob = anyone(), anyone()
    keys = [f"k{n}" for n in range(5)]
    for key in keys:
        await placed(apps, alice, key)
        await placed(apps, bob, key)
    seen: list[str] = []
    cursors: list[str] = []
    while True:
        cursor = {"cursor": cursors[-1]} if cursors else {}
        page = (await get(apps, "orders", alice, limit=2, **cursor)).json()
        seen += [one["order_unique_key"] for one in page["orders"]]
        if page["next_cursor"] is None:
            break
        cursors.append(page["next_cursor"])
        content = base64.urlsafe_b64decode(cursors[-1] + "==")
        assert content.endswith(UUID(page["orders"][-1]["order_id"]).bytes)
        assert len(content) == 41
    assert seen == keys[::-1]
    assert len(cursors) == 2


async def test_a_cursor_is_of_one_caller_and_of_its_filters(apps: Served) -> None:
    alice, bob = anyone(), anyone()
    await placed(apps, alice, *"abc")
    (bobs,) = await placed(apps, bob, "a")
    cursor = (await get(apps, "orders", alice, limit=1)).json()["next_cursor"]
    assert await listed(apps, alice, cursor=cursor) == ["b", "a"]
    for_alice = Caller.of_token(ISSUER, alice)
    inside = (await apps.api.get("/internal/orders?limit=1")).json()["next_cursor"]
    log_id = UUID((await apps.api.get("/internal/events?limit=1")).json()["log_id"])
    forged = [
        encode_own_cursor(OwnOrderQuery(limit=1), for_alice, OwnCursorKey.after(other, log_id))
        for other in (UUID(bobs), uuid4(), order_id_for(for_alice.key_scope, ""))
    ]
    answers = []
    for subject, parameters in [
        (bob, {"cursor": cursor}),
        (alice, {"cursor": cursor, "instrument": "NSE:RELIANCE"}),
        (alice, {"cursor": cursor, "order_queue_status": "PENDING"}),
        (alice, {"cursor": cursor, "created_from": "2026-01-05T09:15:00Z"}),
        (alice, {"cursor": inside}),
        *((alice, {"cursor": one}) for one in forged),
        (alice, {"cursor": cursor + "="}),
        (alice, {"cursor": cursor[:-1]}),
        (alice, {"cursor": "Aw" + cursor[2:]}),
        (alice, {"cursor": ""}),
        (alice, {"cursor": "ü"}),
        (alice, {"cursor": "x" * 10_000}),
    ]:
        response = await get(apps, "orders", subject, **parameters)
        details = fault(response, 400, "INVALID_REQUEST")
        assert details["field"] == "cursor"
        answers.append(response.content)
    assert answers[5] == answers[6], "the answer does not show whether another's order exists"
    response = await apps.api.get(f"/internal/orders?cursor={cursor}")
    assert fault(response, 400, "INVALID_REQUEST")["field"] == "cursor"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("placed_by=alice", "placed_by"),
        ("trace_id=t", "trace_id"),
        ("key_scope=internal&order_unique_key=a", "key_scope"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=1&limit=1", "limit"),
        ("order_queue_status=OPEN", "order_queue_status"),
        (f"order_unique_key={'x' * 10_000}", "order_unique_key"),
        ("order_unique_key=a%00", "order_unique_key"),
        ("created_from=2026-01-05T09:15:00", "created_from"),
        (
            "created_from=2026-01-05T09:15:01Z&created_before=2026-01-05T09:15:00Z",
            "created_before",
        ),
    ],
)
async def test_a_wrong_parameter_is_refused_and_named(apps: Served, query: str, field: str) -> None:
    headers = bearer(apps.signer.token())
    response = await apps.gateway.get(f"/api/orders?{query}", headers=headers)
    assert fault(response, 400, "INVALID_REQUEST")["field"] == field


async def test_the_token_must_grant_orders_read(apps: Served) -> None:
    (order_id,) = await placed(apps, "alice", uuid4().hex)
    for path in ("orders", f"orders/{order_id}/events"):
        headers = bearer(apps.signer.token(scope="orders:write"))
        response = await apps.gateway.get(f"/api/{path}", headers=headers)
        assert fault(response, 403, "FORBIDDEN") == {"required_scope": "orders:read"}
        fault(await apps.gateway.get(f"/api/{path}"), 401, "UNAUTHORIZED")
        headers = bearer(apps.signer.token(scope="orders:read"))
        assert (await apps.gateway.get(f"/api/{path}", headers=headers)).status_code == 200


async def test_the_list_answers_options_and_head(apps: Served) -> None:
    headers = bearer(apps.signer.token())
    response = await apps.gateway.options("/api/orders", headers=headers)
    assert response.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert (await apps.gateway.head("/api/orders", headers=headers)).status_code == 200


async def test_the_history_has_what_concerns_the_order_and_nothing_else(apps: Served) -> None:
    alice = anyone()
    (order_id,) = await placed(apps, alice, "a")
    assert (await apps.cancel(order_id, {"reason": "why"}, alice)).status_code == 200
    history = (await get(apps, f"orders/{order_id}/events", alice)).json()
    assert history["order_id"] == order_id
    created, *_, cancelled = history["events"]
    assert list(created) == IN_ORDER
    assert set(created["data"]) == {
        "order_unique_key", "instrument", "side", "total_quantity", "num_splits",
        "duration_minutes", "randomize", "start_at", "session_policy", "placed_by", "release",
        "window_starts_at", "applied_policy", "sessions", "class_version",
    }  # fmt: skip
    caller = Caller.of_token(ISSUER, alice)
    assert (cancelled["type"], cancelled["data"]["reason"]) == ("OrderCancelled", "why")
    assert cancelled["data"]["cancelled_by"] == caller.placed_by
    inside = await apps.events(order_id)
    assert [one["type"] for one in history["events"]] == [one["type"] for one in inside]
    assert [one["recorded_at"] for one in history["events"]] == [
        one["recorded_at"] for one in inside
    ]


async def test_another_author_of_a_cancellation_is_not_shown(apps: Served) -> None:
    alice = anyone()
    (order_id,) = await placed(apps, alice, "a")
    assert (await apps.api.post(f"/internal/orders/{order_id}/cancel")).status_code == 200
    *_, cancelled = (await get(apps, f"orders/{order_id}/events", alice)).json()["events"]
    assert cancelled["data"]["cancelled_by"] is None


async def test_another_callers_history_is_answered_with_the_bytes_of_a_missing_one(
    apps: Served,
) -> None:
    request = order()
    alices = (await apps.place(request)).json()["order_id"]
    internal = (await apps.api.post("/internal/orders", json=request)).json()["order_id"]
    for subject in ("bob", "Alice", "internal", "desk"):
        for order_id in (alices, internal):
            answers = []
            for asked in (order_id, str(uuid4())):
                response = await get(apps, f"orders/{asked}/events", subject)
                fault(response, 404, "ORDER_NOT_FOUND")
                answers.append(response.content.replace(asked.encode(), b"ID"))
            assert answers[0] == answers[1]
    fault(await get(apps, "orders/no-id/events", "alice"), 404, "ORDER_NOT_FOUND")


async def test_a_cursor_from_before_the_log_was_restored_is_refused(
    own_apps: Served, conninfo: str
) -> None:
    await placed(own_apps, "alice", *"abc")
    cursor = (await get(own_apps, "orders", "alice", limit=1)).json()["next_cursor"]
    with psycopg.connect(as_superuser(conninfo)) as connection:
        connection.execute("UPDATE log_identity SET log_id = gen_random_uuid()")
    response = await get(own_apps, "orders", "alice", cursor=cursor)
    assert response.status_code == 400
    assert "before the log was restored" in response.json()["error"]["message"]


def order_of_alice() -> OrderCreated:
    key = uuid4().hex
    return order_created(
        key,
        originator_id=order_id_for(ALICE.key_scope, key),
        key_scope=ALICE.key_scope,
        placed_by=ALICE.placed_by,
    )


async def test_worker_claim_and_process_are_not_in_a_history(
    own_apps: Served, conninfo: str
) -> None:
    split, failed = (order_of_alice() for _ in range(2))
    write(conninfo, *stored([split, slices_scheduled(split), failed, splitting_failed(failed)]))
    for created in (split, failed):
        response = await get(own_apps, f"orders/{created.originator_id}/events", "alice")
        assert response.status_code == 200
        for secret in (b"worker", b"host:", b"claimed", b"recorded_by", b"position", b"trace"):
            assert secret not in response.content


async def test_the_worker_of_an_order_that_timed_out_is_not_shown(
    own_apps: Served, conninfo: str
) -> None:
    created = order_of_alice()
    write(conninfo, *stored([created, timed_out(created)]))

    async def listed_as_failed() -> bool:
        return await listed(own_apps, "alice", order_queue_status="FAILED") != []

    await until(listed_as_failed, "the order is projected")
    for path in (f"orders/{created.originator_id}", "orders"):
        response = await get(own_apps, path, "alice")
        assert b"worker" not in response.content
        assert b"place it again under a new key" in response.content


async def test_events_that_cannot_be_shown_have_no_data(own_apps: Served, conninfo: str) -> None:
    created = order_of_alice()
    newer = stored([slices_scheduled(created)])[0].state
    events = [
        StoredEvent(created.originator_id, 2, SlicesScheduled.TOPIC, b"broken"),
        StoredEvent(created.originator_id, 3, "elsewhere:Thing", b'{"secret":"of another"}'),
        StoredEvent(created.originator_id, 4, "pulse.domain:OfNewerCode", newer),
        StoredEvent(created.originator_id, 5, SlicesScheduled.TOPIC, b'{"timestamp":"x","a":1}'),
    ]
    write(conninfo, *stored([created]), *events)
    response = await get(own_apps, f"orders/{created.originator_id}/events", "alice")
    _, *others = response.json()["events"]
    assert [(one["type"], one["data"], one["occurred_at"]) for one in others] == [
        ("OtherEvent", {}, None)
    ] * 4
    assert [one["version"] for one in others] == [2, 3, 4, 5]


def view(key: str = "k", **changes: object) -> dict[str, object]:
    return {
        "order_id": str(order_id_for(ALICE.key_scope, "k")), "order_unique_key": key,
        "instrument": "NSE:X", "side": "BUY", "total_quantity": 10, "release": True,
        "split_config": {
            "num_splits": 2, "duration_minutes": 1, "randomize": True, "start_at": None,
            "session_policy": None,
        },
        "window": {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-01-01T00:01:00Z"},
        "order_queue_status": "PENDING", "failure_reason": None, "failure_message": None,
        "version": 1, "position": 2, "placed_by": ALICE.placed_by,
        "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        "split_completed_at": None, "claimed_by": None, "claimed_at": None, "slices": [],
        "quantities": {"remaining": 10, "released": 0, "cancelled": 0, "expired": 0},
        **changes,
    }  # fmt: skip


def page(*orders: dict[str, object], **changes: object) -> httpx.Response:
    content = {"orders": list(orders), "next_cursor": None, "as_of_position": 9} | changes
    return httpx.Response(200, json=content)


async def answer_to(path: str, *given: httpx.Response) -> tuple[httpx.Response, FakePulse]:
    """What the gateway makes of Pulse's answer to a call."""
    pulse = FakePulse()
    pulse.answers = list(given)
    async with gateway_in_front_of(httpx.MockTransport(pulse), SIGNER.settings) as client:
        response = await client.get(f"/api/{path}", headers=bearer(SIGNER.token(sub="alice")))
    return response, pulse


async def test_the_page_is_requested_on_behalf_of_the_caller() -> None:
    filters = {
        "order_queue_status": "PENDING",
        "instrument": "NSE:M&M",
        "order_unique_key": "a+b c",
        "created_from": "2026-01-05T09:15:00+05:30",
    }
    path = f"orders?{urlencode(filters, quote_via=quote)}&limit=3"
    response, pulse = await answer_to(path, page(view()))
    assert response.status_code == 200
    assert response.json()["next_cursor"] is None
    (request,) = pulse.requests
    assert request.headers["X-Pulse-On-Behalf-Of"] == ALICE.key_scope
    assert dict(request.url.params) == {
        **filters,
        "created_from": "2026-01-05T03:45:00Z",
        "limit": "3",
    }
    assert b"+" not in request.url.query


UNEXPECTED_ANSWERS = {
    "another caller's order": page(view("other")),
    "too many orders": page(view(), view()),
    "wrong quantities": page(view(total_quantity=11)),
    "no orders": httpx.Response(200, json={"next_cursor": None, "as_of_position": 9}),
    "no page": httpx.Response(200, text="<html>"),
    "no such path": refusal(404, "NOT_FOUND"),
    "another fault": refusal(400, "INVALID_REQUEST"),
    "too long": httpx.Response(200, content=b" " * 9_000_000),
}


@pytest.mark.parametrize("answer", UNEXPECTED_ANSWERS)
async def test_an_unexpected_page_is_a_plain_500(answer: str) -> None:
    response, _ = await answer_to("orders?limit=1", UNEXPECTED_ANSWERS[answer])
    fault(response, 500, "INTERNAL_ERROR")


async def test_unexpected_events_are_a_plain_500() -> None:
    order_id = order_id_for(ALICE.key_scope, "k")
    event: dict[str, Any] = {
        "position": 1, "order_id": str(order_id), "version": 1, "type": "OrderCreated",
        "occurred_at": "2026-01-01T00:00:00Z", "recorded_at": "2026-01-01T00:00:00Z",
        "data": {"order_unique_key": "k"},
    }  # fmt: skip
    path = f"orders/{order_id}/events"
    for events in (
        [],
        [event | {"data": {"order_unique_key": "other"}}],
        [event | {"data": {}}],
        [event, event | {"order_id": str(uuid4())}],
    ):
        content = {"order_id": str(order_id), "events": events}
        response, _ = await answer_to(path, httpx.Response(200, json=content))
        fault(response, 500, "INTERNAL_ERROR")
    content = {"order_id": str(order_id), "events": [event]}
    response, _ = await answer_to(path, httpx.Response(200, json=content))
    assert response.status_code == 200
    fault((await answer_to(path, refusal(404, "ORDER_NOT_FOUND")))[0], 404, "ORDER_NOT_FOUND")


async def test_the_api_limits_the_gateway_to_orders_of_its_caller(own_apps: Served) -> None:
    """Even a gateway that asks for others' orders gets those of its caller alone."""
    if own_apps.api.base_url.path == "/pulse/":
        pytest.skip("in one process no gateway calls the API")
    headers = {"X-Pulse-On-Behalf-Of": ALICE.key_scope}
    headers |= bearer(GATEWAY_TOKEN)
    for filters in ("placed_by=bob", "trace_id=t", "order_unique_key=a&key_scope=internal"):
        response = await own_apps.api.get(f"/internal/orders?{filters}", headers=headers)
        fault(response, 400, "INVALID_REQUEST")
    await own_apps.api.post("/internal/orders", json=order())
    response = await own_apps.api.get("/internal/orders", headers=headers)
    assert response.json()["orders"] == []
    assert response.json()["next_cursor"] is None

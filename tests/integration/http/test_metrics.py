"""GET /metrics: who may read it, what it has, and that unknown paths and methods share labels."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pulse.process.apps import api_app, gateway_app
from pulse.rights import ServiceRights
from pulse.secret import Secret, ServiceToken
from pulse.settings import Settings
from tests.support.api import api_settings, client_of, lifespan_of, serving
from tests.support.orders import ORDERS, fault, order, placed, post
from tests.support.tokens import bearer
from tests.support.waiting import until

METRICS = "/metrics"
READER, WRITER = "reader-token-" + "r" * 32, "writer-token-" + "w" * 32
SERVICES = (
    ServiceToken(name="reader", token=Secret(READER)),
    ServiceToken(name="writer", token=Secret(WRITER)),
)
RIGHTS = (ServiceRights("writer", frozenset({"write"})),)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
async def api(conninfo: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(api_settings(conninfo, release_slices=False, metrics=True)) as client:
        yield client


def samples_in(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def samples(client: httpx.AsyncClient) -> Samples:
    answer = await client.get(METRICS)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return samples_in(answer.text)


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0.0)


def request_labels(method: str, route: str, status: str) -> dict[str, str]:
    return {"method": method, "route": route, "status": status}


async def test_requests_are_counted_and_timed_by_route_template(api: httpx.AsyncClient) -> None:
    before = await samples(api)
    order_id = await placed(api)
    await api.get(f"{ORDERS}/{order_id}")
    await api.get(f"{ORDERS}/{order_id}/events")
    await post(api, {**order(), "side": "NEITHER"})
    for path in ("/nowhere", "/pulse/nowhere", f"/pulse/{order_id}"):
        await api.get(path)
    await api.request("PROPFIND", ORDERS)
    await api.request("INVENTED", ORDERS)
    after = await samples(api)
    expected = {
        ("POST", "/pulse/internal/orders", "201"): 1,
        ("POST", "/pulse/internal/orders", "400"): 1,
        ("GET", "/pulse/internal/orders/{order_id}", "200"): 1,
        ("GET", "/pulse/internal/orders/{order_id}/events", "200"): 1,
        ("GET", "unmatched", "404"): 3,
        ("other", "/pulse/internal/orders", "405"): 2,
        ("GET", "/metrics", "200"): 1,
    }
    for key, count in expected.items():
        labels = request_labels(*key)
        for name in ("pulse_http_requests_total", "pulse_http_request_seconds_count"):
            assert value(after, name, **labels) - value(before, name, **labels) == count, key
    assert order_id not in str(after)


async def test_appends_projections_and_splits_are_counted(api: httpx.AsyncClient) -> None:
    names = {
        "pulse_append_batch_events_sum": {},
        "pulse_append_flush_seconds_count": {},
        "pulse_projected_events_total": {},
        "pulse_outcomes_total": {"type": "SlicesScheduled", "reason": ""},
    }
    before = await samples(api)
    order_id = await placed(api)

    async def is_split() -> bool:
        status: str = (await api.get(f"{ORDERS}/{order_id}")).json()["order_queue_status"]
        return status == "COMPLETED"

    await until(is_split, "the order is split")
    (await api.post(f"{ORDERS}/{order_id}/cancel")).raise_for_status()
    after = await samples(api)
    for name, labels in names.items():
        assert value(after, name, **labels) > value(before, name, **labels), name
    cancelled = {"type": "OrderCancelled", "reason": ""}
    counted = value(after, "pulse_outcomes_total", **cancelled)
    assert counted == value(before, "pulse_outcomes_total", **cancelled) + 1
    states = [value(after, "pulse_pool_connections", state=state) for state in ("idle", "in_use")]
    assert sum(states) >= 1


async def test_the_gauges_of_the_database_are_exported(api: httpx.AsyncClient) -> None:
    await placed(api)

    async def exported() -> bool:
        return value(await samples(api), "pulse_workers") == 1

    await until(exported, "this process is elected")
    found = await samples(api)
    names = {name for name, _ in found}
    assert {
        *("pulse_orders", "pulse_oldest_pending_seconds", "pulse_projection_lag_events"),
        *("pulse_projection_lag_seconds", "pulse_claims", "pulse_slices_due", "pulse_halts"),
        "pulse_seal_lag_events",
        "pulse_build_info",
    } <= names


@asynccontextmanager
async def guarded(conninfo: str, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        database_url=conninfo, service_tokens=SERVICES, service_rights=RIGHTS, **changes
    )
    async with serving(settings) as client:
        yield client


async def test_with_tokens_metrics_need_one_with_the_right_to_read(shared_conninfo: str) -> None:
    async with guarded(shared_conninfo) as client:
        fault(await client.get(METRICS), 401, "UNAUTHORIZED")
        fault(await client.get(METRICS, headers=bearer("wrong")), 401, "UNAUTHORIZED")
        details = fault(await client.get(METRICS, headers=bearer(WRITER)), 403, "FORBIDDEN")
        assert details["required_right"] == "read"
        answer = await client.get(METRICS, headers=bearer(READER))
        assert answer.status_code == 200
        assert READER not in answer.text


async def test_without_tokens_only_this_machine_may_read_it(api: httpx.AsyncClient) -> None:
    fault(await api.get(METRICS, headers={"X-Forwarded-For": "1.2.3.4"}), 403, "FORBIDDEN")


async def test_other_methods_paths_and_parameters_are_refused(api: httpx.AsyncClient) -> None:
    fault(await api.post(METRICS), 405, "METHOD_NOT_ALLOWED")
    fault(await api.get(f"{METRICS}?name[]=pulse_orders"), 400, "INVALID_REQUEST")
    fault(await api.get(f"{METRICS}/more"), 404, "NOT_FOUND")
    fault(await api.get("/pulse/metrics"), 404, "NOT_FOUND")
    head = await api.head(METRICS)
    assert (head.status_code, head.content) == (200, b"")


async def test_metrics_that_are_turned_off_are_not_found(shared_conninfo: str) -> None:
    async with serving(Settings(database_url=shared_conninfo, metrics=False)) as client:
        fault(await client.get(METRICS), 404, "NOT_FOUND")
        (await client.get("/pulse/internal/hello")).raise_for_status()


@pytest.mark.parametrize("kind", ["api", "gateway"])
async def test_the_api_and_the_gateway_alone_have_metrics_too(
    shared_conninfo: str, kind: str
) -> None:
    settings = Settings(database_url=shared_conninfo)
    app = api_app(settings) if kind == "api" else gateway_app(settings)
    async with lifespan_of(app), client_of(app) as client:
        (await client.get("/health")).raise_for_status()
        found = await samples(client)
    labels = request_labels("GET", "/health", "200")
    assert value(found, "pulse_http_requests_total", **labels) >= 1

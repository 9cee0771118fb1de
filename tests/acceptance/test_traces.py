"""Traces of real processes, received over OTLP."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.test_gateway_processes import (
    DESK_TOKEN,
    IDENTITY,
    SERVICES,
    SIGNER,
    gateway_alone,
)
from tests.support.fleet import api_alone, workers_alone
from tests.support.orders import order
from tests.support.otlp import Received, collector
from tests.support.processes import PulseProcess, free_port, pulse, until
from tests.support.tokens import bearer

CALLERS_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS_SPAN = "00f067aa0ba902b7"
CALLER = {
    "traceparent": f"00-{CALLERS_TRACE}-{CALLERS_SPAN}-01",
    "tracestate": "vendor=opaque, congo=t61rcWkgMzE",
}
WITHOUT_OTEL = (
    "import sys; sys.modules['opentelemetry'] = None; sys.argv = ['pulse', 'up']; "
    "from pulse.cli import main; main()"
)


def export_to(endpoint: str, patch: pytest.MonkeyPatch, **variables: str) -> None:
    """Let processes that are started from now on export their spans quickly."""
    patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
    patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    for name, value in variables.items():
        patch.setenv(name, value)


def one(spans: list[Received], name: str, service: str) -> Received:
    (found,) = [span for span in spans if (span.name, span.service) == (name, service)]
    return found


def test_one_trace_leads_from_the_gateway_to_the_release_over_three_processes(
    tmp_path: Path, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"database_url": module_database_url, "service_tokens": SERVICES}
    gateway_command = ("-m", "pulse.cli", "gateway")
    with collector() as received:
        export_to(received.endpoint, monkeypatch)
        with (
            api_alone(tmp_path, **settings) as api,
            workers_alone(tmp_path, **settings),
            gateway_alone(tmp_path, api, *gateway_command, **IDENTITY) as gateway,
        ):
            headers = {**bearer(SIGNER.token()), **CALLER}
            answer = gateway.http.post("/api/orders", json=order(), headers=headers)
            assert answer.status_code == 202, answer.text
            order_id = answer.json()["order_id"]

            def spans() -> list[Received]:
                return received.of_trace(CALLERS_TRACE)

            until(lambda: "release slices" in {s.name for s in spans()}, "a slice is released")
            until(lambda: received.named("claim orders"), "the claim is exported")
            path = f"/internal/orders/{order_id}/events"
            events = api.http.get(path, headers=bearer(DESK_TOKEN)).json()["events"]
        lines = gateway.logged + api.logged
        found = spans()
    at_gateway = one(found, "POST /api/orders", "pulse-gateway")
    call = one(found, "POST", "pulse-gateway")
    at_api = one(found, "POST /internal/orders", "pulse-api")
    append = one(found, "append OrderCreated", "pulse-api")
    split = one(found, "split order", "pulse-background")
    second_append = one(found, "append SlicesScheduled", "pulse-background")
    release = one(found, "release slices", "pulse-background")
    chain = [
        (at_gateway, CALLERS_SPAN, "SERVER"),
        (call, at_gateway.span_id, "CLIENT"),
        (at_api, call.span_id, "SERVER"),
        (append, at_api.span_id, "INTERNAL"),
        (split, at_api.span_id, "CONSUMER"),
        (second_append, split.span_id, "INTERNAL"),
        (release, at_api.span_id, "CONSUMER"),
    ]
    for span, parent_id, kind in chain:
        assert (span.parent_id, span.kind, span.failed) == (parent_id, kind, False), span
    assert {at_gateway.attributes["http.route"], at_api.attributes["http.route"]} == {
        "/api/orders",
        "/internal/orders",
    }
    assert at_api.attributes["http.response.status_code"] == 201
    for span in (at_api, split, release):
        assert span.attributes["pulse.order_id"] == order_id

    (claim,) = received.named("claim orders")
    assert claim.links == ((CALLERS_TRACE, at_api.span_id),)
    assert split.links == ((claim.trace_id, claim.span_id),)
    commits = [link for span in received.named("commit events") for link in span.links]
    for span in (append, second_append, release):
        assert (CALLERS_TRACE, span.span_id) in commits

    contexts = {event["type"]: event["data"]["trace"] for event in events}
    writers = {"OrderCreated": at_api, "SlicesScheduled": split, "SlicesReleased": release}
    for kind, span in writers.items():
        assert contexts[kind]["traceparent"] == f"00-{CALLERS_TRACE}-{span.span_id}-01"
        assert contexts[kind]["tracestate"] == "vendor=opaque,congo=t61rcWkgMzE"
    assert lines.count(f'"w3c_trace_id":"{CALLERS_TRACE}"') == 2


def test_health_checks_and_scrapes_have_no_spans_and_a_failure_has_one(
    tmp_path: Path, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as received:
        export_to(received.endpoint, monkeypatch, OTEL_SERVICE_NAME="desk-pulse")
        with pulse(tmp_path, database_url=module_database_url) as process:
            root = f"http://127.0.0.1:{process.port}"
            for path in ("/metrics", "/pulse/health", "/pulse/health/ready"):
                assert "traceparent" not in process.http.get(root + path).headers
            answer = process.http.get("/internal/hello?token=secret")
            made = re.fullmatch(
                r"00-([0-9a-f]{32})-([0-9a-f]{16})-0[13]", answer.headers["traceparent"]
            )
            assert made is not None
            assert process.stop() == 0
        names = [span.name for span in received.spans if span.kind == "SERVER"]
        assert names == ["GET /pulse/internal/hello"]
        (span,) = received.named("GET /pulse/internal/hello")
        assert (span.trace_id, span.span_id, span.parent_id) == (*made.groups(), "")
        assert span.service == "desk-pulse"
        assert "secret" not in repr(received.spans)


def placed_despite(process: PulseProcess) -> str:
    answer = process.post(order())
    assert answer.status_code == 201, answer.text
    process.until_completed(answer.json()["order_id"])
    return str(answer.headers["traceparent"])


def test_an_unreachable_collector_causes_one_warning(
    tmp_path: Path, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = f"http://user:password@127.0.0.1:{free_port()}"
    export_to(endpoint, monkeypatch, OTEL_EXPORTER_OTLP_TIMEOUT="0.2")
    with pulse(tmp_path, database_url=module_database_url) as process:
        placed_despite(process)
        until(lambda: "traces.export_failed" in process.logged, "the warning is logged")
        placed_despite(process)
        assert process.stop() == 0
        assert process.logged.count("traces.export_failed") == 1
        assert "opentelemetry" not in process.logged
        assert "password" not in process.logged


def test_exports_are_resumed_when_the_collector_is_back(
    tmp_path: Path, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as received:
        received.refuse_with = 400
        export_to(received.endpoint, monkeypatch)
        with pulse(tmp_path, database_url=module_database_url) as process:
            placed_despite(process)
            until(lambda: "traces.export_failed" in process.logged, "the warning is logged")
            received.refuse_with = 0
            traceparent = placed_despite(process)
            until(lambda: received.of_trace(traceparent[3:35]), "spans arrive again")
            until(lambda: "traces.export_restored" in process.logged, "and the log says so")


def test_without_the_extra_an_endpoint_causes_one_warning(
    tmp_path: Path, module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_to("http://127.0.0.1:4318", monkeypatch)
    with pulse(tmp_path, command=("-c", WITHOUT_OTEL), database_url=module_database_url) as process:
        answer = process.post(order())
        assert answer.status_code == 201
        assert "traceparent" not in answer.headers
        assert process.logged.count("traces.not_installed") == 1
        assert "pip install 'pulse[otel]'" in process.logged


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        },
    ],
    ids=["no variable", "gRPC"],
)
def test_without_an_endpoint_pulse_imports_nothing_of_opentelemetry(
    tmp_path: Path,
    module_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    command = ("-X", "importtime", "-m", "pulse.cli", "up")
    with pulse(tmp_path, command=command, database_url=module_database_url) as process:
        answer = process.post(order())
        assert "traceparent" not in answer.headers
        process.until_completed(answer.json()["order_id"])
        imported = set(re.findall(r"\| +([\w.]+)\n", process.logged))
        assert "pulse.tracing" in imported
        not_needed = ("pulse.spans", "opentelemetry.sdk", "opentelemetry.trace", "google.protobuf")
        assert not imported & {*not_needed, "opentelemetry.exporter"}  # Litestar imports others
        assert ("traces.wrong_protocol" in process.logged) is ("grpc" in variables.values())

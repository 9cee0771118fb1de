"""A wrong variable of OpenTelemetry never stops Pulse: it runs without traces, and says why."""

import sys

import pytest
from structlog.testing import capture_logs

from pulse.tracing import ENDPOINTS, open_spans


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "-1"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "abc"),
    ],
)
async def test_a_wrong_value_is_a_warning(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:9")
    monkeypatch.setenv(variable, value)
    with capture_logs() as lines:
        async with open_spans("pulse") as spans:
            assert spans is None
    assert [line["event"] for line in lines] == ["traces.not_started"]
    assert lines[0]["reason"]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_SERVICE_NAME": "pulse"},
        {ENDPOINTS[1]: "", "OTEL_SERVICE_NAME": "pulse"},
        {ENDPOINTS[1]: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
        {ENDPOINTS[1]: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": " TRUE "},
        {ENDPOINTS[0]: "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
    ids=str,
)
async def test_without_an_endpoint_or_turned_off_nothing_is_imported_or_logged(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process imports nothing of OpenTelemetry then: tests/acceptance/test_traces.py."""
    monkeypatch.setitem(sys.modules, "pulse.spans", None)  # to import it is an error, logged
    with capture_logs() as lines:
        async with open_spans("pulse", variables) as spans:
            assert spans is None
    assert lines == []


@pytest.mark.parametrize("exporter", ["none", "NONE", "console"])
async def test_another_exporter_turns_traces_off(
    exporter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporter)
    async with open_spans("pulse") as spans:
        assert spans is None

"""A wrong variable of OpenTelemetry never stops Pulse: it runs without traces, and says why."""

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


@pytest.mark.parametrize("exporter", ["none", "NONE", "console"])
async def test_another_exporter_turns_it_off(
    exporter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENDPOINTS[0], "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", exporter)
    async with open_spans("pulse") as spans:
        assert spans is None

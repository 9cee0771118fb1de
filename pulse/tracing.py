"""Traces: spans are exported with OpenTelemetry if an endpoint of a collector is set.

The variables are those of OpenTelemetry, not PULSE_*. Without an endpoint OpenTelemetry is not
imported, and `open_spans` yields None.
"""

import importlib
import importlib.util
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from pulse.spans import Spans

_log = structlog.get_logger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_NOT_INSTALLED: Final = "pip install 'pulse[otel]', or unset the variable"
_NOT_STARTED: Final = "correct the OTEL_* variables; Pulse runs without traces"
_WRONG_PROTOCOL: Final = f"set it to {_PROTOCOL}, and the endpoint to the collector's HTTP port"
_EXPORTER_MODULE: Final = "opentelemetry.exporter.otlp.proto.http"


@asynccontextmanager
async def open_spans(
    service_name: str, environment: Mapping[str, str] = os.environ
) -> AsyncIterator["Spans | None"]:
    """The exporter of this process's spans; None if traces are off.

    Traces are on if one of ENDPOINTS is set. OTEL_SDK_DISABLED=true turns them off, and so does an
    OTEL_TRACES_EXPORTER other than otlp, such as none. If the exporter cannot be started, a warning
    is logged and Pulse runs without traces. On exit queued spans are exported, for a limited time.
    """
    if not _may_export(environment):
        yield None
        return
    try:
        spans = importlib.import_module("pulse.spans").start(service_name)
    except Exception as error:  # noqa: BLE001 - a wrong variable of OpenTelemetry must not stop Pulse
        _log.warning("traces.not_started", reason=str(error), remedy=_NOT_STARTED)
        yield None
        return
    try:
        yield spans
    finally:
        await spans.close()


def _may_export(environment: Mapping[str, str]) -> bool:
    variable = _first_set(environment, ENDPOINTS)
    disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if (
        variable is None
        or disabled
        or environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() not in {"", "otlp"}
    ):
        return False
    protocol = _first_set(environment, _PROTOCOLS)
    if protocol is not None and environment[protocol].strip() != _PROTOCOL:
        _log.warning("traces.wrong_protocol", variable=protocol, remedy=_WRONG_PROTOCOL)
        return False
    if not _is_installed():
        _log.warning("traces.not_installed", variable=variable, remedy=_NOT_INSTALLED)
        return False
    return True


def _first_set(environment: Mapping[str, str], variables: tuple[str, ...]) -> str | None:
    return next((name for name in variables if environment.get(name, "").strip()), None)


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(_EXPORTER_MODULE) is not None
    except ImportError:  # a package that contains it is missing
        return False

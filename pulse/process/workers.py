"""Runs the workers of a process without HTTP.

Such a process imports the web framework only if it has a monitoring port: the import takes a third
of the time of a start.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import structlog

from pulse.application.readiness import Readiness
from pulse.errors import PulseError
from pulse.logs import report_fatal_error
from pulse.process.group.member import Member
from pulse.process.group.metrics import exposing_metrics
from pulse.process.node import WorkerLocation, open_node
from pulse.process.startup import STOP_SIGNALS, stop_on_hangup, tune_gc
from pulse.settings import Settings
from pulse.tracing import open_spans

_log = structlog.get_logger(__name__)


async def run_workers(
    settings: Settings,
    member: Member | None = None,
    on_started: Callable[[], None] = lambda: None,
) -> None:
    """Run the workers until SIGTERM or SIGINT. Exit with code 3 if they cannot start.

    `on_started` is called once they run. A member of a group has no monitoring port, since the
    group has one `/metrics`.
    """
    stopped = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    stop_on_hangup()
    try:
        monitoring = _monitoring(settings, member)
        async with (
            open_spans("pulse-background") as spans,
            exposing_metrics(settings, member),
            open_node(settings, spans, WorkerLocation.HERE) as node,
            monitoring(node.readiness),
        ):
            tune_gc()
            _log.info("workers.started")
            on_started()
            await stopped.wait()
            _log.info("workers.stopping")
    except PulseError as error:
        report_fatal_error(str(error))
        raise SystemExit(3) from None
    _log.info("workers.stopped")


def _monitoring(
    settings: Settings, member: Member | None
) -> Callable[[Readiness], AbstractAsyncContextManager[None]]:
    """Bind the monitoring port, if there is one; returns what serves it while its context lasts."""
    if member is not None or settings.monitoring_port is None:
        return lambda _: nullcontext()
    # Only with a port, and before the node runs: the import blocks the event loop.
    from pulse.process.monitoring import bind_monitoring, serve_monitoring  # noqa: PLC0415

    sockets = bind_monitoring(settings.host, settings.monitoring_port)
    return partial(serve_monitoring, settings, sockets)

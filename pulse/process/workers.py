"""Runs the workers of a process without HTTP.

Such a process does not import the web framework, which is a third of the time of its start, unless
it has a monitoring port.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog

from pulse.errors import PulseError
from pulse.logs import report_fatal_error
from pulse.process.group.member import Member
from pulse.process.group.metrics import exposing_metrics
from pulse.process.node import Node, Workers, open_node
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
        port = settings.monitoring_port if member is None else None
        sockets = [] if port is None else _bind(settings.host, port)
        async with (
            open_spans("pulse-background") as spans,
            exposing_metrics(settings, member),
            open_node(settings, spans, Workers.HERE) as node,
            _monitoring(settings, node, sockets),
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


def _bind(host: str, port: int) -> list[socket.socket]:
    from pulse.process.monitoring import bind_monitoring  # noqa: PLC0415 - see above

    return bind_monitoring(host, port)


@asynccontextmanager
async def _monitoring(
    settings: Settings, node: Node, sockets: list[socket.socket]
) -> AsyncIterator[None]:
    """Serve metrics and health on these sockets, if there are any."""
    if not sockets:
        yield
        return
    from pulse.process.apps import monitoring_app  # noqa: PLC0415 - see above
    from pulse.process.monitoring import serving  # noqa: PLC0415 - see above

    async with serving(monitoring_app(settings, node.readiness), sockets):
        yield

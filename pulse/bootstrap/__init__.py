"""The composition root: wires the rooms together. Only the entry points and tests import it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from pulse.bootstrap.limits import internal_rate_limit, limits_of
from pulse.bootstrap.node import Node
from pulse.bootstrap.server import open_server
from pulse.errors import PulseError
from pulse.http.api import create_api
from pulse.http.root import Mounts, Root
from pulse.logs import configure_logs
from pulse.settings import Settings, SettingsError

_log = structlog.get_logger(__name__)
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def settings_from_environment() -> Settings:
    """The settings of this process; wrong ones end it with exit code 2 and one message."""
    try:
        settings = Settings.from_environment(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    configure_logs(settings.log_format, settings.log_level)
    return settings


def everything(settings: Settings) -> Root:
    """API and workers in one process, on one pool; the API lives under `/pulse`."""
    return Root(lambda: _mounted(settings, "/pulse", with_workers=True), limits_of(settings))


def api_alone(settings: Settings) -> Root:
    """The API at `/`, without workers: orders stay PENDING until somebody's worker takes them."""
    return Root(lambda: _mounted(settings, "", with_workers=False), limits_of(settings))


async def work_until_stopped(settings: Settings) -> None:
    """The workers alone, until SIGTERM or SIGINT; what cannot start ends it with exit code 3."""
    stopped = asyncio.Event()
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        async with _open_node(settings, with_workers=True):
            _log.info("workers.started")
            await stopped.wait()
            _log.info("workers.stopping")
    except PulseError as error:
        sys.stderr.write(f"pulse: {error}\n")
        raise SystemExit(3) from None
    _log.info("workers.stopped")


@asynccontextmanager
async def _mounted(settings: Settings, prefix: str, *, with_workers: bool) -> AsyncIterator[Mounts]:
    async with _open_node(settings, with_workers=with_workers) as node:
        api = create_api(node.orders, node.readiness)
        yield {prefix: internal_rate_limit(api, settings)}


@asynccontextmanager
async def _open_node(settings: Settings, *, with_workers: bool) -> AsyncIterator[Node]:
    async with open_server(settings) as server:
        node = Node(settings, server.conninfo)
        async with node.running(with_workers=with_workers):
            watch = asyncio.create_task(server.watch())
            try:
                yield node
            finally:
                watch.cancel()

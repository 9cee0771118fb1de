"""The composition root: wires the rooms together. Only the entry points and tests import it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pulse.http.api import create_api
from pulse.http.root import Mounts, Root
from pulse.logs import configure_logs
from pulse.node import Node
from pulse.server import open_server
from pulse.settings import Settings, SettingsError


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
    return Root(lambda: _open_everything(settings))


@asynccontextmanager
async def _open_everything(settings: Settings) -> AsyncIterator[Mounts]:
    async with open_server(settings) as server:
        node = Node(settings, server.conninfo)
        async with node.running(with_workers=True):
            watch = asyncio.create_task(server.watch())
            try:
                yield {"/pulse": create_api(node.orders, node.readiness)}
            finally:
                watch.cancel()

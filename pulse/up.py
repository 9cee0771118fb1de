"""`pulse up`: uvicorn with everything in it, saying where it listens once it does."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn

from pulse.bootstrap import everything, settings_from_environment
from pulse.settings import Settings

_GRACE_SECONDS: Final = 15
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_GREETING: Final = """\
Pulse listens on {url}

Post an order, then look at it and its slices:

  curl -s {url}/pulse/internal/orders -H 'Content-Type: application/json' \\
    -d '{{"order_unique_key":"ouk_first","instrument":"NSE:RELIANCE","side":"BUY",\
"total_quantity":100,"split_config":{{"num_splits":5,"duration_minutes":60}}}}'

  curl -s {url}/pulse/internal/orders/ORDER_ID

Ctrl-C stops everything.
"""


class _Server(uvicorn.Server):
    """Uvicorn that greets when it listens, and ends well when it is told to stop.

    Uvicorn itself raises the signal again once it has stopped, which would make a clean stop look
    like a crash to whoever started it.
    """

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self._greeting, flush=True)  # noqa: T201 - said to whoever ran the command

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)


def serve_everything() -> None:
    """Serve API and workers until a signal says stop; exit code 3 if they could not start."""
    settings = settings_from_environment()
    config = uvicorn.Config(
        everything(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _Server(config, _GREETING.format(url=_url(settings)))
    server.run()
    if not server.started:
        raise SystemExit(3)


def _url(settings: Settings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"

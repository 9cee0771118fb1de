"""`pulse up`, `pulse api`, `pulse background`: the processes of Pulse."""

import asyncio
from typing import Annotated, Final

import msgspec
import typer

from pulse.bootstrap import (
    api_alone,
    everything,
    settings_from_environment,
    work_until_stopped,
)
from pulse.cli.listening import serve, url_of
from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.settings import Settings

Host = Annotated[
    str | None,
    typer.Option(help="Where to listen, over PULSE_HOST; 127.0.0.1 if neither is given."),
]
Port = Annotated[
    int | None,
    typer.Option(min=1, max=65_535, help="Its port, over PULSE_PORT; 8000 if neither is given."),
]

_FIRST_KEY: Final = "ouk_first"
_FIRST_ORDER: Final = f"""\
Post an order, then look at it and its slices:

  curl -s {{root}}/internal/orders -H 'Content-Type: application/json' \\
    -d '{{{{"order_unique_key":"{_FIRST_KEY}","instrument":"NSE:RELIANCE","side":"BUY",\
"total_quantity":100,"split_config":{{{{"num_splits":5,"duration_minutes":60}}}}}}}}'

  curl -s {{root}}/internal/orders/{order_id_for(INTERNAL_SCOPE, _FIRST_KEY)}
"""
_UP: Final = f"""\
Pulse listens on {{url}}

{_FIRST_ORDER}
Ctrl-C stops everything.
"""
_API: Final = f"""\
The Pulse API listens on {{url}}

{_FIRST_ORDER}
Orders stay PENDING until workers run: `pulse background`, with the same PULSE_* variables.
Ctrl-C stops the API.
"""


def up(host: Host = None, port: Port = None) -> None:
    """Start everything in one process: API and workers.

    Needs nothing: without PULSE_DATABASE_URL it starts an embedded Postgres with
    its data in PULSE_DATA_DIR (.pulse). The API lives under /pulse. Ctrl-C and
    SIGTERM finish what is under way and stop everything, the embedded Postgres
    included.

    Exit codes: 0 stopped when told to, 2 wrong usage or settings, 3 could not
    start (the port is taken, or the schema cannot be made current).

    Example:
      pulse up --port 8080
    """
    settings = _settings(host, port)
    serve(everything(settings), settings, _UP.format(url=url_of(settings), root=_under(settings)))


def api(host: Host = None, port: Port = None) -> None:
    """Start the API alone, at /.

    Takes and answers orders; they stay PENDING until somebody's workers take
    them. Needs a Postgres it shares with the workers: PULSE_DATABASE_URL, or the
    same PULSE_DATA_DIR on the same machine. Ctrl-C and SIGTERM finish what is
    under way.

    Exit codes: 0 stopped when told to, 2 wrong usage or settings, 3 could not
    start (the port is taken, or the schema cannot be made current).

    Example, the workers in another terminal:
      pulse api --port 8001
      pulse background
    """
    settings = _settings(host, port)
    serve(api_alone(settings), settings, _API.format(url=url_of(settings), root=url_of(settings)))


def background() -> None:
    """Start the workers alone.

    Splits orders, gives up those that take too long, hands back what gone
    workers held. Any number of them may run on any number of machines; they need
    the Postgres of the API: PULSE_DATABASE_URL, or the same PULSE_DATA_DIR on the
    same machine. Ctrl-C and SIGTERM finish the batch under way or hand it back.

    Exit codes: 0 stopped when told to, 2 wrong usage or settings, 3 could not
    start (the schema cannot be made current).

    Example:
      PULSE_BATCH_SIZE=50 pulse background
    """
    asyncio.run(work_until_stopped(settings_from_environment()))


def _settings(host: str | None, port: int | None) -> Settings:
    settings = settings_from_environment()
    return msgspec.structs.replace(settings, host=host or settings.host, port=port or settings.port)


def _under(settings: Settings) -> str:
    return f"{url_of(settings)}/pulse"

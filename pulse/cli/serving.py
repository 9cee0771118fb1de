"""`pulse up`, `pulse api`, `pulse gateway`: start the processes of Pulse that serve HTTP."""

import shlex
import signal
import socket
import sys
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from pulse.cli.exits import CouldNotStart, WrongSettings
from pulse.cli.server import serve, serve_group, url_of
from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.evidence.key_file import KeyFileUnusable
from pulse.http.auth import is_loopback
from pulse.printable import printable_lines
from pulse.process.apps import all_in_one_app, api_app, gateway_app
from pulse.process.development_key import KeyUnsafe, has_key, with_development_key
from pulse.process.group.supervisor import GroupSize
from pulse.process.seal import with_seal_key
from pulse.process.startup import settings_from_environment
from pulse.settings import MAX_PROCESSES, Settings

_FIRST_KEY: Final = "ouk_first"
_ORDER: Final = (
    f'{{"order_unique_key":"{_FIRST_KEY}","instrument":"NSE:RELIANCE","side":"BUY",'
    '"total_quantity":100,"split_config":{"num_splits":5,"duration_minutes":60}}'
)
_AS_SERVICE: Final = '-H "Authorization: Bearer $PULSE_SERVICE_TOKEN" '

Host = Annotated[
    str | None,
    typer.Option(help="Address to listen on; overrides PULSE_HOST (127.0.0.1)."),
]
Port = Annotated[
    int | None,
    typer.Option(min=1, max=65_535, help="Port to listen on; overrides PULSE_PORT (8000)."),
]


Processes = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_PROCESSES,
        help="Processes that serve the port; overrides PULSE_PROCESSES (1).",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=MAX_PROCESSES,
        help="Separate processes for the workers; overrides PULSE_WORKER_PROCESSES.",
    ),
]


def up(
    host: Host = None,
    port: Port = None,
    processes: Processes = None,
    workers: Workers = None,
) -> None:
    """Start everything: gateway, API and workers, in one process or in several.

    Needs no configuration: without PULSE_DATABASE_URL it starts an embedded
    Postgres with its data in PULSE_DATA_DIR (.pulse); without a token key
    (PULSE_JWT_*) it creates a development key there, which `pulse token` signs
    with. There it also creates a key that signs the seal of the embedded log, if
    PULSE_SEAL_KEY is not set. The API is under /pulse, the gateway under /gapi;
    each has its documentation at /docs. Ctrl-C and SIGTERM finish the requests
    and batches in progress and stop everything, also the embedded Postgres unless
    another process uses it.

    Without PULSE_SERVICE_TOKENS it listens on loopback addresses only, since the
    internal API would be open to other machines.

    With --processes N, N processes serve the port and the workers run in
    separate processes (--workers, by default 1). A process that ends is
    replaced. SIGHUP restarts one after the other, and no request is refused
    meanwhile.

    Exit codes: 0 stopped by a signal, 2 wrong usage or settings, 3 could not
    start (the port is in use, or the schema cannot be migrated).

    Example:
      pulse up --port 8080
      pulse up --processes 4
    """
    settings = _settings(host, port)
    _refuse_open_api(settings)
    ready = _with_development_keys(settings)
    size = _group_size(settings, processes, workers)
    if size is None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
        serve(all_in_one_app(ready), ready, _greeting_of_up(settings))
    else:
        serve_group(ready, size, _greeting_of_up(settings))


def api(host: Host = None, port: Port = None) -> None:
    """Start the API alone, at /.

    Accepts orders, which stay PENDING until workers claim them. Needs the same
    Postgres as the workers: PULSE_DATABASE_URL, or the same PULSE_DATA_DIR on the
    same machine. Ctrl-C and SIGTERM finish the requests in progress.

    Without PULSE_SERVICE_TOKENS it listens on loopback addresses only and accepts
    only requests of this machine; with them calls below /internal, /metrics and
    the console need a token. The documentation of the calls is at /docs.

    Exit codes: 0 stopped by a signal, 2 wrong usage or settings, 3 could not
    start (the port is in use, or the schema cannot be migrated).

    Example, with the workers in another terminal:
      pulse api --port 8001
      pulse background
    """
    settings = _settings(host, port)
    _refuse_open_api(settings)
    serve(api_app(settings), settings, _greeting_of_api(settings))


def gateway(host: Host = None, port: Port = None) -> None:
    """Start the gateway alone, at /.

    Checks the callers' tokens and forwards their orders to the Pulse API at
    PULSE_API_BASE_URL (http://127.0.0.1:8001), on behalf of each caller. It needs
    no database, but a token key (PULSE_JWT_*, or the development key that
    `pulse up` created in PULSE_DATA_DIR) and PULSE_GATEWAY_SERVICE_TOKEN, which
    the API knows as the token of the service `gateway`. Without a key every token
    is refused; while Pulse is unavailable, calls about orders return 503.

    Exit codes: 0 stopped by a signal, 2 wrong usage or settings, 3 could not
    start (the port is in use).

    Example, in two terminals, with the same TOKEN of at least 32 characters:
      PULSE_SERVICE_TOKENS=gateway:$TOKEN pulse api --port 8001
      PULSE_GATEWAY_SERVICE_TOKEN=$TOKEN pulse gateway --port 8002
    """
    settings = _with_development_key(_settings(host, port), make=False)
    serve(gateway_app(settings), settings, _greeting_of_gateway(settings))


def _settings(host: str | None, port: int | None) -> Settings:
    settings = settings_from_environment()
    host = host or settings.host
    try:
        host.encode("idna")
    except UnicodeError:
        raise WrongSettings(
            f"{host} is neither a host name nor an address: set --host or PULSE_HOST to one, such "
            "as 127.0.0.1"
        ) from None
    return msgspec.structs.replace(settings, host=host, port=port or settings.port)


def _group_size(settings: Settings, processes: int | None, workers: int | None) -> GroupSize | None:
    """How many processes to start; None for one process with everything."""
    serving = processes or settings.processes
    working = workers or settings.worker_processes
    if serving == 1 and working is None:
        return None
    return GroupSize(serving, working or 1)


def _with_development_key(settings: Settings, *, make: bool) -> Settings:
    try:
        return with_development_key(settings, make=make)
    except KeyUnsafe as error:
        raise CouldNotStart(str(error)) from error


def _with_development_keys(settings: Settings) -> Settings:
    """The settings with the development keys of gateway and seal, which are created if missing."""
    ready = _with_development_key(settings, make=True)
    try:
        return with_seal_key(ready)
    except KeyFileUnusable as error:
        raise CouldNotStart(str(error)) from error


def _refuse_open_api(settings: Settings) -> None:
    """Refuse to listen for other machines if no service tokens are set."""
    if settings.service_tokens or _is_this_machine(settings.host):
        return
    raise WrongSettings(
        f"will not listen on {settings.host}: without service tokens the internal API would be "
        "open to other machines; set PULSE_SERVICE_TOKENS, or listen on 127.0.0.1"
    )


def _is_this_machine(host: str) -> bool:
    """Whether this name resolves to loopback addresses only."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(is_loopback(str(address[0])) for *_, address in found)


def _greeting_of_up(settings: Settings) -> str:
    url = url_of(settings)
    return printable_lines(f"""\
Pulse listens on {url}
Console: {url}/console
Documentation: {url}/pulse/docs and {url}/gapi/docs

{_first_order(settings, f"{url}/pulse")}
{_first_order_through_gateway(settings, f"{url}/gapi")}
Ctrl-C stops everything.
""")


def _greeting_of_api(settings: Settings) -> str:
    url = url_of(settings)
    return printable_lines(f"""\
The Pulse API listens on {url}
Console: {url}/console
Documentation: {url}/docs

{_first_order(settings, url)}
Orders stay PENDING until workers run: `pulse background`, with the same PULSE_* variables.
Ctrl-C stops the API.
""")


def _greeting_of_gateway(settings: Settings) -> str:
    url = url_of(settings)
    return printable_lines(f"""\
The gateway listens on {url}
Documentation: {url}/docs

It forwards orders to the Pulse API at {settings.api_base_url}. Ctrl-C stops the gateway.
""")


def _first_order(settings: Settings, root: str) -> str:
    token = _AS_SERVICE if settings.service_tokens else ""
    note = ", with one of the service tokens in PULSE_SERVICE_TOKEN" if token else ""
    return f"""\
Post an order, then read it with its slices{note}:

  curl -s {root}/internal/orders {token}-H 'Content-Type: application/json' \\
    -d '{_ORDER}'

  curl -s {token}{root}/internal/orders/{order_id_for(INTERNAL_SCOPE, _FIRST_KEY)}
"""


def _first_order_through_gateway(settings: Settings, root: str) -> str:
    if has_key(settings):
        return f"The gateway accepts tokens of {settings.jwt_issuer}: POST {root}/api/orders\n"
    return f"""\
Or through the gateway, with a token signed with the development key:

  curl -s {root}/api/orders -H 'Content-Type: application/json' \\
    -H "Authorization: Bearer $({_token_command(settings)} --subject me)" \\
    -d '{_ORDER}'
"""


def _token_command(settings: Settings) -> str:
    """The `pulse token` command for another terminal in this directory."""
    here = Path.cwd()
    installed = Path(sys.executable).with_name("pulse")
    program = [str(installed)] if installed.exists() else [sys.executable, "-m", "pulse.cli"]
    if installed.exists() and installed.is_relative_to(here):
        program = [str(installed.relative_to(here))]
    if settings.data_dir == Settings().data_dir:
        return shlex.join([*program, "token"])
    return shlex.join([*program, "token", "--data-dir", str(settings.data_dir.absolute())])

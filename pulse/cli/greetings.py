"""What a serving process says once it listens: commands that work as they stand."""

import shlex
import sys
from pathlib import Path
from typing import Final

from pulse.cli.server import url_of
from pulse.domain import INTERNAL_SCOPE, order_id_for
from pulse.printable import printable_lines
from pulse.process.development_key import has_key
from pulse.settings import Settings

_FIRST_KEY: Final = "ouk_first"
_ORDER: Final = (
    f'{{"order_unique_key":"{_FIRST_KEY}","instrument":"NSE:RELIANCE","side":"BUY",'
    '"total_quantity":100,"split_config":{"num_splits":5,"duration_minutes":60}}'
)
_AS_SERVICE: Final = '-H "Authorization: Bearer $PULSE_SERVICE_TOKEN" '


def greeting_of_up(settings: Settings) -> str:
    """For everything in one process. `settings` are those before a development key was added."""
    url = url_of(settings)
    return printable_lines(f"""\
Pulse listens on {url}
Its calls are explained on {url}/pulse/docs and {url}/gapi/docs

{_first_order(settings, f"{url}/pulse")}
{_first_order_through_gateway(settings, f"{url}/gapi")}
Ctrl-C stops everything.
""")


def greeting_of_api(settings: Settings) -> str:
    """For the API alone."""
    url = url_of(settings)
    return printable_lines(f"""\
The Pulse API listens on {url}
Its calls are explained on {url}/docs

{_first_order(settings, url)}
Orders stay PENDING until workers run: `pulse background`, with the same PULSE_* variables.
Ctrl-C stops the API.
""")


def greeting_of_gateway(settings: Settings) -> str:
    """For the gateway alone."""
    url = url_of(settings)
    return printable_lines(f"""\
The gateway listens on {url}
Its calls are explained on {url}/docs

It hands orders to the Pulse API at {settings.api_base_url}. Ctrl-C stops the gateway.
""")


def _first_order(settings: Settings, root: str) -> str:
    token = _AS_SERVICE if settings.service_tokens else ""
    say = ", with one of the service tokens in PULSE_SERVICE_TOKEN" if token else ""
    return f"""\
Post an order, then look at it and its slices{say}:

  curl -s {root}/internal/orders {token}-H 'Content-Type: application/json' \\
    -d '{_ORDER}'

  curl -s {token}{root}/internal/orders/{order_id_for(INTERNAL_SCOPE, _FIRST_KEY)}
"""


def _first_order_through_gateway(settings: Settings, root: str) -> str:
    if has_key(settings):
        return f"The gateway takes the tokens of {settings.jwt_issuer}: POST {root}/api/orders\n"
    return f"""\
Or through the gateway, as a caller whom a token of the development key names:

  curl -s {root}/api/orders -H 'Content-Type: application/json' \\
    -H "Authorization: Bearer $({_token_command(settings)} --subject me)" \\
    -d '{_ORDER}'
"""


def _token_command(settings: Settings) -> str:
    """`pulse token` as it must be written in another terminal, in this directory."""
    here = Path.cwd()
    installed = Path(sys.executable).with_name("pulse")
    program = [str(installed)] if installed.exists() else [sys.executable, "-m", "pulse.cli"]
    if installed.exists() and installed.is_relative_to(here):
        program = [str(installed.relative_to(here))]
    if settings.data_dir == Settings().data_dir:
        return shlex.join([*program, "token"])
    return shlex.join([*program, "token", "--data-dir", str(settings.data_dir.absolute())])

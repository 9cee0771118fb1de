"""The embedded server's client: libpq without the variables that a shell sets for other servers."""

import os
from typing import Final

from psycopg.pq import Conninfo

_BESIDE_OPTIONS: Final = (
    "PGSERVICEFILE",
    "PGSYSCONFDIR",
    "PGLOCALEDIR",
    "PGREALM",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
)
"""Variables that libpq reads without a connection option of the same meaning."""


def ignore_client_variables() -> None:
    """Remove from this process's environment every variable that libpq reads.

    No connection string overrides PGSERVICE. The programs that Pulse starts do not receive them
    either.
    """
    of_options = [option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar]
    for name in (*of_options, *_BESIDE_OPTIONS):
        os.environ.pop(name, None)

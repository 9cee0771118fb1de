"""Which other processes of Pulse have sessions on this database."""

from typing import Final

import msgspec

from pulse.postgres.session import Connection
from pulse.postgres.sql import fetch, load_sql

_SELECT_OTHER_PROCESSES: Final = load_sql(__package__, "select_other_processes")


class OtherProcess(msgspec.Struct, frozen=True):
    """A process as `<host>:<pid>`, and the purposes of its sessions, separated by commas."""

    process: str
    purposes: str


async def read_other_processes(connection: Connection) -> list[OtherProcess]:
    """The other processes, commands included. Every role may see them."""
    return [OtherProcess(*row) for row in await fetch(connection, _SELECT_OTHER_PROCESSES)]

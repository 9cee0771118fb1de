"""Presence: while a worker lives, a connection of its own holds a lock under its name.

Whoever finds a claim whose worker holds no such lock knows that the worker is gone: killed, cut
off, or its host dead. No heartbeat is written and no clock is compared; Postgres sees a killed
process at once and a silent host by its keepalives (postgres/limits.py).
"""

from typing import Final

from pulse.postgres import Connection, Database, Listener, WakeUp, load_sql

PRESENCE_CLASS: Final = 0x50554C53
"""The first key of presence locks; the second is the hash of the worker's name."""

CLAIMS_CHANNEL: Final = "order_claims"
"""Where it is told that orders came back, so that a waiting worker takes them at once."""

_HOLD_PRESENCE = load_sql(__package__, "hold_presence")


class Presence:
    """One worker's presence. It also hears of orders that came back, and wakes the worker."""

    def __init__(self, database: Database, worker: str, wake_up: WakeUp) -> None:
        self.worker = worker
        self._listener = Listener(
            database, CLAIMS_CHANNEL, wake_up, role="presence", prepare=self._hold
        )

    @property
    def held(self) -> bool:
        """Whether the lock is held now; a worker that is not present claims nothing."""
        return self._listener.connected

    async def run(self) -> None:
        """Be present until cancelled, again and again if the connection breaks."""
        await self._listener.run()

    async def _hold(self, connection: Connection) -> None:
        await connection.execute(_HOLD_PRESENCE, (PRESENCE_CLASS, self.worker))

"""Presence: while a worker lives, a connection of its own holds a lock under its name.

Whoever finds a claim whose worker holds no such lock knows that the worker is gone: killed, cut
off, frozen, or its host dead. No heartbeat is written and no clock is compared: Postgres sees a
killed process at once, and ends a session from which it has heard nothing for too long.
"""

import asyncio
from typing import Final

from pulse.postgres import Connection, Database, Listener, WakeUp, load_sql

PRESENCE_CLASS: Final = 0x50554C53
"""The first key of presence locks; the second is the hash of the worker's name."""

CLAIMS_CHANNEL: Final = "order_claims"
"""Where it is told that orders came back, so that a waiting worker takes them at once."""

MAX_ABSENT_SECONDS: Final = 10.0
"""A worker without its presence for longer does not do its work."""

SILENCE_SECONDS: Final = 15.0
"""A worker that has not been heard of for so long is gone; it is heard of every 5 s."""

_LIMIT_SILENCE = load_sql(__package__, "limit_silence")
_HOLD_PRESENCE = load_sql(__package__, "hold_presence")


class Presence:
    """One worker's presence. It also hears of orders that came back, and wakes the worker."""

    def __init__(
        self,
        database: Database,
        worker: str,
        wake_up: WakeUp,
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.worker = worker
        self._last_held_at: float | None = None
        self._silence_milliseconds = str(round(silence_seconds * 1000))
        self._listener = Listener(
            database, CLAIMS_CHANNEL, wake_up, role="presence", prepare=self._hold
        )

    @property
    def held(self) -> bool:
        """Whether the lock is held now; a worker that is not present claims nothing."""
        if self._listener.connected or self._last_held_at is None:
            self._last_held_at = asyncio.get_running_loop().time()
        return self._listener.connected

    @property
    def fault(self) -> str | None:
        """Why this worker claims nothing; None while it is present or was within the last 10 s."""
        if self.held or self._last_held_at is None:
            return None
        absent_seconds = asyncio.get_running_loop().time() - self._last_held_at
        if absent_seconds <= MAX_ABSENT_SECONDS:
            return None
        return (
            f"the worker has not been present for {absent_seconds:.0f} s: its connection for that "
            "cannot be made, see wakeups.listener_lost in the log"
        )

    async def run(self) -> None:
        """Be present until cancelled, again and again if the connection breaks."""
        await self._listener.run()

    async def _hold(self, connection: Connection) -> None:
        await connection.execute(_LIMIT_SILENCE, (self._silence_milliseconds,))
        await connection.execute(_HOLD_PRESENCE, (PRESENCE_CLASS, self.worker))

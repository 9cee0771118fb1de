"""The origin of events and calls: time, process, split seed, trace and request ids."""

import os
import random
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from pulse.code_version import code_version
from pulse.domain import RecordedBy

Clock = Callable[[], datetime]

_ID_BITS = 48
_SEEDS_AT_ONCE = 512
call_ids = random.Random()  # noqa: S311 - unique, need not be secret


def system_clock() -> datetime:
    """The application's clock: UTC, microseconds."""
    return datetime.now(UTC)


class Origin(msgspec.Struct, frozen=True):
    """The identity of this process in events and claims; each start of a process has its own."""

    instance: str
    code_version: str = msgspec.field(default_factory=code_version)

    @classmethod
    def of_this_process(cls) -> "Origin":
        """The instance is `host:pid:random`."""
        return cls(f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}")

    def recorded_by(self, component: str) -> RecordedBy:
        """The `recorded_by` of a component of this process."""
        return RecordedBy(
            component=component, instance=self.instance, code_version=self.code_version
        )


class SplitSeeds:
    """Unpredictable unsigned 64-bit numbers from the system's random source, read in bulk."""

    def __init__(self) -> None:
        self._seeds: Iterator[tuple[int]] = iter(())

    def next(self) -> int:
        """The next seed."""
        for (seed,) in self._seeds:
            return seed
        self._seeds = struct.iter_unpack("Q", os.urandom(_SEEDS_AT_ONCE * 8))
        return self.next()


def new_trace_id() -> str:
    """A trace id for a call without one: `t`, unix seconds, 12 hex digits."""
    return f"t{int(time.time())}{call_ids.getrandbits(_ID_BITS):012x}"


def new_request_id() -> str:
    """A request id for a call without one: `r`, unix seconds, 12 hex digits."""
    return f"r{int(time.time())}{call_ids.getrandbits(_ID_BITS):012x}"

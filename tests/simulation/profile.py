"""The random parameters of a schedule: numbers of processes and orders, limits, and faults."""

from random import Random
from typing import Final

import msgspec

QUIET_SECONDS: Final = 60.0
"""Once faults are over, all work must be done within this time of the database's clock."""


CALLS: Final = (
    *("append_events", "append_events", "append_events", "append_events"),
    *("select_streams", "select_streams", "select_streams"),
    *("claim_orders", "claim_orders", "try_lock_position", "COMMIT"),
    *("select_stored", "select_overdue_claims", "select_issued_log", "insert_orders", "connect"),
    *("release_orphans", "release_orphans", "release_claims", "advance_position"),
    *("apply_outcomes", "copy_slices"),
)
"""The calls at which a planned fault can occur; riskier calls are listed more often."""

CALL_FAULTS: Final = ("lost_request", "late_request", "refused", "lost_reply", "slow")
"""The faults of a single call."""

_KINDS: Final = (
    *("crash", "crash", "freeze", "freeze", "stop", "server"),
    *(*CALL_FAULTS, "slow"),
)


class PlannedFault(msgspec.Struct, frozen=True):
    """A fault at the n-th call of this name, by any process.

    `kind`: a crash, freeze or clean stop of the process, a crash of the server, or a call fault.
    """

    kind: str
    call: str
    nth: int


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """The probability of each call fault, and the planned faults."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late_request: float = 0.0
    refused: float = 0.0
    slow: float = 0.0
    lost_wake_up: float = 0.0
    planned_faults: tuple[PlannedFault, ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a schedule. Times are seconds, a tenth of the real ones or less."""

    orders: int
    callers: int
    processes: int
    batch_size: int
    batch_events: int
    timeout: float
    poll: float
    max_split_delay: float
    fault_seconds: float
    faults: Faults
    answer: float = 0.1
    statement: float = 0.25
    idle_in_transaction: float = 0.04
    silence: float = 0.3


def draw(random: Random) -> Profile:
    """A random profile; each seed has only some kinds of faults."""
    some = random.random

    def maybe(most: float, often: float = 0.25) -> float:
        return some() * most if some() < often else 0.0

    faults = Faults(
        lost_request=maybe(0.10),
        lost_reply=maybe(0.15),
        late_request=maybe(0.15),
        refused=maybe(0.10),
        slow=maybe(0.3),
        lost_wake_up=some() if some() < 0.5 else 0.0,
        planned_faults=tuple(_planned_fault(random) for _ in range(random.choice((1, 2, 3, 4)))),
    )
    return Profile(
        orders=random.choice((1, 1, 1, 2, 3)),
        callers=random.choice((1, 1, 2)),
        processes=random.choice((2, 2, 2, 3)),
        batch_size=random.choice((1, 2, 10)),
        batch_events=random.choice((1, 2, 1000)),
        timeout=random.choice((0.05, 0.15, 0.5, 1.5)),
        poll=random.choice((0.2, 0.5, 1.0)),
        max_split_delay=random.choice((0, 0, 0.5, 30.0)),
        fault_seconds=random.choice((0.03, 0.06, 0.15, 0.4)),
        faults=faults,
    )


def _planned_fault(random: Random) -> PlannedFault:
    return PlannedFault(random.choice(_KINDS), random.choice(CALLS), random.choice((1, 1, 2, 2, 3)))

"""What a seed is about: how many of each, which faults, how often, which limits."""

from random import Random
from typing import Final

import msgspec

QUIET_SECONDS: Final = 60.0
"""Once faults are over everything must have come to rest within this, by the database's clock."""


AWAITS: Final = (
    *("append_events", "append_events", "append_events", "append_events"),
    *("select_streams", "select_streams", "select_streams"),
    *("claim_orders", "claim_orders", "try_lock_position", "COMMIT"),
    *("select_stored", "select_overdue_claims", "select_issued_log", "insert_orders", "connect"),
    *("release_orphans", "release_orphans", "release_claims", "advance_position"),
    *("apply_outcomes", "copy_slices"),
)
"""Where a process waits for the server: the name of what it waits for, the riskier the oftener."""

FATES: Final = ("lost_request", "late_request", "refused", "lost_reply", "slow")
"""What may become of a call: lost or late on its way, refused, its reply lost, or all slow."""

_KINDS: Final = (
    *("crash", "crash", "freeze", "freeze", "stop", "server"),
    *(*FATES, "slow"),
)


class Strike(msgspec.Struct, frozen=True):
    """What happens when some process waits for this the n-th time.

    A crash, a freeze or a clean stop of it, a crash of the server, or a fault of this very call.
    """

    kind: str
    await_: str
    nth: int


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How likely each fault is of a call, and what strikes at which."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late_request: float = 0.0
    refused: float = 0.0
    slow: float = 0.0
    lost_wake_up: float = 0.0
    strikes: tuple[Strike, ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Times are seconds, all of them a tenth or less of the real ones, in the same proportions."""

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
    """A profile: of the kinds of faults, each seed has some and not the others."""
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
        strikes=tuple(_strike(random) for _ in range(random.choice((1, 2, 3, 4)))),
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


def _strike(random: Random) -> Strike:
    return Strike(random.choice(_KINDS), random.choice(AWAITS), random.choice((1, 1, 2, 2, 3)))

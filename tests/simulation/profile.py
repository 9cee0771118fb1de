"""The random parameters of a run: numbers of processes and orders, limits, and faults."""

from collections.abc import Iterable
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

_RELEASE_CALLS: Final = (
    *("append_events", "append_events", "append_events", "select_order_streams"),
    *("select_due_orders", "due_orders", "due_orders", "due_orders", "due_orders"),
    *("settle_slices", "refresh_due_orders", "advance_position", "COMMIT"),
)
"""As CALLS, for the time after the split of an order.

`due_orders` is a call of `select_due_orders` that returns at least one order.
"""

CALL_FAULTS: Final = ("lost_request", "late_request", "refused", "lost_reply", "slow")
"""The faults of a single call."""

_SEAL_CALLS: Final = (
    *("lock_seal", "seal_events", "update_seal", "update_checkpoint", "COMMIT", "COMMIT"),
)
"""As CALLS, for the sealers."""

_WHOLE_LIFE_SHARE: Final = 0.5
_SEALS_SHARE: Final = 0.5
_ROLLS_SHARE: Final = 0.2

_KINDS: Final = (
    *("crash", "crash", "freeze", "freeze", "stop", "server"),
    *(*CALL_FAULTS, "slow"),
)

_RELEASE_KINDS: Final = (*_KINDS, "freeze", "refused", *("stalled",) * 4)
_TIMED_KINDS: Final = ("crash", "crash", "freeze", "stop", "server", "outage", "outage")


class TimedFault(msgspec.Struct, frozen=True):
    """A fault `at` a number of seconds: one of a process that runs then, or of the server."""

    kind: str
    at: float


class PlannedFault(msgspec.Struct, frozen=True):
    """A fault at the n-th call of this name, by any process.

    `kind`: a crash, freeze or clean stop of the process, a crash of the server, or a call fault;
    or "stalled", if the reply is late by seconds.
    """

    kind: str
    call: str
    nth: int


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """The probability of each call fault, and the planned and the timed faults."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late_request: float = 0.0
    refused: float = 0.0
    slow: float = 0.0
    lost_wake_up: float = 0.0
    planned_faults: tuple[PlannedFault, ...] = ()
    timed_faults: tuple[TimedFault, ...] = ()


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a run. Times are seconds, mostly a tenth of the real ones or less.

    With `whole_life` the windows of the orders are short, and the run ends when every slice is
    settled. Otherwise it ends when every order has an outcome, and what is due is settled.
    `workers` processes have workers, and each of the others may. `minute_seconds` is how long a
    minute of a window lasts. Orders start after `starts_in`, if that is above 0. With `rolls` the
    default of some processes is the session policy ROLL; a session needs minutes of 60 s. With
    `seals` every process seals the log. A halt is lifted within `halted` after its answer.
    """

    orders: int
    callers: int
    cancelling_callers: int
    processes: int
    workers: int
    batch_size: int
    batch_events: int
    timeout: float
    poll: float
    max_split_delay: float
    max_release_delay: float
    release_share: float
    halting_callers: int
    fault_seconds: float
    whole_life: bool
    minute_seconds: float
    minutes: int
    splits: int
    faults: Faults
    starts_in: float = 0.0
    rolls: bool = False
    seals: bool = False
    halted: float = 1.5
    answer: float = 0.1
    statement: float = 0.25
    idle_in_transaction: float = 0.04
    silence: float = 0.3


def draw(random: Random) -> Profile:
    """A random profile; each seed has only some kinds of faults."""
    whole_life = random.random() < _WHOLE_LIFE_SHARE
    profile = _draw_whole_life(random) if whole_life else _draw_until_split(random)
    windows = Random(repr(profile))  # so that these choices change no others
    starts_in = windows.choice((0.0, 0.0, 0.0, windows.random() * 5))
    rolls = not whole_life and windows.random() < _ROLLS_SHARE
    seals = windows.random() < _SEALS_SHARE
    faults = profile.faults
    if seals:
        planned = (_seal_fault(windows) for _ in range(windows.choice((0, 1, 1, 2))))
        faults = msgspec.structs.replace(faults, planned_faults=(*faults.planned_faults, *planned))
    halted = windows.choice((1.5, 1.5, 12.0)) if whole_life else 1.5
    return msgspec.structs.replace(
        profile, starts_in=starts_in, rolls=rolls, seals=seals, halted=halted, faults=faults
    )


def _seal_fault(random: Random) -> PlannedFault:
    call, nth = random.choice(_SEAL_CALLS), random.choice((1, 1, 2, 2, 3, 4, 8))
    return PlannedFault(random.choice(_KINDS), call, nth)


def _draw_until_split(random: Random) -> Profile:
    return Profile(
        orders=random.choice((1, 1, 1, 2, 3)),
        callers=random.choice((1, 1, 2)),
        cancelling_callers=random.choice((0, 0, 0, 1, 2)),
        processes=random.choice((2, 2, 2, 3)),
        workers=random.choice((1, 2, 2)),
        batch_size=random.choice((1, 2, 10)),
        batch_events=random.choice((1, 2, 1000)),
        timeout=random.choice((0.05, 0.15, 0.5, 1.5)),
        poll=random.choice((0.2, 0.5, 1.0)),
        max_split_delay=random.choice((0, 0, 0.5, 30.0)),
        max_release_delay=random.choice((0.2, 60.0)),
        release_share=random.choice((0.0, 0.5, 1.0)),
        halting_callers=random.choice((0, 0, 0, 1)),
        fault_seconds=random.choice((0.03, 0.06, 0.15, 0.4)),
        whole_life=False,
        minute_seconds=60.0,
        minutes=1,
        splits=3,
        faults=_faults(random, _KINDS, CALLS, (1, 1, 2, 2, 3)),
    )


def _draw_whole_life(random: Random) -> Profile:
    fault_seconds = random.choice((0.1, 0.5, 1.5, 3.0))
    return Profile(
        orders=random.choice((1, 1, 2)),
        callers=random.choice((1, 1, 2)),
        cancelling_callers=random.choice((0, 0, 1, 1, 2, 3)),
        processes=random.choice((2, 2, 2, 3)),
        workers=random.choice((1, 2, 2)),
        batch_size=random.choice((1, 10)),
        batch_events=random.choice((1, 2, 1000)),
        timeout=random.choice((0.5, 1.5)),
        poll=random.choice((0.5, 1.0, 2.0)),
        max_split_delay=random.choice((0, 30.0)),
        max_release_delay=random.choice((0.2, 0.6, 1.5, 60.0)),
        release_share=random.choice((0.5, 1.0, 1.0, 1.0)),
        halting_callers=random.choice((0, 0, 1, 1, 2)),
        fault_seconds=fault_seconds,
        whole_life=True,
        minute_seconds=random.choice((0.3, 1.0, 2.0, 3.0)),
        minutes=random.choice((1, 1, 2)),
        splits=random.choice((2, 3, 3, 5)),
        faults=_faults(
            random,
            _RELEASE_KINDS,
            _RELEASE_CALLS,
            (1, 1, 2, 2, 3, 4, 8),
            [random.random() * fault_seconds for _ in range(random.choice((0, 1, 2)))],
        ),
    )


def _faults(
    random: Random,
    kinds: tuple[str, ...],
    calls: tuple[str, ...],
    numbers: tuple[int, ...],
    times: Iterable[float] = (),
) -> Faults:
    some = random.random

    def maybe(most: float, often: float = 0.25) -> float:
        return some() * most if some() < often else 0.0

    return Faults(
        lost_request=maybe(0.10),
        lost_reply=maybe(0.15),
        late_request=maybe(0.15),
        refused=maybe(0.10),
        slow=maybe(0.3),
        lost_wake_up=some() if some() < 0.5 else 0.0,
        planned_faults=tuple(
            PlannedFault(random.choice(kinds), random.choice(calls), random.choice(numbers))
            for _ in range(random.choice((1, 2, 3, 4)))
        ),
        timed_faults=tuple(TimedFault(random.choice(_TIMED_KINDS), at) for at in times),
    )

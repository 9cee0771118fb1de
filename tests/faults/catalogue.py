"""Every fault of the suite, in the order of docs/explanation/reliability.md."""

from typing import Final

from tests.faults.case import Case
from tests.faults.cases import (
    backup,
    cancels,
    clocks,
    commit_order,
    crashes,
    disk_full,
    exhausted,
    failover,
    frozen,
    halts,
    held_transactions,
    kills,
    lost_replies,
    overload,
    poison,
    release_outage,
    releases,
    restore,
    soak,
    stops,
    terminations,
    wake_ups,
)

CASES: Final[tuple[Case, ...]] = (
    kills.CASE,
    crashes.CASE,
    releases.CASE,
    cancels.CASE,
    halts.CASE,
    release_outage.CASE,
    terminations.CASE,
    lost_replies.CASE,
    frozen.CASE,
    commit_order.CASE,
    wake_ups.CASE,
    held_transactions.CASE,
    poison.CASE,
    clocks.CASE,
    disk_full.CASE,
    exhausted.CASE,
    overload.CASE,
    stops.CASE,
    failover.CASE,
    backup.CASE,
    restore.CASE,
)

ON_REQUEST: Final = soak.CASE
"""Takes an hour, so it runs only when it is named."""

"""Every fault of the suite, in the order of docs/reliability.md."""

from typing import Final

from tests.faults.cases import (
    backup,
    commit_order,
    crashes,
    failover,
    held_transactions,
    kills,
    poison,
    soak,
    stops,
    terminations,
    wake_ups,
)
from tests.faults.scene import Case

CASES: Final[tuple[Case, ...]] = (
    kills.CASE,
    crashes.CASE,
    terminations.CASE,
    commit_order.CASE,
    wake_ups.CASE,
    held_transactions.CASE,
    poison.CASE,
    stops.CASE,
    failover.CASE,
    backup.CASE,
)

BY_ITSELF: Final = soak.CASE
"""Takes an hour: runs only when named."""

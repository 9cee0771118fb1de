"""What to do about an order that failed, by the reason."""

from typing import Final

from pulse.domain import SPLITTING_ERROR, TIMED_OUT, TOO_LATE

FAILED_IS_FINAL: Final = (
    "FAILED is final: the order never gets slices, so a new order cannot duplicate it."
)

_WHAT_TO_DO: Final = {
    TIMED_OUT: "A worker claimed it and did not finish: see the worker's log. If the order is "
    "still wanted, place it again under a new key.",
    TOO_LATE: "No worker claimed it in time: check with `pulse status` that workers run and keep "
    "up. If the order is still wanted, place it again under a new key; its window starts then.",
    SPLITTING_ERROR: "Pulse made a schedule that breaks its own rules: report it with "
    "`pulse replay --json`. If the order is still wanted, place it again under a new key.",
}
_ELSE: Final = "If the order is still wanted, place it again under a new key."


def what_to_do(failure_reason: str | None) -> str:
    """What to do about an order that failed for this reason, which newer code may have added."""
    return _WHAT_TO_DO.get(failure_reason or "", _ELSE)

"""Why an order is FAILED means what, and what to do about it."""

from typing import Final

from pulse.domain import SPLITTING_ERROR, TIMED_OUT, TOO_LATE

FAILED_IS_FINAL: Final = (
    "FAILED is final: no slice of it exists or ever will, so a new order cannot double it."
)

_WHAT_TO_DO: Final = {
    TIMED_OUT: "A worker took it and never came to an end: its log says why. If the order is still "
    "wanted, place it again under a new key.",
    TOO_LATE: "No worker took it in time: see with `pulse status` that workers are there and keep "
    "up. If the order is still wanted, place it again under a new key; its window starts anew.",
    SPLITTING_ERROR: "Pulse made a schedule that breaks its own rules: report it with "
    "`pulse replay --json`. If the order is still wanted, place it again under a new key.",
}
_ELSE: Final = "If the order is still wanted, place it again under a new key."


def what_to_do(failure_reason: str | None) -> str:
    """What a person does about an order that failed so; a reason of newer code has advice too."""
    return _WHAT_TO_DO.get(failure_reason or "", _ELSE)

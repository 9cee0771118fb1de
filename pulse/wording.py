"""Numbers, quantities and durations as text, for commands and pages."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from pulse.domain import Quantities


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 order`, `2,000 orders`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_quantities(quantities: Quantities) -> str:
    """The shares of an order by state: `46 shares released, 54 shares cancelled`."""
    shares = msgspec.structs.asdict(quantities)
    return ", ".join(f"{counted(count, 'share')} {kind}" for kind, count in shares.items() if count)


def numbered_slices(numbers: Sequence[int]) -> str:
    """Consecutive slices by their numbers: `slice 3`, `slices 3 to 5`."""
    if len(numbers) == 1:
        return f"slice {numbers[0]}"
    return f"slices {numbers[0]} to {numbers[-1]}" if numbers else "no slice"


def format_duration(seconds: float) -> str:
    """A duration in its two largest units: `0.4 s`, `3 min 5 s`, `2 d 4 h`."""
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def clock_difference(occurred_at: datetime, recorded_at: datetime) -> str:
    """How much later an event was recorded than it occurred: `3.250 ms later`."""
    milliseconds = (recorded_at - occurred_at).total_seconds() * 1000
    if milliseconds < 0:
        return f"{-milliseconds:,.3f} ms earlier: the clocks differ"
    return f"{milliseconds:,.3f} ms later"

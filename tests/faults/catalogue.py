"""Every fault of the suite, in the order of docs/reliability.md."""

from typing import Final

from tests.faults.cases import crashes, kills, soak, stops, terminations
from tests.faults.scene import Case

CASES: Final[tuple[Case, ...]] = (kills.CASE, crashes.CASE, terminations.CASE, stops.CASE)

BY_ITSELF: Final = soak.CASE
"""Takes an hour: runs only when named."""

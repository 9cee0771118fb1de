"""Every fault of the suite, in the order of docs/reliability.md."""

from typing import Final

from tests.faults.cases import clocks, disk_full, exhausted, kills
from tests.faults.scene import Case

CASES: Final[tuple[Case, ...]] = (kills.CASE, exhausted.CASE, disk_full.CASE, clocks.CASE)

"""Every fault of the suite, in the order of docs/reliability.md."""

from typing import Final

from tests.faults.cases import kills, overload
from tests.faults.scene import Case

CASES: Final[tuple[Case, ...]] = (kills.CASE, overload.CASE)

"""Every fault of the suite, in the order of docs/reliability.md."""

from typing import Final

from tests.faults.cases import frozen, kills, lost_replies
from tests.faults.scene import Case

CASES: Final[tuple[Case, ...]] = (kills.CASE, lost_replies.CASE, frozen.CASE)
"""One module for each fault of docs/reliability.md."""

"""What a load found: counted as it goes, read by the progress and the report."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

import msgspec

from pulse.domain import BrokenRule

REFUSALS_SHOWN: Final = 5
BAD_JSON: Final = "BAD_JSON"


class Refusal(msgspec.Struct, frozen=True):
    """A line that did not become an order, and why."""

    line: int
    code: str
    message: str


class BrokenTally(msgspec.Struct):
    """How many orders broke a rule, and the first of them with its numbers."""

    orders: int
    first_line: int
    first_order_id: UUID
    first_breach: str


class LoadResult(msgspec.Struct, kw_only=True):
    """The numbers of a load. Times are seconds.

    `posted` counts the lines Pulse answered; `refused` also those that were no JSON (BAD_JSON).
    `accepted` counts orders, so a key that stands in two lines counts once. An `accept_seconds`
    runs from the first try to the acceptance, waits included; a `completion_seconds` from
    created_at to split_completed_at.
    """

    source: str
    base_url: str
    trace_id: str
    posted: int = 0
    created: int = 0
    already_there: int = 0
    retries: int = 0
    accepted: int = 0
    completed: int = 0
    pending: int = 0
    slices: int = 0
    shares: int = 0
    posting_seconds: float = 0.0
    refused: dict[str, int] = msgspec.field(default_factory=dict)
    first_refusals: list[Refusal] = msgspec.field(default_factory=list)
    failed: dict[str, int] = msgspec.field(default_factory=dict)
    broken: dict[str, BrokenTally] = msgspec.field(default_factory=dict)
    accept_seconds: list[float] = msgspec.field(default_factory=list)
    completion_seconds: list[float] = msgspec.field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 when every line became an order that COMPLETED and kept every rule; else 1."""
        return 1 if self.refused or self.failed or self.broken or self.pending else 0

    @property
    def lines_done(self) -> int:
        """Lines that are dealt with, posted or not."""
        return self.posted + self.refused.get(BAD_JSON, 0)

    @property
    def posted_per_second(self) -> float:
        """Orders answered per second while posting."""
        return self.posted / self.posting_seconds if self.posting_seconds > 0 else 0.0

    def note_refusal(self, refusal: Refusal) -> None:
        """Count a refusal and keep the first few."""
        self.refused[refusal.code] = self.refused.get(refusal.code, 0) + 1
        if len(self.first_refusals) < REFUSALS_SHOWN:
            self.first_refusals.append(refusal)

    def note_failure(self, reason: str) -> None:
        """Count an order that FAILED."""
        self.failed[reason] = self.failed.get(reason, 0) + 1

    def note_broken(self, line: int, order_id: UUID, found: Iterable[BrokenRule]) -> None:
        """Count the rules that one order broke, each once."""
        first_breaches: dict[str, str] = {}
        for broken in found:
            first_breaches.setdefault(broken.rule, broken.breach)
        for rule, breach in first_breaches.items():
            if rule in self.broken:
                self.broken[rule].orders += 1
            else:
                self.broken[rule] = BrokenTally(1, line, order_id, breach)

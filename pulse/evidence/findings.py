"""What verification finds."""

from typing import Final, Literal
from uuid import UUID

import msgspec

from pulse.domain import BrokenRule

Fault = Literal[
    "VERSIONS",
    "UNREADABLE",
    "NEWER_CODE",
    "WRONG_ID",
    "NEVER_ACCEPTED",
    "CANNOT_FOLLOW",
    "SCHEDULE",
    "RULE",
    "ENCODING",
    "ALTERED",
    "DELETED",
    "INSERTED",
    "TREE",
    "SIGNATURE",
    "ANCHOR",
    "FORK",
    "PARKED",
    "QUEUE",
    "SLICES",
    "PENDING",
    "CLAIM",
    "DUE",
    "HISTORY",
    "POSITION",
    "MEMBER",
]
"""What can be wrong. docs/reference/verification.md explains each."""

QUEUE_FAULTS: Final[frozenset[Fault]] = frozenset({"QUEUE", "SLICES", "PENDING", "DUE"})
"""The faults of an order's rows in the queue, which a retry or a rebuild repairs."""


class Finding(msgspec.Struct, frozen=True):
    """Something that is wrong, or that could not be verified (`NEWER_CODE`).

    `position` is that of the event, or of the order's creation in a finding about the queue. It is
    None if the finding concerns neither; then `detail` says what it concerns.
    """

    fault: Fault
    detail: str
    position: int | None = None
    order_id: UUID | None = None
    broken_rules: tuple[BrokenRule, ...] = ()

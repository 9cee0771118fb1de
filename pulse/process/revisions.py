"""The schema's revisions in order, over all packages that own tables.

A released revision is never edited, except for its comments. A new revision gets the next number.
Its `oldest_code` identifies the oldest code that works on the new schema, by the last revision of
that code.

From revision 17 on the schema changes without downtime (docs/decisions/0042): a change on
which the released code cannot run is split into a revision of the phase `before` and, in a later
release, one of the phase `after`. An index on a table that grows is a revision of its own with
`index`.
"""

from typing import Final

from pulse.postgres.revision import Revision

REVISIONS: Final = (
    Revision(
        number=1,
        name="stored_events",
        package="pulse.eventstore",
        oldest_code=1,
        columns=("stored_events.recorded_at",),
    ),
    Revision(
        number=2,
        name="order_claims",
        package="pulse.projections",
        oldest_code=2,
        columns=("order_claims.first_claimed_at",),
    ),
    Revision(
        number=3,
        name="order_queue",
        package="pulse.projections",
        oldest_code=3,
        columns=(
            "order_queue.created_position",
            "order_slices.scheduled_at",
            "parked_orders.parked_at",
            "order_queue_status.first_claimed_at",
        ),
    ),
    Revision(
        number=4,
        name="queue_audit",
        package="pulse.projections",
        oldest_code=3,
        columns=("queue_audit.due_at", "queue_audit_findings.found_at"),
    ),
    Revision(number=5, name="recorded_events", package="pulse.eventstore", oldest_code=3),
    Revision(number=6, name="order_status", package="pulse.projections", oldest_code=3),
    Revision(
        number=7,
        name="pending_orders",
        package="pulse.projections",
        oldest_code=7,
    ),
    Revision(
        number=8,
        name="released_slices",
        package="pulse.projections",
        oldest_code=8,
    ),
    # Older code would release halted slices.
    Revision(number=9, name="lock_log", package="pulse.eventstore", oldest_code=9),
    Revision(
        number=10,
        name="find_orders",
        package="pulse.projections",
        oldest_code=9,
    ),
    Revision(number=11, name="log_identity", package="pulse.eventstore", oldest_code=9),
    Revision(
        number=12,
        name="queue_history",
        package="pulse.projections",
        oldest_code=9,
    ),
    Revision(number=13, name="seal", package="pulse.evidence", oldest_code=9),
    Revision(number=14, name="clock_offsets", package="pulse.application", oldest_code=9),
    # Older code would start each window at its order's creation.
    Revision(
        number=15,
        name="order_windows",
        package="pulse.projections",
        oldest_code=15,
    ),
    Revision(number=16, name="evidence_exports", package="pulse.evidence", oldest_code=15),
    Revision(number=17, name="log_forks", package="pulse.eventstore", oldest_code=15),
    Revision(number=18, name="order_workers", package="pulse.projections", oldest_code=15),
)

HEAD: Final = REVISIONS[-1].number
"""The last revision that this code knows. It identifies this version of the code."""

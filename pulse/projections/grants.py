"""The rights on the order queue: the runtime projects, claims and rebuilds, the reader reads."""

from typing import Final

from pulse.postgres.grants import Grant

_SELECT: Final = ("SELECT",)
_EXECUTE: Final = ("EXECUTE",)

GRANTS: Final = (
    Grant("TABLE", "order_queue", ("SELECT", "INSERT", "UPDATE", "DELETE"), _SELECT),
    Grant("TABLE", "pending_orders", ("SELECT", "INSERT", "UPDATE", "DELETE"), _SELECT),
    Grant("TABLE", "scheduled_slices", ("SELECT", "INSERT", "DELETE"), _SELECT),
    Grant("TABLE", "due_orders", ("SELECT", "INSERT", "UPDATE", "DELETE"), _SELECT),
    Grant("TABLE", "parked_orders", ("SELECT", "INSERT", "DELETE"), _SELECT),
    Grant("TABLE", "notification_tracking", ("SELECT", "UPDATE (notification_id)"), _SELECT),
    Grant("TABLE", "queue_audit", ("SELECT", "UPDATE (position, due_at, last_pass_at)"), _SELECT),
    Grant("TABLE", "queue_audit_findings", ("SELECT", "INSERT", "DELETE"), _SELECT),
    Grant("TABLE", "queue_history", ("SELECT", "INSERT"), _SELECT),
    Grant(
        "TABLE", "order_workers", ("SELECT", "INSERT", "UPDATE (present_since)", "DELETE"), _SELECT
    ),
    Grant("VIEW", "order_queue_status", _SELECT, _SELECT),
    Grant("VIEW", "order_slices", _SELECT, _SELECT),
    Grant("VIEW", "order_claims", _SELECT, _SELECT),
    Grant("FUNCTION", "order_status(text, text)", _EXECUTE, _EXECUTE),
    Grant("FUNCTION", "slice_state(text, integer)", _EXECUTE, _EXECUTE),
    Grant("FUNCTION", "present_workers()", _EXECUTE, _EXECUTE),
    Grant("FUNCTION", "search_key(bigint, text)", _EXECUTE, _EXECUTE),
)

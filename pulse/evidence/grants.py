"""The rights on the seal: the runtime role seals, and cannot change what it has sealed."""

from typing import Final

from pulse.postgres.grants import Grant

_SELECT: Final = ("SELECT",)

GRANTS: Final = (
    Grant("TABLE", "seal_entries", ("SELECT", "INSERT"), _SELECT),
    Grant("TABLE", "seal_nodes", ("SELECT", "INSERT"), _SELECT),
    Grant("TABLE", "seal_keys", ("SELECT", "INSERT (number, verifier_key, rotation)"), _SELECT),
    Grant(
        "TABLE",
        "seal_state",
        (
            "SELECT",
            (
                "UPDATE (verifier_key, size, position, last_entry, frontier, checkpoint, "
                "checkpoint_size, checkpoint_at, sealed_at)"
            ),
        ),
        _SELECT,
    ),
    Grant(
        "TABLE",
        "evidence_exports",
        (
            "SELECT",
            (
                "INSERT (exported_by, code_version, order_id, recorded_from, recorded_before, "
                "events, first_index, last_index, tree_size, content_hash)"
            ),
        ),
        _SELECT,
    ),
    Grant(
        "FUNCTION",
        "seal_entry(bigint, uuid, bigint, text, bytea, timestamp with time zone)",
        ("EXECUTE",),
        ("EXECUTE",),
    ),
    Grant("FUNCTION", "seal_refuse_change()"),
)

"""The rights on the log: the runtime appends, and can choose neither id nor recorded time."""

from typing import Final

from pulse.postgres.grants import Grant

GRANTS: Final = (
    Grant(
        "TABLE",
        "stored_events",
        runtime=("SELECT", "INSERT (originator_id, originator_version, topic, state)"),
        reader=("SELECT",),
    ),
    Grant("SEQUENCE", "stored_events.notification_id", runtime=("USAGE",), reader=("SELECT",)),
    Grant("TABLE", "log_identity", runtime=("SELECT",), reader=("SELECT",)),
    Grant("TABLE", "log_forks", runtime=("SELECT",), reader=("SELECT",)),
    Grant("FUNCTION", "recorded_events()", runtime=("EXECUTE",), reader=("EXECUTE",)),
    Grant("FUNCTION", "last_issued_id()", runtime=("EXECUTE",), reader=("EXECUTE",)),
    Grant("FUNCTION", "lock_log(bigint, uuid)", runtime=("EXECUTE",)),
    Grant("FUNCTION", "stored_events_refuse_change()"),
    Grant("FUNCTION", "log_forks_refuse_change()"),
)

"""Whether appends to the log are safe: one server, one phase, ids above the projected position."""

from pulse.application.notices import next_id_taken, sequence_below_position
from pulse.errors import PulseError
from pulse.eventstore import read_log_faults, read_log_state
from pulse.postgres import Connection
from pulse.projections.position import read_position


class LogUnfit(PulseError):
    """Orders appended to this database could be lost or never projected: it must not be served."""


async def require_fit_log(connection: Connection) -> None:
    """Refuse a database on which an accepted order could be passed over (decision 14).

    Raises:
        LogUnfit: lock, sequence and insert are not on one server in one phase, or the sequence is
            below the log's end or below the projected position.
    """
    faults = list(await read_log_faults(connection))
    if faults:
        raise LogUnfit(
            f"this database is not fit for Pulse's log: {'; '.join(faults)}; one log needs one "
            "ordinary Postgres database of its own, see docs/decisions/0014"
        )
    fault = await read_sequence_fault(connection)
    if fault is not None:
        raise LogUnfit(fault)


async def read_sequence_fault(connection: Connection) -> str | None:
    """Why an order appended now would fail or never be projected; None if neither."""
    log, position = await read_log_state(connection), await read_position(connection)
    return sequence_below_position(log, position) or next_id_taken(log, position)

"""The states of the appender, the circuit breaker of the append path."""

from typing import assert_never

import msgspec
import psycopg

from pulse.postgres import describe


class Open(msgspec.Struct, frozen=True):
    """Appends are taken; the last one succeeded, or a probe."""


class Recovering(msgspec.Struct, frozen=True):
    """Appends are taken; since the last success one failed otherwise than by a refusal."""

    reason: str


class Away(msgspec.Struct, frozen=True):
    """Appends are refused: there is no connection."""

    reason: str


class Probing(msgspec.Struct, frozen=True):
    """Appends are refused: Postgres refused one, and no probe has passed since."""

    reason: str


class OnTrial(msgspec.Struct, frozen=True):
    """Appends are taken since a probe passed; a refusal now fails its callers at once."""


class Draining(msgspec.Struct, frozen=True):
    """Appends are refused: the process stops."""


State = Open | Recovering | Away | Probing | OnTrial | Draining


def refusal_in(state: State) -> str | None:
    """Why a new append is refused at once; None if it is taken."""
    match state:
        case Open() | Recovering() | OnTrial():
            return None
        case Away(reason):
            return f"Postgres is away: {reason}"
        case Probing(reason):
            return f"Postgres takes no appends: {reason}"
        case Draining():
            return "Pulse is stopping"
        case _:
            assert_never(state)


def fault_in(state: State) -> str | None:
    """What readiness says of the append path; None if appends are written."""
    match state:
        case Recovering(reason):
            return reason
        case Away(reason):
            return f"the appender has no connection: {reason}"
        case _:
            return refusal_in(state)


class IdTaken(Exception):
    """The sequence of the log gave out an id that is in the log already: nothing was written."""

    def __init__(self) -> None:
        super().__init__("the log's sequence is behind the log and gives out ids that are taken")


class ConnectionLost(Exception):
    """The connection broke in mid-statement: whether it was carried out is unknown."""


REFUSALS = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, IdTaken)
"""Nothing was written, and the batch is not at fault: a lock not had in time, a full disk."""

_OF_THE_EVENT = (psycopg.DataError, psycopg.IntegrityError)


def state_after(error: Exception) -> State | None:
    """The state that a failed append or probe leads to; None if only the event was at fault."""
    if isinstance(error, _OF_THE_EVENT) and not is_id_taken(error):
        return None
    if isinstance(error, REFUSALS) or is_id_taken(error):
        return Probing(reason_of(error))
    return Recovering(reason_of(error))


def reason_of(error: Exception) -> str:
    """Why Postgres refuses appends, as readiness says it."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return "the database is read-only: a standby, or default_transaction_read_only is on"
    if is_id_taken(error):
        return str(IdTaken())
    return describe(error)


def is_id_taken(error: Exception) -> bool:
    """Whether an insert failed for its id, not for its version in the stream."""
    return isinstance(error, psycopg.errors.UniqueViolation) and (
        error.diag.constraint_name or ""
    ).endswith("notification_id_idx")

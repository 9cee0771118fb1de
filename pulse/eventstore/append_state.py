"""The states of the appender, which is the circuit breaker of the append path.

In the usual terms Accepting and Recovering are the closed circuit, Disconnected and Probing the
open one, and HalfOpen is half-open.
"""

from typing import assert_never

import msgspec
import psycopg

from pulse.postgres import describe


class Accepting(msgspec.Struct, frozen=True):
    """Appends are accepted: the last append or probe succeeded."""


class Recovering(msgspec.Struct, frozen=True):
    """Appends are accepted, but none has succeeded since a reconnect or an unexpected error."""

    reason: str


class Disconnected(msgspec.Struct, frozen=True):
    """Appends are refused: there is no connection."""

    reason: str


class Probing(msgspec.Struct, frozen=True):
    """Appends are refused: Postgres refused one, and no append or probe has succeeded since."""

    reason: str


class HalfOpen(msgspec.Struct, frozen=True):
    """Appends are accepted after a successful probe; a refusal fails them without a retry."""


class Draining(msgspec.Struct, frozen=True):
    """Appends are refused: the process is stopping."""


State = Accepting | Recovering | Disconnected | Probing | HalfOpen | Draining


def refusal_in(state: State) -> str | None:
    """Why a new append is refused at once; None if it is accepted."""
    match state:
        case Accepting() | Recovering() | HalfOpen():
            return None
        case Disconnected(reason):
            return f"Postgres cannot be reached: {reason}"
        case Probing(reason):
            return f"Postgres refuses appends: {reason}"
        case Draining():
            return "Pulse is stopping"
        case _:
            assert_never(state)


def fault_in(state: State) -> str | None:
    """What readiness reports about the append path; None if appends succeed."""
    match state:
        case Recovering(reason):
            return reason
        case Disconnected(reason):
            return f"the appender has no connection: {reason}"
        case _:
            return refusal_in(state)


class IdTaken(Exception):
    """The log's sequence issued an id that is already in the log; nothing was written."""

    def __init__(self) -> None:
        super().__init__("the log's sequence is behind the log and issues ids that are taken")


class ConnectionLost(Exception):
    """The connection broke during a statement, which may or may not have been executed."""


class NotConfirmed(ConnectionLost):
    """The events are written, perhaps on this server alone; no standby has confirmed them."""


REFUSALS = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, IdTaken)
"""Errors that the batch did not cause, such as a full disk. After them nothing was written."""

_EVENT_ERRORS = (psycopg.DataError, psycopg.IntegrityError)


def state_after(error: Exception) -> State | None:
    """The state after a failed append or probe; None if the event caused the error."""
    if isinstance(error, _EVENT_ERRORS) and not is_id_taken(error):
        return None
    if isinstance(error, REFUSALS) or is_id_taken(error):
        return Probing(refusal_reason(error))
    return Recovering(refusal_reason(error))


def refusal_reason(error: Exception) -> str:
    """Why Postgres refuses appends, as readiness reports it."""
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return "the database is read-only: a standby, or default_transaction_read_only is on"
    if is_id_taken(error):
        return str(IdTaken())
    return describe(error)


def is_id_taken(error: Exception) -> bool:
    """Whether an insert failed because its id is taken, not its version in the stream."""
    return isinstance(error, psycopg.errors.UniqueViolation) and (
        error.diag.constraint_name or ""
    ).endswith("notification_id_idx")

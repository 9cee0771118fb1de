"""What a Pulse API answered over HTTP, read strictly: nothing is taken for more than it says."""

from http import HTTPStatus
from typing import Final, TypeVar
from uuid import UUID

import httpx
import msgspec
import structlog

from pulse.errors import PulseError
from pulse.projections import OrderView

_log = structlog.get_logger(__name__)

T = TypeVar("T")

AWAY: Final = (
    "Pulse does not answer, so it is not known whether this request was processed: retry with the "
    "same order_unique_key"
)
_BUSY: Final = (
    "Pulse takes no more requests of this caller now: this one was not processed, try again later"
)
_AWAY_STATUSES: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_NOT_LET_IN: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class PulseAway(PulseError):
    """Pulse gave no answer, or none for now; a retry with the same key tells what happened."""


class PulseBusy(PulseError):
    """Pulse refuses this caller for now; the request was not processed."""


class PulseFailed(PulseError):
    """Pulse answered with what callers must not see; the log says why."""


class _Placed(msgspec.Struct, frozen=True):
    order_id: UUID
    order_unique_key: str


class _Fault(msgspec.Struct, frozen=True):
    code: str
    message: str


class _Refusal(msgspec.Struct, frozen=True):
    error: _Fault


def read_placed(answer: httpx.Response) -> tuple[UUID, str]:
    """The id and key that an answer to a POST names.

    Raises:
        PulseFailed: it names none.
    """
    placed = _read(answer, _Placed)
    return placed.order_id, placed.order_unique_key


def read_order(answer: httpx.Response) -> OrderView:
    """The order that an answer to a GET holds.

    Raises:
        PulseFailed: it holds none.
    """
    return _read(answer, OrderView)


def says(answer: httpx.Response, status: int, code: str) -> bool:
    """Whether Pulse itself refuses with this status and code; one alone may be anyone's."""
    fault = _fault_in(answer)
    return answer.status_code == status and fault is not None and fault.code == code


def refusal(answer: httpx.Response) -> PulseError:
    """What an answer that grants nothing means to the caller of the gateway."""
    fault = _fault_in(answer)
    if answer.status_code in _AWAY_STATUSES:
        return PulseAway(AWAY)
    if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return PulseBusy(_BUSY)
    if answer.status_code in _NOT_LET_IN:
        _log.error("pulse.refuses_gateway", status=answer.status_code)
        return PulseAway(AWAY)
    return failed(answer, fault.code if fault else "it gives no reason that can be read")


def failed(answer: httpx.Response, reason: str) -> PulseFailed:
    """The failure that this answer is, without what is in the answer."""
    return PulseFailed(f"Pulse answered {answer.status_code}: {reason}")


def _read(answer: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (ValueError, RecursionError):
        raise failed(answer, "it cannot be read") from None


def _fault_in(answer: httpx.Response) -> _Fault | None:
    try:
        return msgspec.json.decode(answer.content, type=_Refusal).error
    except (ValueError, RecursionError):
        return None

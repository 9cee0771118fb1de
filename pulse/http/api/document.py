"""The OpenAPI document of the internal API: what its handlers do not say themselves."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from litestar.handlers import HTTPRouteHandler

from pulse.application.callers import Caller
from pulse.application.event_feed import TooManyStreams
from pulse.application.halts import HaltRequest
from pulse.application.list_reads import PositionNotReached
from pulse.application.orders import CancelRequest
from pulse.application.past import TimeInFuture, VersionBeyondStream
from pulse.application.readiness import ReadinessReport
from pulse.domain import OrderSpec, PreviewRequest
from pulse.eventstore import PositionBeyondLog
from pulse.evidence.tree import NoSealedEvent, NoSuchTile, NothingSealed, NotYetSealed
from pulse.http.api.event_stream import LAST_EVENT_ID, StreamParameters, feed_query
from pulse.http.api.events import EventParameters, event_query, page_limit
from pulse.http.api.export import CSV, NDJSON, format_of
from pulse.http.api.halts import HaltParameters
from pulse.http.api.lists import (
    OrderParameters,
    SliceParameters,
    order_query,
    slice_query,
)
from pulse.http.api.past import OrderAsOfParameters, QueueAsOfParameters, as_of_query
from pulse.http.auth import NOT_THIS_MACHINE, bearer_token
from pulse.http.bodies import MAX_BATCH_ORDERS, decode_batch
from pulse.http.errors import Forbidden, NotReady, beyond_log
from pulse.http.openapi.document import POSITION, OperationDescription, document
from pulse.http.openapi.error_examples import (
    A_CRASH,
    BODY_ERRORS,
    CANCELLING_ERRORS,
    COMMON_ERRORS,
    HALTING_ERRORS,
    LIFTING_ERRORS,
    NO_SUCH_ORDER,
    PLACING_ERRORS,
    PREVIEWING_ERRORS,
    ErrorExample,
    error_example,
)
from pulse.http.openapi.schemas import ref
from pulse.http.parameters import parse_query
from pulse.http.rights import Service, require_granted_right, right_of
from pulse.projections.queue_history import HistoryIncomplete
from pulse.rights import DEFAULT_RIGHTS

_DESCRIPTION: Final = """
Pulse owns trading orders: it stores a parent order, splits it into time-scheduled slices, releases
each at its time, and answers what happened, when, and why. This is its internal API, for services.

If service tokens are set, calls below `/internal` need one of them as a bearer token. Otherwise
only direct requests from the same machine are accepted, not through a proxy. Each call names the
right that its token needs: `read`, `write` or `halt`. A token has `read` and `write` unless the
operator of Pulse sets other rights for its service.
"""
_TAGS: Final = {
    "orders": "Placing, previewing, reading and cancelling orders.",
    "lists": "Lists across orders, in pages.",
    "events": "The events of an order, and the whole log.",
    "halts": "Halting releases in an emergency, and resuming them.",
    "seal": "The signed Merkle tree over the log, in the formats of c2sp.org: tlog-tiles, "
    "tlog-checkpoint, tlog-proof.",
    "health": "Liveness, readiness, and a call to test a token.",
}
_AUTH: Final = (
    error_example("no service token", lambda: bearer_token([])),
    ErrorExample("from another machine", Forbidden(NOT_THIS_MACHINE)),
)
_NOT_READY: Final = NotReady(
    ReadinessReport(
        {
            "database": None,
            "projection": "the order queue is 12 s behind the log at position 17, more than 10 s",
        }
    )
)
_BATCH: Final[dict[str, Any]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_BATCH_ORDERS,
    "items": ref(OrderSpec),
}


def document_of_api(handlers: Sequence[HTTPRouteHandler]) -> dict[str, Any]:
    """The OpenAPI document of the API."""
    return document(
        "Pulse",
        _DESCRIPTION,
        handlers=handlers,
        described={h.handler_name: _with_right(h, _DESCRIBED[h.handler_name]) for h in handlers},
        tags=_TAGS,
        security_schemes={"serviceToken": {"type": "http", "scheme": "bearer"}},
        security=({}, {"serviceToken": []}),
    )


def _with_right(handler: HTTPRouteHandler, described: OperationDescription) -> OperationDescription:
    """The operation with the right that its route declares."""
    right = right_of(handler)
    if right is None:
        return described
    desk = Service(Caller(placed_by="desk"), DEFAULT_RIGHTS - {right})
    missing = error_example("the right is missing", lambda: require_granted_right(desk, right))
    return msgspec.structs.replace(
        described,
        errors=(*described.errors, missing),
        note=f"A service token needs the right `{right}`.",
    )


def _internal(*errors: ErrorExample, **more: Any) -> OperationDescription:  # noqa: ANN401 - fields of OperationDescription
    """A call below `/internal`."""
    return OperationDescription(errors=(*errors, *_AUTH, *COMMON_ERRORS), **more)


def _orders_query(query: bytes) -> object:
    return order_query(parse_query(query, OrderParameters))


def _slices_query(query: bytes) -> object:
    return slice_query(parse_query(query, SliceParameters))


def _events_query(query: bytes) -> object:
    parameters = parse_query(query, EventParameters)
    return event_query(parameters), page_limit(parameters)


def _order_as_of_query(query: bytes) -> object:
    return as_of_query(parse_query(query, OrderAsOfParameters))


def _queue_as_of_query(query: bytes) -> object:
    return as_of_query(parse_query(query, QueueAsOfParameters))


def _stream_query(query: bytes, *last_event_ids: str) -> object:
    return feed_query(parse_query(query, StreamParameters), [*last_event_ids])


_NOT_IN_LOG: Final = (
    ErrorExample("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18), "position")),
    ErrorExample("in the future", TimeInFuture(datetime(2026, 3, 2, 3, 45, tzinfo=UTC))),
)

_NOT_OLDER: Final = (
    ErrorExample("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18), "min_position")),
    ErrorExample("the position is not reached", PositionNotReached(17, 18)),
)

_DESCRIBED: Final = {
    "place_order": _internal(
        *PLACING_ERRORS,
        body=ref(OrderSpec),
        answer_headers=[POSITION],
        other_statuses={"200": "The same request again: the order existed already."},
    ),
    "place_orders": _internal(
        error_example("no orders", lambda: decode_batch(b"[]")),
        error_example("not an array", lambda: decode_batch(b"{}")),
        *BODY_ERRORS,
        body=_BATCH,
        answer_headers=[POSITION],
    ),
    "preview_order": _internal(*PREVIEWING_ERRORS, body=ref(PreviewRequest)),
    "cancel_order": _internal(
        *CANCELLING_ERRORS,
        body=ref(CancelRequest),
        body_is_optional=True,
        answer_headers=[POSITION],
    ),
    "read_order": _internal(
        NO_SUCH_ORDER,
        error_example(
            "both a version and a position", lambda: _order_as_of_query(b"version=1&position=17")
        ),
        error_example("no such version", lambda: _order_as_of_query(b"version=0")),
        ErrorExample("a version beyond the order's last", VersionBeyondStream(3)),
        error_example("no zone", lambda: _order_as_of_query(b"at=2026-03-02T09:15:00")),
        *_NOT_IN_LOG,
    ),
    "read_queue": _internal(
        error_example(
            "both a position and a time",
            lambda: _queue_as_of_query(b"position=17&at=2026-03-02T03:45:00Z"),
        ),
        error_example("no zone", lambda: _queue_as_of_query(b"at=2026-03-02T09:15:00")),
        *_NOT_IN_LOG,
        ErrorExample("the history is incomplete", HistoryIncomplete()),
    ),
    "read_history": _internal(NO_SUCH_ORDER),
    "list_orders": _internal(
        error_example("a limit out of range", lambda: _orders_query(b"limit=0")),
        error_example("an unknown status", lambda: _orders_query(b"order_queue_status=OPEN")),
        error_example("a scope without a key", lambda: _orders_query(b"key_scope=internal")),
        error_example("no zone", lambda: _orders_query(b"created_from=2026-03-02T09:15:00")),
        error_example("an invalid cursor", lambda: _orders_query(b"cursor=x")),
        *_NOT_OLDER,
    ),
    "list_slices": _internal(
        error_example("no zone", lambda: _slices_query(b"scheduled_from=2026-03-02T09:15:00")),
        error_example("an invalid cursor", lambda: _slices_query(b"cursor=x")),
        *_NOT_OLDER,
    ),
    "list_events": _internal(
        ErrorExample("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18))),
        error_example("an unknown type", lambda: _events_query(b"type=OrderFilled")),
        error_example("a limit too high for a page", lambda: _events_query(b"limit=1001")),
        error_example("no zone", lambda: _events_query(b"recorded_from=2026-03-02T09:15:00")),
        error_example("slices in JSON", lambda: format_of(["application/json"], "slices")),
        error_example("slices of a type", lambda: _events_query(b"rows=slices&type=OrderCreated")),
        error_example(
            "a media type that is not offered", lambda: format_of(["application/xml"], "events")
        ),
        ErrorExample("too many exports and streams", TooManyStreams(100)),
        other_media_types=(NDJSON, CSV),
    ),
    "stream_events": _internal(
        ErrorExample("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18))),
        error_example(
            "an unknown type", lambda: parse_query(b"type=OrderFilled", StreamParameters)
        ),
        error_example("an invalid partition", lambda: _stream_query(b"partition=4/4")),
        error_example("not a position", lambda: _stream_query(b"", "x")),
        ErrorExample("too many streams", TooManyStreams(100)),
        headers={
            LAST_EVENT_ID: "the id of the last message that was received, a position; it takes "
            "precedence over `after`"
        },
    ),
    "halt_releases": _internal(
        *HALTING_ERRORS,
        body=ref(HaltRequest),
        answer_headers=[POSITION],
        other_statuses={"200": "This scope was already halted. Its halt is unchanged."},
    ),
    "list_halts": _internal(
        error_example(
            "neither true nor false", lambda: parse_query(b"include_lifted=1", HaltParameters)
        )
    ),
    "lift_halt": _internal(*LIFTING_ERRORS, answer_headers=[POSITION]),
    "read_checkpoint": _internal(ErrorExample("nothing is sealed", NothingSealed())),
    "read_tile": _internal(
        ErrorExample("nothing is sealed", NothingSealed()),
        ErrorExample("no such tile", NoSuchTile(300)),
    ),
    "read_proof": _internal(
        ErrorExample("nothing is sealed", NothingSealed()),
        ErrorExample("no such event", NoSealedEvent("17")),
        ErrorExample("not sealed yet", NotYetSealed(18)),
    ),
    "say_hello": _internal(),
    "read_health": OperationDescription(errors=(A_CRASH,), security=()),
    "read_readiness": OperationDescription(
        errors=(ErrorExample("not ready", _NOT_READY), A_CRASH), security=()
    ),
}

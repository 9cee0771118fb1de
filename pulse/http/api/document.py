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
from pulse.http.openapi.faults import (
    A_CRASH,
    FAULTS_OF_ALL,
    FAULTS_OF_BODIES,
    FAULTS_OF_CANCELLING,
    FAULTS_OF_HALTING,
    FAULTS_OF_LIFTING,
    FAULTS_OF_PLACING,
    FAULTS_OF_PREVIEWS,
    NO_SUCH_ORDER,
    Fault,
    fault_of,
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
    fault_of("no service token", lambda: bearer_token([])),
    Fault("from another machine", Forbidden(NOT_THIS_MACHINE)),
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
    missing = fault_of("the right is missing", lambda: require_granted_right(desk, right))
    return msgspec.structs.replace(
        described,
        faults=(*described.faults, missing),
        note=f"A service token needs the right `{right}`.",
    )


def _internal(*faults: Fault, **more: Any) -> OperationDescription:  # noqa: ANN401 - fields of OperationDescription
    """A call below `/internal`."""
    return OperationDescription(faults=(*faults, *_AUTH, *FAULTS_OF_ALL), **more)


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
    Fault("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18), "position")),
    Fault("in the future", TimeInFuture(datetime(2026, 3, 2, 3, 45, tzinfo=UTC))),
)

_NOT_OLDER: Final = (
    Fault("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18), "min_position")),
    Fault("the position is not reached", PositionNotReached(17, 18)),
)

_DESCRIBED: Final = {
    "place_order": _internal(
        *FAULTS_OF_PLACING,
        body=ref(OrderSpec),
        answer_headers=[POSITION],
        other_statuses={"200": "The same request again: the order existed already."},
    ),
    "place_orders": _internal(
        fault_of("no orders", lambda: decode_batch(b"[]")),
        fault_of("not an array", lambda: decode_batch(b"{}")),
        *FAULTS_OF_BODIES,
        body=_BATCH,
        answer_headers=[POSITION],
    ),
    "preview_order": _internal(*FAULTS_OF_PREVIEWS, body=ref(PreviewRequest)),
    "cancel_order": _internal(
        *FAULTS_OF_CANCELLING,
        body=ref(CancelRequest),
        body_is_optional=True,
        answer_headers=[POSITION],
    ),
    "read_order": _internal(
        NO_SUCH_ORDER,
        fault_of(
            "both a version and a position", lambda: _order_as_of_query(b"version=1&position=17")
        ),
        fault_of("no such version", lambda: _order_as_of_query(b"version=0")),
        Fault("a version beyond the order's last", VersionBeyondStream(3)),
        fault_of("no zone", lambda: _order_as_of_query(b"at=2026-03-02T09:15:00")),
        *_NOT_IN_LOG,
    ),
    "read_queue": _internal(
        fault_of(
            "both a position and a time",
            lambda: _queue_as_of_query(b"position=17&at=2026-03-02T03:45:00Z"),
        ),
        fault_of("no zone", lambda: _queue_as_of_query(b"at=2026-03-02T09:15:00")),
        *_NOT_IN_LOG,
        Fault("the history is incomplete", HistoryIncomplete()),
    ),
    "read_history": _internal(NO_SUCH_ORDER),
    "list_orders": _internal(
        fault_of("a limit out of range", lambda: _orders_query(b"limit=0")),
        fault_of("an unknown status", lambda: _orders_query(b"order_queue_status=OPEN")),
        fault_of("a scope without a key", lambda: _orders_query(b"key_scope=internal")),
        fault_of("no zone", lambda: _orders_query(b"created_from=2026-03-02T09:15:00")),
        fault_of("an invalid cursor", lambda: _orders_query(b"cursor=x")),
        *_NOT_OLDER,
    ),
    "list_slices": _internal(
        fault_of("no zone", lambda: _slices_query(b"scheduled_from=2026-03-02T09:15:00")),
        fault_of("an invalid cursor", lambda: _slices_query(b"cursor=x")),
        *_NOT_OLDER,
    ),
    "list_events": _internal(
        Fault("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18))),
        fault_of("an unknown type", lambda: _events_query(b"type=OrderFilled")),
        fault_of("a limit too high for a page", lambda: _events_query(b"limit=1001")),
        fault_of("no zone", lambda: _events_query(b"recorded_from=2026-03-02T09:15:00")),
        fault_of("slices in JSON", lambda: format_of(["application/json"], "slices")),
        fault_of("slices of a type", lambda: _events_query(b"rows=slices&type=OrderCreated")),
        fault_of(
            "a media type that is not offered", lambda: format_of(["application/xml"], "events")
        ),
        Fault("too many exports and streams", TooManyStreams(100)),
        other_media_types=(NDJSON, CSV),
    ),
    "stream_events": _internal(
        Fault("beyond the log", beyond_log(PositionBeyondLog(after=99, end=18))),
        fault_of("an unknown type", lambda: parse_query(b"type=OrderFilled", StreamParameters)),
        fault_of("an invalid partition", lambda: _stream_query(b"partition=4/4")),
        fault_of("not a position", lambda: _stream_query(b"", "x")),
        Fault("too many streams", TooManyStreams(100)),
        headers={
            LAST_EVENT_ID: "the id of the last message that was received, a position; it takes "
            "precedence over `after`"
        },
    ),
    "halt_releases": _internal(
        *FAULTS_OF_HALTING,
        body=ref(HaltRequest),
        answer_headers=[POSITION],
        other_statuses={"200": "This scope was already halted. Its halt is unchanged."},
    ),
    "list_halts": _internal(
        fault_of("neither true nor false", lambda: parse_query(b"include_lifted=1", HaltParameters))
    ),
    "lift_halt": _internal(*FAULTS_OF_LIFTING, answer_headers=[POSITION]),
    "read_checkpoint": _internal(Fault("nothing is sealed", NothingSealed())),
    "read_tile": _internal(
        Fault("nothing is sealed", NothingSealed()), Fault("no such tile", NoSuchTile(300))
    ),
    "read_proof": _internal(
        Fault("nothing is sealed", NothingSealed()),
        Fault("no such event", NoSealedEvent("17")),
        Fault("not sealed yet", NotYetSealed(18)),
    ),
    "say_hello": _internal(),
    "read_health": OperationDescription(faults=(A_CRASH,), security=()),
    "read_readiness": OperationDescription(
        faults=(Fault("not ready", _NOT_READY), A_CRASH), security=()
    ),
}

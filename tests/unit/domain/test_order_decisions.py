"""What an order decides, as given / when / then: these events, this command, those events."""

from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import cast

import msgspec
import pytest
from hypothesis import given

from pulse.domain import (
    SPLITTING_ERROR,
    TIMED_OUT,
    TOO_LATE,
    Claim,
    Command,
    Event,
    OrderCreated,
    OrderNotPlaced,
    OrderSpec,
    OrderUniqueKeyTaken,
    PlaceOrder,
    RecordedBy,
    Slice,
    SlicesScheduled,
    SplitConfigRequest,
    SplitOrder,
    SplitTerms,
    SplitterUnknown,
    SplittingFailed,
    TimedOut,
    TimeOutOrder,
    Trace,
    TraceContext,
    decide,
    evolve,
    fold,
    order_id_for,
    splitting,
)
from pulse.testing import place_orders
from tests.support.scenario import given_events

T0 = datetime(2026, 3, 2, 9, 15, 0, 123456, tzinfo=UTC)
API = RecordedBy(component="api", instance="api-1", code_version="0.1.0")
WORKER = RecordedBy(component="worker", instance="worker-1", code_version="0.1.0")
MONITOR = RecordedBy(component="monitor", instance="monitor-1", code_version="0.1.0")
CALLERS_TRACE = Trace(
    trace_id="t-caller", trace_source="GAPI", request_id="r-caller", request_source="GAPI:POST"
)
ORDER_ID = order_id_for("internal", "ouk_1")
CONFIG_FIELDS = SplitConfigRequest.__struct_fields__


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


PLACE = PlaceOrder(
    spec=OrderSpec(
        order_unique_key="ouk_1",
        instrument="NSE:RELIANCE",
        side="BUY",
        total_quantity=7,
        split_config=SplitConfigRequest(3, 10, randomize=False),
    ),
    key_scope="internal",
    placed_by="desk",
    split_seed=255,
    release=True,
    at=T0,
    recorded_by=API,
    trace=CALLERS_TRACE,
)

CREATED = OrderCreated(
    originator_id=ORDER_ID,
    originator_version=1,
    timestamp=T0,
    recorded_by=API,
    trace=CALLERS_TRACE,
    key_scope="internal",
    order_unique_key="ouk_1",
    instrument="NSE:RELIANCE",
    side="BUY",
    total_quantity=7,
    num_splits=3,
    duration_minutes=10,
    randomize=False,
    start_at=None,
    session_policy=None,
    split_seed="00000000000000ff",
    splitter_version=1,
    placed_by="desk",
    release=True,
    window_starts_at=T0,
    applied_policy="NONE",
    sessions=(),
    calendar_digest=None,
)

CLAIM = Claim(worker="worker-1", claimed_at=T0 + seconds(9), first_claimed_at=T0 + seconds(2))

SPLIT = SplitOrder(
    claim=CLAIM,
    max_split_delay_seconds=300,
    at=T0 + seconds(10),
    request_id="r-worker",
    recorded_by=WORKER,
)

WORKERS_TRACE = Trace(
    trace_id="t-caller",
    trace_source="PULSE_BACKGROUND:worker-1",
    request_id="r-worker",
    request_source="PULSE_BACKGROUND:worker-1",
)

SCHEDULED = SlicesScheduled(
    originator_id=ORDER_ID,
    originator_version=2,
    timestamp=T0 + seconds(10),
    recorded_by=WORKER,
    trace=WORKERS_TRACE,
    slices=(
        Slice(sequence_number=1, quantity=2, scheduled_at=T0),
        Slice(sequence_number=2, quantity=2, scheduled_at=T0 + seconds(300)),
        Slice(sequence_number=3, quantity=3, scheduled_at=T0 + seconds(600)),
    ),
    splitter_version=1,
    worker="worker-1",
    claimed_at=T0 + seconds(9),
)

FAILED = SplittingFailed(
    originator_id=ORDER_ID,
    originator_version=2,
    timestamp=T0 + seconds(10),
    recorded_by=WORKER,
    trace=WORKERS_TRACE,
    reason=TOO_LATE,
    message="",
    worker="worker-1",
    claimed_at=T0 + seconds(9),
)

TIME_OUT = TimeOutOrder(
    claim=CLAIM,
    timeout_seconds=300,
    detected_by="monitor-1",
    at=T0 + seconds(310),
    request_id="r-monitor",
    recorded_by=MONITOR,
)

ORDER_TIMED_OUT = TimedOut(
    originator_id=ORDER_ID,
    originator_version=2,
    timestamp=T0 + seconds(310),
    recorded_by=MONITOR,
    trace=Trace(
        trace_id="t-caller",
        trace_source="PULSE_BACKGROUND:monitor-1",
        request_id="r-monitor",
        request_source="PULSE_BACKGROUND:monitor-1",
    ),
    claimed_by="worker-1",
    claimed_at=T0 + seconds(9),
    timeout_seconds=300,
    detected_by="monitor-1",
)


def split_of(claimed_first: datetime, max_split_delay_seconds: float) -> SplitOrder:
    return msgspec.structs.replace(
        SPLIT,
        claim=msgspec.structs.replace(
            CLAIM, claimed_at=claimed_first, first_claimed_at=claimed_first
        ),
        max_split_delay_seconds=max_split_delay_seconds,
    )


def place_with(**changes: object) -> PlaceOrder:
    """The command with these fields of the spec or of its split_config changed."""
    config = {name: changes.pop(name) for name in CONFIG_FIELDS if name in changes}
    split_config = msgspec.structs.replace(PLACE.spec.split_config, **config)
    spec = msgspec.structs.replace(PLACE.spec, split_config=split_config, **changes)
    return msgspec.structs.replace(PLACE, spec=spec)


# Placing


def test_an_order_is_created_with_all_its_schedule_depends_on() -> None:
    given_events().when(PLACE).then(CREATED)


@pytest.mark.parametrize(
    ("seed", "recorded"), [(0, "0" * 16), (255, "00000000000000ff"), (2**64 - 1, "f" * 16)]
)
def test_the_seed_is_recorded_as_16_hex_digits_and_read_back(seed: int, recorded: str) -> None:
    place = msgspec.structs.replace(PLACE, split_seed=seed)
    created = msgspec.structs.replace(CREATED, split_seed=recorded)
    given_events().when(place).then(created)
    assert evolve(None, created).split_seed == seed


def test_the_same_order_placed_again_causes_nothing() -> None:
    given_events(CREATED).when(PLACE).then()


def test_time_seed_author_and_trace_do_not_make_it_another_order() -> None:
    again = msgspec.structs.replace(
        PLACE,
        at=T0 + seconds(86_400),
        split_seed=1,
        placed_by="someone else",
        recorded_by=msgspec.structs.replace(API, instance="api-2"),
        trace=WORKERS_TRACE,
    )
    given_events(CREATED).when(again).then()


@pytest.mark.parametrize(
    "outcome", [SCHEDULED, FAILED, ORDER_TIMED_OUT], ids=lambda e: type(e).__name__
)
def test_a_finished_order_placed_again_causes_nothing(outcome: Event) -> None:
    given_events(CREATED, outcome).when(PLACE).then()


@pytest.mark.parametrize(
    "changes",
    [
        {"instrument": "BSE:500325"},
        {"side": "SELL"},
        {"total_quantity": 8},
        {"num_splits": 4},
        {"duration_minutes": 11},
        {"randomize": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("outcomes", [(), (SCHEDULED,), (ORDER_TIMED_OUT,)])
def test_a_key_used_with_other_data_is_refused_with_the_facts(
    changes: dict[str, object], outcomes: tuple[Event, ...]
) -> None:
    refusal = (
        given_events(CREATED, *outcomes)
        .when(place_with(**changes))
        .then_refused(OrderUniqueKeyTaken)
    )
    assert refusal.order_unique_key == "ouk_1"
    assert refusal.existing_order_id == ORDER_ID
    assert str(refusal) == (
        f"order_unique_key 'ouk_1' already belongs to order {ORDER_ID} with other data; "
        "use a new key for a new order"
    )


def test_another_scope_makes_another_order_of_the_same_key() -> None:
    elsewhere = msgspec.structs.replace(PLACE, key_scope="issuer|subject")
    (created,) = decide(elsewhere, None)
    assert created.originator_id == order_id_for("issuer|subject", "ouk_1") != ORDER_ID


@given(place_orders())
def test_any_order_once_placed_is_the_same_when_placed_again(command: PlaceOrder) -> None:
    given_events(*decide(command, None)).when(command).then()


@given(place_orders())
def test_an_order_keeps_every_requested_value(command: PlaceOrder) -> None:
    order = fold(decide(command, None))
    assert order is not None
    assert order.spec == command.spec
    config = command.spec.split_config
    asked = command.at if config.start_at is None else config.start_at
    sessions = order.sessions
    assert order.terms == SplitTerms(
        total_quantity=command.spec.total_quantity,
        num_splits=config.num_splits,
        duration_minutes=config.duration_minutes,
        randomize=config.randomize,
        seed=command.split_seed,
        starts_at=max(asked, sessions[0].opens_at) if sessions else asked,
        sessions=sessions,
    )
    assert bool(sessions) == ((config.session_policy or command.default_policy) != "NONE")
    assert (order.version, order.state, order.slices) == (1, "PENDING", ())


# Splitting


def test_a_claimed_order_is_split() -> None:
    given_events(CREATED).when(SPLIT).then(SCHEDULED)


def test_a_worker_keeps_the_orders_trace_and_names_itself_as_the_source() -> None:
    other = msgspec.structs.replace(SPLIT, claim=msgspec.structs.replace(CLAIM, worker="w-9"))
    (event,) = decide(other, fold([CREATED]))
    assert event.trace == Trace(
        trace_id=CALLERS_TRACE.trace_id,
        trace_source="PULSE_BACKGROUND:w-9",
        request_id="r-worker",
        request_source="PULSE_BACKGROUND:w-9",
    )


@pytest.mark.parametrize(
    ("delay_seconds", "limit_seconds"),
    [(300, 300), (0, 300), (-5, 300), (0.25, 0.25), (600, 600), (600, 0), (600, 3600)],
    ids=str,
)
def test_an_order_first_claimed_exactly_at_the_limit_is_still_in_time(
    delay_seconds: float, limit_seconds: float
) -> None:
    command = split_of(T0 + seconds(delay_seconds), limit_seconds)
    given_events(CREATED).when(command).then(
        msgspec.structs.replace(SCHEDULED, claimed_at=command.claim.claimed_at)
    )


MICROSECOND = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("first_claimed_at", "limit_seconds", "message"),
    [
        pytest.param(
            T0 + seconds(300) + MICROSECOND,
            300,
            "first claimed 300.0 s after its creation, later than the 300 s allowed",
            id="a microsecond after the limit",
        ),
        pytest.param(
            T0 + seconds(599),
            0.5,
            "first claimed 599.0 s after its creation, later than the 0.5 s allowed",
            id="long after the limit",
        ),
        pytest.param(
            T0 + seconds(600) + MICROSECOND,
            0,
            "claimed 600.0 s after its creation, when its window of 10 min had ended",
            id="after the window's end, with no limit",
        ),
        pytest.param(
            T0 + seconds(601),
            3600,
            "claimed 601.0 s after its creation, when its window of 10 min had ended",
            id="after the window's end, within the limit",
        ),
        pytest.param(
            T0 + seconds(601),
            300,
            "claimed 601.0 s after its creation, when its window of 10 min had ended",
            id="after both: the window's end is the reason",
        ),
    ],
)
def test_an_order_claimed_too_late_fails(
    first_claimed_at: datetime, limit_seconds: float, message: str
) -> None:
    command = split_of(first_claimed_at, limit_seconds)
    given_events(CREATED).when(command).then(
        msgspec.structs.replace(
            FAILED, reason="TOO_LATE", message=message, claimed_at=first_claimed_at
        )
    )


def test_within_the_window_only_the_first_claim_decides_whether_it_is_too_late() -> None:
    late_claim = msgspec.structs.replace(CLAIM, claimed_at=T0 + seconds(600))
    command = msgspec.structs.replace(SPLIT, claim=late_claim, at=T0 + seconds(601))
    given_events(CREATED).when(command).then(
        msgspec.structs.replace(
            SCHEDULED, timestamp=T0 + seconds(601), claimed_at=T0 + seconds(600)
        )
    )


def test_after_the_window_no_claim_is_in_time_however_early_the_first_was() -> None:
    late_claim = msgspec.structs.replace(CLAIM, claimed_at=T0 + seconds(600) + MICROSECOND)
    command = msgspec.structs.replace(SPLIT, claim=late_claim, at=T0 + seconds(601))
    (failed,) = decide(command, fold([CREATED]))
    assert isinstance(failed, SplittingFailed)
    assert failed.reason == "TOO_LATE"


TOMORROW = msgspec.structs.replace(
    CREATED, start_at=T0 + timedelta(days=1), window_starts_at=T0 + timedelta(days=1)
)


def test_an_order_for_tomorrow_is_split_now() -> None:
    (event,) = decide(split_of(T0 + seconds(2), 300), fold([TOMORROW]))
    assert isinstance(event, SlicesScheduled)
    assert event.slices[0].scheduled_at == T0 + timedelta(days=1)
    assert event.slices[-1].scheduled_at == T0 + timedelta(days=1, minutes=10)


@pytest.mark.parametrize(
    ("claimed_after", "message"),
    [
        (-86_000, None),
        (300, None),
        (
            300.5,
            "first claimed 300.5 s after the start of its window, later than the 300 s allowed",
        ),
        (601, "claimed 601.0 s after the start of its window, when its window of 10 min had ended"),
    ],
)
def test_too_late_counts_from_the_start_if_that_is_later(
    claimed_after: float, message: str | None
) -> None:
    command = split_of(T0 + timedelta(days=1, seconds=claimed_after), 300)
    (event,) = decide(command, fold([TOMORROW]))
    assert getattr(event, "message", None) == message


def test_a_start_just_before_the_creation_does_not_count() -> None:
    earlier = T0 - seconds(1)
    created = msgspec.structs.replace(CREATED, start_at=earlier, window_starts_at=earlier)
    (event,) = decide(split_of(T0 + seconds(300), 300), fold([created]))
    assert isinstance(event, SlicesScheduled)


def test_a_schedule_that_breaks_a_rule_is_never_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def loses_a_share(terms: SplitTerms) -> tuple[Slice, ...]:
        first, *rest = splitting.split_v1(terms)
        return msgspec.structs.replace(first, quantity=first.quantity - 1), *rest

    monkeypatch.setattr(splitting, "SPLITTERS", MappingProxyType({1: loses_a_share}))
    given_events(CREATED).when(SPLIT).then(
        msgspec.structs.replace(
            FAILED,
            reason=SPLITTING_ERROR,
            message=(
                "quantities_sum_to_total: quantities sum to 6, expected 7; "
                "even_quantities_are_even: quantities run from 1 to 3; "
                "even_quantities_are_even: the first 1 slices hold 1 shares of 7"
            ),
        )
    )


def test_the_recorded_splitter_version_is_used_and_not_the_current_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(terms: SplitTerms) -> tuple[Slice, ...]:
        raise AssertionError(terms)

    monkeypatch.setattr(splitting, "SPLITTERS", MappingProxyType({1: never, 2: splitting.split_v1}))
    created = msgspec.structs.replace(CREATED, splitter_version=2)
    given_events(created).when(SPLIT).then(msgspec.structs.replace(SCHEDULED, splitter_version=2))


def test_an_order_of_a_newer_splitter_is_refused() -> None:
    created = msgspec.structs.replace(CREATED, splitter_version=99)
    refusal = given_events(created).when(SPLIT).then_refused(SplitterUnknown)
    assert refusal.splitter_version == 99


def test_an_order_of_a_newer_splitter_that_is_too_late_fails_on_any_code() -> None:
    created = msgspec.structs.replace(CREATED, splitter_version=99)
    (event,) = decide(split_of(T0 + seconds(601), 0), fold([created]))
    assert isinstance(event, SplittingFailed)
    assert event.reason == TOO_LATE


# Timing out


def test_an_order_in_progress_for_too_long_times_out() -> None:
    given_events(CREATED).when(TIME_OUT).then(ORDER_TIMED_OUT)


@pytest.mark.parametrize(
    ("timeout_seconds", "limit"), [(300, "300 s"), (0.5, "0.5 s"), (86400.0, "86400 s")]
)
def test_the_message_of_a_timed_out_order_has_its_worker_and_the_timeout(
    timeout_seconds: float, limit: str
) -> None:
    order = fold(
        [CREATED, msgspec.structs.replace(ORDER_TIMED_OUT, timeout_seconds=timeout_seconds)]
    )
    assert order is not None
    assert order.failure_reason == TIMED_OUT == "TIMED_OUT"
    assert order.failure_message == (
        f"claimed by worker-1 and not split within {limit}; "
        "place it again under a new key if it is still wanted"
    )


# One outcome


@pytest.mark.parametrize(
    "outcome", [SCHEDULED, FAILED, ORDER_TIMED_OUT], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize(
    "late",
    [SPLIT, split_of(T0 + seconds(9999), 1), TIME_OUT],
    ids=["split in time", "split too late", "time out"],
)
def test_a_command_after_the_outcome_causes_no_event(outcome: Event, late: Command) -> None:
    given_events(CREATED, outcome).when(late).then()


def test_a_finished_order_needs_no_splitter() -> None:
    created = msgspec.structs.replace(CREATED, splitter_version=99)
    given_events(created, ORDER_TIMED_OUT).when(SPLIT).then()


@pytest.mark.parametrize("command", [SPLIT, TIME_OUT], ids=["split", "time out"])
def test_a_worker_command_without_an_order_is_refused(command: Command) -> None:
    refusal = given_events().when(command).then_refused(OrderNotPlaced)
    assert str(refusal) == "there is no order in this stream"


def test_an_unknown_command_raises_assertion_error() -> None:
    with pytest.raises(AssertionError, match="'a command'"):
        decide(cast("Command", "a command"), None)


CONTEXT = TraceContext(
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    tracestate="vendor=opaque",
)
OF_WORKER = TraceContext(traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-b7ad6b7169203331-01")
TRACED = msgspec.structs.replace(CREATED, trace=CALLERS_TRACE.within(CONTEXT))


def context_of(command: SplitOrder | TimeOutOrder, created: OrderCreated) -> TraceContext | None:
    (event,) = decide(command, fold((created,)))
    return event.trace.context


def test_an_outcome_keeps_the_trace_context_of_its_order() -> None:
    assert context_of(SPLIT, TRACED) == context_of(TIME_OUT, TRACED) == CONTEXT
    assert context_of(SPLIT, CREATED) is None
    assert context_of(TIME_OUT, CREATED) is None


@pytest.mark.parametrize("created", [CREATED, TRACED], ids=["without context", "with context"])
def test_an_outcome_has_the_context_of_the_span_that_writes_it(created: OrderCreated) -> None:
    assert context_of(msgspec.structs.replace(SPLIT, context=OF_WORKER), created) == OF_WORKER


def test_a_trace_continued_in_another_span_loses_the_earlier_tracestate() -> None:
    trace = CALLERS_TRACE.within(CONTEXT).within(OF_WORKER)
    assert trace.context == OF_WORKER
    assert (trace.trace_id, trace.request_id) == ("t-caller", "r-caller")

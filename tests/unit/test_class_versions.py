"""Class versions of events: older ones are upcast, newer ones are left to newer code."""

import json
from typing import Any, ClassVar
from uuid import uuid4

import msgspec
import pytest
from eventsourcing.persistence import MapperDeserialisationError, StoredEvent

from pulse.domain import DomainEvent, OrderCreated
from pulse.eventstore import EventMapper, EventTooNew, EventUnreadable, RecordedEvent
from tests.support.events import (
    ADDED_IN_VERSION_3,
    ADDED_SINCE_VERSION_1,
    MAPPER,
    order_cancelled,
    order_created,
    stored,
)


class ParcelSent(DomainEvent, frozen=True, kw_only=True):
    """Version 1 had the weight in kilograms, version 2 in grams and no carrier."""

    TOPIC: ClassVar[str] = "tests:ParcelSent"
    class_version: ClassVar[int] = 3

    grams: int
    carrier: str

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["grams"] = state.pop("kilograms") * 1000

    @staticmethod
    def upcast_v2_v3(state: dict[str, Any]) -> None:
        state["carrier"] = "post"

    @staticmethod
    def downcast_v3_v2(state: dict[str, Any]) -> None:
        del state["carrier"]

    @staticmethod
    def downcast_v2_v1(state: dict[str, Any]) -> None:
        state["kilograms"] = state.pop("grams") // 1000


CREATED = order_created()
SENT = ParcelSent(
    originator_id=uuid4(),
    originator_version=1,
    timestamp=CREATED.timestamp,
    recorded_by=CREATED.recorded_by,
    trace=CREATED.trace,
    grams=3000,
    carrier="post",
)


def as_stored(event: DomainEvent, changes: dict[str, Any], *removed: str) -> StoredEvent:
    """The event as other code stored it: with these fields last, and without those removed."""
    written = MAPPER.to_stored_event(event)
    fields = {k: v for k, v in json.loads(written.state).items() if k not in (*changes, *removed)}
    state = json.dumps(fields | changes, separators=(",", ":"), ensure_ascii=False).encode()
    return StoredEvent(written.originator_id, written.originator_version, written.topic, state)


FIRST = as_stored(SENT, {"kilograms": 3}, "class_version", "grams", "carrier")
SECOND = as_stored(SENT, {"grams": 3000, "class_version": 2}, "carrier")
THIRD = as_stored(SENT, {"class_version": 3})


@pytest.fixture
def mapper() -> EventMapper:
    mapper = EventMapper()
    mapper.register(ParcelSent)
    return mapper


@pytest.mark.parametrize("event", [FIRST, SECOND, THIRD], ids=["1", "2", "3"])
def test_an_event_of_any_known_version_is_read(mapper: EventMapper, event: StoredEvent) -> None:
    assert mapper.to_domain_event(event) == SENT


@pytest.mark.parametrize("event", [FIRST, SECOND, THIRD], ids=["1", "2", "3"])
def test_an_event_is_encoded_again_as_it_was_stored(
    mapper: EventMapper, event: StoredEvent
) -> None:
    assert mapper.state_as_stored(SENT, event) == event.state


def test_an_event_is_written_in_the_current_version(mapper: EventMapper) -> None:
    written = mapper.to_stored_event(SENT)
    assert written == THIRD
    assert written.state.endswith(b',"class_version":3}')


def test_an_event_of_the_first_version_has_no_version_in_its_state() -> None:
    (written,) = stored([order_cancelled(CREATED)])
    assert b"class_version" not in written.state


def test_the_version_is_found_wherever_it_is(mapper: EventMapper) -> None:
    state = THIRD.state.replace(b',"class_version":3}', b"}")
    state = b'{"class_version":3,' + state[1:]
    event = StoredEvent(SENT.originator_id, 1, SENT.TOPIC, state)
    assert mapper.to_domain_event(event) == SENT


TEXTS = ['"class_version":9', '","class_version":9', ',"class_version":2}', '{"class_version":9}']


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_that_looks_like_a_version_is_a_text(mapper: EventMapper, text: str) -> None:
    created = order_created(placed_by=text)
    cancelled = msgspec.structs.replace(order_cancelled(created, reason=text), cancelled_by=text)
    for event in (created, cancelled):
        (written,) = stored([event])
        assert mapper.to_domain_event(written) == event
        assert mapper.state_as_stored(event, written) == written.state
    first = as_stored(created, {}, *ADDED_SINCE_VERSION_1)
    assert mapper.to_domain_event(first) == msgspec.structs.replace(created, release=False)


def test_an_order_of_the_first_version_is_not_released(mapper: EventMapper) -> None:
    first = as_stored(CREATED, {}, *ADDED_SINCE_VERSION_1)
    order = mapper.to_domain_event(first)
    assert order == msgspec.structs.replace(CREATED, release=False)
    assert isinstance(order, OrderCreated)
    assert mapper.state_as_stored(order, first) == first.state


def test_an_order_of_the_first_version_may_not_have_the_field_of_the_second(
    mapper: EventMapper,
) -> None:
    """Such an event was altered: it is read as not released, and its bytes differ."""
    altered = as_stored(CREATED, {"release": True}, "class_version")
    order = mapper.to_domain_event(altered)
    assert order == msgspec.structs.replace(CREATED, release=False)
    assert mapper.state_as_stored(CREATED, altered) != altered.state


def test_an_order_of_the_second_version_starts_at_its_creation(mapper: EventMapper) -> None:
    second = as_stored(CREATED, {"class_version": 2}, *ADDED_IN_VERSION_3)
    order = mapper.to_domain_event(second)
    assert order == CREATED
    assert isinstance(order, OrderCreated)
    assert mapper.state_as_stored(order, second) == second.state


@pytest.mark.parametrize("missing", [*ADDED_IN_VERSION_3, "release"])
def test_an_order_of_the_current_version_needs_its_fields(
    mapper: EventMapper, missing: str
) -> None:
    with pytest.raises(MapperDeserialisationError, match=missing):
        mapper.to_domain_event(as_stored(CREATED, {"class_version": 3}, missing))


@pytest.mark.parametrize("version", ["2", True, None, 1.5, [], 0, -1], ids=str)
@pytest.mark.parametrize("event", [CREATED, order_cancelled(CREATED)], ids=["3", "1"])
def test_an_invalid_version_is_unreadable(
    mapper: EventMapper, event: DomainEvent, version: object
) -> None:
    invalid = as_stored(event, {"class_version": version})
    with pytest.raises(MapperDeserialisationError) as caught:
        mapper.to_domain_event(invalid)
    assert isinstance(caught.value.__cause__, EventUnreadable)


def test_a_newer_version_needs_newer_code(mapper: EventMapper) -> None:
    newer = as_stored(SENT, {"milligrams": 3_000_000, "class_version": 4}, "grams")
    with pytest.raises(MapperDeserialisationError, match="version 4, this code knows 3") as caught:
        mapper.to_domain_event(newer)
    assert isinstance(caught.value.__cause__, EventTooNew)


@pytest.mark.parametrize(
    ("event", "known"), [(CREATED, 3), (order_cancelled(CREATED), 1)], ids=["3", "1"]
)
def test_a_record_of_a_newer_version_is_too_new_and_not_unreadable(
    mapper: EventMapper, event: DomainEvent, known: int
) -> None:
    newer = as_stored(event, {"class_version": known + 1})
    record = RecordedEvent(
        position=1,
        originator_id=event.originator_id,
        originator_version=event.originator_version,
        topic=newer.topic,
        state=newer.state,
        recorded_at=CREATED.timestamp,
    )
    with pytest.raises(EventTooNew, match=f"version {known + 1}, this code knows {known}"):
        mapper.event_of(record)

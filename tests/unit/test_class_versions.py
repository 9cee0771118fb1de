"""Events of other class versions than the code's: older ones are brought up, newer ones not."""

from typing import Any, ClassVar
from uuid import UUID, uuid4

import msgspec
import pytest
from eventsourcing.persistence import MapperDeserialisationError, StoredEvent

from pulse.domain import DomainEvent
from pulse.eventstore import EventMapper, EventTooNew, RecordedEvent
from tests.support.events import order_created, stored


class ParcelSent(DomainEvent, frozen=True, kw_only=True):
    """Its first version had the weight in kilograms."""

    TOPIC: ClassVar[str] = "tests:ParcelSent"
    class_version: ClassVar[int] = 2

    grams: int

    @staticmethod
    def upcast_v1_v2(state: dict[str, Any]) -> None:
        state["grams"] = state.pop("kilograms") * 1000


def parcel_sent(stream: UUID, version: int) -> ParcelSent:
    created = order_created()
    return ParcelSent(
        originator_id=stream,
        originator_version=version,
        timestamp=created.timestamp,
        recorded_by=created.recorded_by,
        trace=created.trace,
        grams=2500,
    )


def in_class_version(event: StoredEvent, class_version: int | None, **changes: Any) -> StoredEvent:
    """The same event as code of another class version would have written it."""
    fields = msgspec.json.decode(event.state)
    del fields["class_version"], fields["grams"]
    if class_version is not None:
        fields["class_version"] = class_version
    state = msgspec.json.encode(fields | changes)
    return StoredEvent(event.originator_id, event.originator_version, event.topic, state)


@pytest.fixture
def mapper() -> EventMapper:
    mapper = EventMapper()
    mapper.register(ParcelSent)
    return mapper


def test_an_older_version_is_brought_up_and_the_current_one_read_as_it_is(
    mapper: EventMapper,
) -> None:
    sent = parcel_sent(uuid4(), 1)
    current = mapper.to_stored_event(sent)
    assert b'"class_version":2' in current.state
    assert mapper.to_domain_event(current) == sent
    first = in_class_version(current, None, kilograms=3)
    assert b"class_version" not in first.state
    assert mapper.to_domain_event(first) == msgspec.structs.replace(sent, grams=3000)


def test_a_newer_version_is_for_newer_code_to_read(mapper: EventMapper) -> None:
    newer = in_class_version(
        mapper.to_stored_event(parcel_sent(uuid4(), 1)), 3, milligrams=2_500_000
    )
    with pytest.raises(MapperDeserialisationError, match="version 3, this code knows 2") as caught:
        mapper.to_domain_event(newer)
    assert isinstance(caught.value.__cause__, EventTooNew)


def test_pulses_own_reading_calls_it_too_new_and_not_unreadable(mapper: EventMapper) -> None:
    created = order_created()
    (event,) = stored([created])
    state = event.state.replace(b'"class_version":2', b'"class_version":3')
    record = RecordedEvent(
        position=1,
        originator_id=created.originator_id,
        originator_version=1,
        topic=event.topic,
        state=state,
        recorded_at=created.timestamp,
    )
    with pytest.raises(EventTooNew, match="version 3, this code knows 2"):
        mapper.event_of(record)

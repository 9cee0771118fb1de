"""A stock application of the library on Pulse's recorder, a stock repository of its orders."""

from collections.abc import Iterable
from typing import ClassVar
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.application import AggregateNotFoundError, Application, Repository
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import EventStore, IntegrityError, NotSupportedError

from pulse.domain import Event, Order, evolve, fold
from pulse.eventstore import EventMapper, Factory
from pulse.eventstore.library import PulseApplicationRecorder
from tests.integration.library.conftest import MakeFactory
from tests.integration.library.stock import environment
from tests.support.events import order_created, slices_scheduled, stored


class Dog(Aggregate):
    @event("Registered")
    def __init__(self, name: str) -> None:
        self.name = name
        self.tricks: list[str] = []

    @event("TrickAdded")
    def add_trick(self, trick: str) -> None:
        self.tricks.append(trick)


class Kennel(Application[UUID]):
    name = "kennel"
    is_snapshotting_enabled = True
    snapshotting_intervals: ClassVar = {Dog: 3}


class Orders(Application[UUID]):
    """Pulse's own log, with nothing but configuration."""

    name = "stored"
    env: ClassVar = {"MAPPER_TOPIC": "pulse.eventstore:EventMapper", "CREATE_TABLE": "no"}


def folded(order: Order | None, events: Iterable[Event]) -> Order | None:
    for happened in events:
        order = evolve(order, happened)
    return order


def test_an_application_saves_and_reads(conninfo: str, connection: psycopg.Connection) -> None:
    with Kennel(env=environment(conninfo)) as kennel:
        assert type(kennel.factory) is Factory
        dog = Dog("Fido")
        for trick in ("roll over", "play dead", "fetch"):
            dog.add_trick(trick)
        recordings = kennel.save(dog)
        assert [recording.notification.id for recording in recordings] == [1, 2, 3, 4]
        copy: Dog = kennel.repository.get(dog.id)
        assert (copy.name, copy.tricks, copy.version) == ("Fido", dog.tricks, 4)
        second: Dog = kennel.repository.get(dog.id, version=2)
        assert second.tricks == ["roll over"]
        with pytest.raises(AggregateNotFoundError):
            kennel.repository.get(uuid4())
    with Kennel(env=environment(conninfo)) as another:
        again: Dog = another.repository.get(dog.id)
        assert again.tricks == dog.tricks
    row = connection.execute(
        """SELECT (SELECT count(*) FROM kennel_events), (SELECT count(*) FROM kennel_snapshots),
                  (SELECT count(*) FROM stored_events)"""
    ).fetchone()
    assert row == (4, 1, 0)


def test_its_notification_log_has_everything_in_order(conninfo: str) -> None:
    with Kennel(env=environment(conninfo)) as kennel:
        dogs = [Dog(f"dog {number}") for number in range(12)]
        (topic, *_) = {kennel.save(dog)[0].notification.topic for dog in dogs}
        section = kennel.notification_log["1,10"]
        assert (section.id, section.next_id) == ("1,10", "11,20")
        assert [item.originator_id for item in section.items] == [dog.id for dog in dogs[:10]]
        selected = kennel.notification_log.select(start=3, limit=2, topics=[topic])
        assert [item.id for item in selected] == [3, 4]


def test_of_two_who_change_the_same_version_one_wins(conninfo: str) -> None:
    with Kennel(env=environment(conninfo)) as kennel, Kennel(env=environment(conninfo)) as other:
        dog = Dog("Fido")
        kennel.save(dog)
        mine: Dog = kennel.repository.get(dog.id)
        theirs: Dog = other.repository.get(dog.id)
        mine.add_trick("roll over")
        theirs.add_trick("play dead")
        kennel.save(mine)
        with pytest.raises(IntegrityError):
            other.save(theirs)
        read: Dog = other.repository.get(dog.id)
        assert read.tricks == ["roll over"]


def test_a_stock_repository_rebuilds_the_order_that_pulse_folds(
    make_factory: MakeFactory,
) -> None:
    recorder: PulseApplicationRecorder = make_factory().application_recorder()
    created = order_created()
    events = (created, slices_scheduled(created))
    recorder.insert_events(stored(events))
    repository: Repository[UUID] = Repository(EventStore(EventMapper(), recorder))
    order: Order = repository.get(created.originator_id, projector_func=folded)
    assert order == fold(events)
    assert (order.id, order.version, len(order.slices)) == (created.originator_id, 2, 5)
    at_first: Order = repository.get(created.originator_id, version=1, projector_func=folded)
    assert at_first == fold(events[:1])


def test_a_cached_order_is_brought_up_to_date(make_factory: MakeFactory) -> None:
    recorder: PulseApplicationRecorder = make_factory().application_recorder()
    created = order_created()
    repository: Repository[UUID] = Repository(EventStore(EventMapper(), recorder), cache_maxsize=10)
    recorder.insert_events(stored([created]))
    before: Order = repository.get(created.originator_id, projector_func=folded)
    recorder.insert_events(stored([slices_scheduled(created)]))
    after: Order = repository.get(created.originator_id, projector_func=folded)
    assert (before.state, after.state) == ("PENDING", "COMPLETED")


def test_a_stock_application_reads_and_writes_pulses_own_log(conninfo: str) -> None:
    created = order_created()
    with Orders(env=environment(conninfo)) as orders:
        orders.save(created)
        orders.save(slices_scheduled(created))
        with pytest.raises(IntegrityError):
            orders.save(slices_scheduled(created))
        order: Order = orders.repository.get(created.originator_id, projector_func=folded)
    assert order.state == "COMPLETED"


def test_pulses_mapper_does_not_pretend_to_encrypt(conninfo: str) -> None:
    with pytest.raises(NotSupportedError):
        Orders(env=environment(conninfo, COMPRESSOR_TOPIC="zlib"))

"""Between Pulse's events and their stored form: JSON by msgspec, laid out as the library does."""

from collections.abc import Iterable, Iterator
from typing import Any, cast
from uuid import UUID

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import (
    Cipher,
    Compressor,
    JSONTranscoder,
    Mapper,
    MapperDeserialisationError,
    NotSupportedError,
    StoredEvent,
    Transcoder,
)
from eventsourcing.utils import register_topic

from pulse.domain import EVENT_TYPES, DomainEvent, Event
from pulse.errors import PulseError
from pulse.eventstore.records import RecordedEvent

_CLASS_VERSION = b'"class_version":'
_OWN_PREFIX = "pulse."
"""How the topic of every event of Pulse begins, and no topic of another application."""

_UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)
"""What decoding or an upcast may raise over a state that is not what its topic promises."""


class EventTooNew(PulseError):
    """The event was written by newer code than this; newer code must read it."""


class EventUnreadable(PulseError):
    """The stored state is not what its topic promises."""


class EventMapper(Mapper[UUID]):
    """A mapper of the `eventsourcing` library for msgspec structs.

    The state holds every field but originator_id and originator_version, and class_version where
    it is above 1. An older version is brought up by the class's `upcast_v1_v2` and so on, as the
    library's convention has it.
    """

    def __init__(
        self,
        transcoder: Transcoder | None = None,
        compressor: Compressor | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        """Takes what MAPPER_TOPIC gives a mapper; the state is plain JSON by msgspec in any case.

        Raises:
            NotSupportedError: compression or encryption is asked for.
        """
        if compressor is not None or cipher is not None:
            raise NotSupportedError("Pulse's events are neither compressed nor encrypted")
        super().__init__(transcoder=transcoder or JSONTranscoder())
        self._decoders: dict[str, msgspec.json.Decoder[DomainEvent]] = {}
        self._types: dict[str, type[DomainEvent]] = {}
        for event_type in EVENT_TYPES:
            self.register(event_type)

    def register(self, event_type: type[DomainEvent]) -> None:
        """Let this mapper read and write events of that type."""
        register_topic(event_type.TOPIC, event_type)
        self._types[event_type.TOPIC] = event_type
        self._decoders[event_type.TOPIC] = msgspec.json.Decoder(event_type)

    def owns(self, topic: str) -> bool:
        """Whether events of this topic are Pulse's, those of newer code included.

        Every topic that begins with `pulse.` is Pulse's. A topic that this code does not have is
        newer code's: no reader may skip its events. All other topics are foreign.
        """
        return topic in self._types or topic.startswith(_OWN_PREFIX)

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The stored form of an event."""
        event = cast("DomainEvent", domain_event)
        fields = msgspec.structs.asdict(event)
        del fields["originator_id"], fields["originator_version"]
        if event.class_version > 1:
            fields["class_version"] = event.class_version
        return StoredEvent(
            originator_id=event.originator_id,
            originator_version=event.originator_version,
            topic=event.TOPIC,
            state=msgspec.json.encode(fields),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event a stored form stands for.

        Raises:
            MapperDeserialisationError: the library's word for one that cannot be read.
        """
        try:
            event = self._decode(
                stored_event.topic,
                UUID(str(stored_event.originator_id)),
                stored_event.originator_version,
                stored_event.state,
            )
        except (EventUnreadable, EventTooNew) as error:
            raise MapperDeserialisationError(str(error)) from error
        return cast("DomainEventProtocol[UUID]", event)

    def event_of(self, record: RecordedEvent) -> Event:
        """The event of a log record.

        Raises:
            EventTooNew: only newer code can read it.
            EventUnreadable: no code can.
        """
        event = self._decode(
            record.topic, record.originator_id, record.originator_version, record.state
        )
        return cast("Event", event)

    def events_of(self, records: Iterable[RecordedEvent]) -> Iterator[Event]:
        """The events of log records; foreign ones are left out.

        Raises:
            EventTooNew, EventUnreadable: as `event_of`.
        """
        return (self.event_of(record) for record in records if self.owns(record.topic))

    def _decode(
        self, topic: str, originator_id: UUID, originator_version: int, state: bytes
    ) -> DomainEvent:
        """Typed decoding in one pass: the two keys are put back in front of the other fields."""
        event_type = self._types.get(topic)
        if event_type is None:
            where = _where(topic, originator_id, originator_version)
            if topic.startswith(_OWN_PREFIX):
                raise EventTooNew(f"{where} is of a type that this code does not have")
            raise EventUnreadable(f"{where} is not an event of Pulse")
        try:
            if event_type.class_version > 1 or _CLASS_VERSION in state:
                state = _upcast(event_type, state)
            head = b'{"originator_id":"%b","originator_version":%d,' % (
                originator_id.hex.encode(),
                originator_version,
            )
            return self._decoders[topic].decode(head + state[1:])
        except _NewerClassError as error:
            where = _where(topic, originator_id, originator_version)
            raise EventTooNew(f"{where} {error}") from None
        except _UNREADABLE as error:
            where = _where(topic, originator_id, originator_version)
            raise EventUnreadable(f"{where} cannot be read: {error}") from error


def _where(topic: str, originator_id: UUID, originator_version: int) -> str:
    """An event's place, for who has to look at it; not made for the many that are well."""
    return f"version {originator_version} of stream {originator_id} ({topic})"


class _NewerClassError(Exception):
    """The state names a class version above the code's."""


def _upcast(event_type: type[DomainEvent], state: bytes) -> bytes:
    fields: dict[str, Any] = msgspec.json.decode(state, type=dict[str, Any])
    version = fields.pop("class_version", 1)
    if version > event_type.class_version:
        raise _NewerClassError(
            f"has class version {version}, this code knows {event_type.class_version}"
        )
    for older in range(version, event_type.class_version):
        getattr(event_type, f"upcast_v{older}_v{older + 1}")(fields)
    return msgspec.json.encode(fields)

"""Maps Pulse's events to stored events and back: JSON, in the layout of `eventsourcing`."""

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
OWN_PREFIX = "pulse."
"""The prefix of the topics of all events of Pulse, and of no other application."""

_UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    RecursionError,
)
"""The exceptions that decoding or an upcast raises for an invalid state."""


class _ClassVersion(msgspec.Struct):
    class_version: int = 1


_class_versions = msgspec.json.Decoder(_ClassVersion)


class EventTooNew(PulseError):
    """The event was written by newer code, which must read it."""


class EventUnreadable(PulseError):
    """The stored state is not valid for its topic, or the topic is not Pulse's."""


class EventMapper(Mapper[UUID]):
    """A mapper of the `eventsourcing` library for msgspec structs.

    The state has all fields except originator_id and originator_version. A class_version above 1 is
    added. Older versions are upcast by the class's methods `upcast_v1_v2` and so on, by the
    library's convention. `downcast_v2_v1` and so on undo this.
    """

    def __init__(
        self,
        transcoder: Transcoder | None = None,
        compressor: Compressor | None = None,
        cipher: Cipher | None = None,
    ) -> None:
        """Take the arguments that the library passes to its mapper; the transcoder is not used.

        Raises:
            NotSupportedError: a compressor or a cipher is given.
        """
        if compressor is not None or cipher is not None:
            raise NotSupportedError("Pulse's events are neither compressed nor encrypted")
        super().__init__(transcoder=transcoder or JSONTranscoder())
        self._decoders: dict[str, msgspec.json.Decoder[DomainEvent]] = {}
        for event_type in EVENT_TYPES:
            self.register(event_type)

    def register(self, event_type: type[DomainEvent]) -> None:
        """Register an event type, so that this mapper reads and writes it."""
        register_topic(event_type.TOPIC, event_type)
        self._decoders[event_type.TOPIC] = msgspec.json.Decoder(event_type)

    def owns(self, topic: str) -> bool:
        """Whether events of this topic are Pulse's. All other topics are foreign.

        Topics that begin with `pulse.` and are unknown belong to newer code; readers must not skip
        their events.
        """
        return topic in self._decoders or topic.startswith(OWN_PREFIX)

    def knows(self, topic: str) -> bool:
        """Whether this code has the event type of this topic."""
        return topic in self._decoders

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """Encode an event, in the current class version."""
        event = cast("DomainEvent", domain_event)
        return StoredEvent(
            originator_id=event.originator_id,
            originator_version=event.originator_version,
            topic=event.TOPIC,
            state=_encode(event, event.class_version),
        )

    def state_as_stored(self, event: DomainEvent, stored: RecordedEvent | StoredEvent) -> bytes:
        """Encode an event in the class version in which `stored` was written.

        This code knows that version, as it has decoded the record.
        """
        return _encode(event, _class_version_of(stored.state))

    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """Decode a stored event, for the library.

        Raises:
            MapperDeserialisationError: the event cannot be read.
        """
        try:
            return cast("DomainEventProtocol[UUID]", self.event_of(stored_event))
        except (EventUnreadable, EventTooNew) as error:
            raise MapperDeserialisationError(str(error)) from error

    def events_of(self, records: Iterable[RecordedEvent]) -> Iterator[Event]:
        """Decode log records; foreign ones are skipped.

        Raises:
            EventTooNew, EventUnreadable: as `event_of`.
        """
        return (self.event_of(record) for record in records if self.owns(record.topic))

    def event_of(self, record: RecordedEvent | StoredEvent) -> Event:
        """Decode a log record.

        Raises:
            EventTooNew: newer code is needed to read it.
            EventUnreadable: it is foreign, or its state is invalid.
        """
        decoder = self._decoders.get(record.topic)
        if decoder is None and record.topic.startswith(OWN_PREFIX):
            raise EventTooNew(f"{_label(record)} has an event type that this code does not have")
        if decoder is None:
            raise EventUnreadable(f"{_label(record)} is not an event of Pulse")
        try:
            state = _upcast(decoder.type, record)
            # Prepend the two keys to the JSON, so that one pass decodes all fields.
            keys = b'{"originator_id":"%b","originator_version":%d,' % (
                cast("UUID", record.originator_id).hex.encode(),
                record.originator_version,
            )
            return cast("Event", decoder.decode(keys + state[1:]))
        except _UNREADABLE as error:
            raise EventUnreadable(f"{_label(record)} cannot be read: {error}") from error


def _encode(event: DomainEvent, class_version: int) -> bytes:
    fields = msgspec.structs.asdict(event)
    del fields["originator_id"], fields["originator_version"]
    for newer in range(event.class_version, class_version, -1):
        getattr(event, f"downcast_v{newer}_v{newer - 1}")(fields)
    if class_version > 1:
        fields["class_version"] = class_version
    return msgspec.json.encode(fields)


def _class_version_of(state: bytes) -> int:
    return _class_versions.decode(state).class_version


def _upcast(event_type: type[DomainEvent], stored: RecordedEvent | StoredEvent) -> bytes:
    """The state in the current class version."""
    current = event_type.class_version
    if current == 1 and _CLASS_VERSION not in stored.state:
        return stored.state
    if current > 1 and stored.state.endswith(b',"class_version":%d}' % current):  # as encoded here
        return stored.state
    version = _class_version_of(stored.state)
    if version > current:
        raise EventTooNew(
            f"{_label(stored)} has class version {version}, this code knows {current}"
        )
    fields = msgspec.json.decode(stored.state, type=dict[str, Any])
    fields.pop("class_version", None)
    for older in range(version, current):
        getattr(event_type, f"upcast_v{older}_v{older + 1}")(fields)
    return msgspec.json.encode(fields)


def _label(stored: RecordedEvent | StoredEvent) -> str:
    return f"version {stored.originator_version} of stream {stored.originator_id} ({stored.topic})"

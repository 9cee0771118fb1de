"""`PERSISTENCE_MODULE=pulse.eventstore`: what the library's applications and runners ask for."""

from collections.abc import Callable
from typing import Any, ClassVar, LiteralString, cast

from eventsourcing.persistence import (
    InfrastructureFactory,
    InfrastructureFactoryError,
    OperationalError,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic
from typing_extensions import TypeVar

from pulse.eventstore.appender import AppendLimits
from pulse.eventstore.library.connections import Connections
from pulse.eventstore.library.engine import Engine
from pulse.eventstore.library.environment import (
    conninfo_of,
    creates_tables,
    pool_size_of,
    refuse_other_layouts,
    schema_of,
)
from pulse.eventstore.library.errors import library_errors
from pulse.eventstore.library.recorder import PulseAggregateRecorder, PulseApplicationRecorder
from pulse.eventstore.library.tables import (
    Table,
    aggregates_layout,
    create_absent,
    log_layout,
    tracking_layout,
)
from pulse.eventstore.library.tracking import PulseProcessRecorder, PulseTrackingRecorder
from pulse.postgres import Limits
from pulse.postgres.session import connect_blocking

T = TypeVar("T")
TPulseTrackingRecorder = TypeVar(
    "TPulseTrackingRecorder", bound=PulseTrackingRecorder, default=PulseTrackingRecorder
)


class Factory(InfrastructureFactory[PulseTrackingRecorder]):
    """Recorders over Pulse's appender, in tables named as the library names them.

    An application named "stored" works on Pulse's own log, and "orders" on orders_events. Where
    the database is, `environment.conninfo_of` tells; POSTGRES_SCHEMA and POSTGRES_POOL_SIZE are
    heeded too. Unless CREATE_TABLE is off, absent tables are made, in Pulse's layout. In a database
    that Pulse is yet to migrate, let it do that first: its migration wants to make stored_events.

    Nothing is repeated on an error, unlike with the library's own recorders. A factory's threads
    and connections end with `close`, or when neither it nor its recorders are used any more.
    """

    append_limits: ClassVar[AppendLimits | None] = None

    def __init__(self, env: Environment | EnvType | None = None) -> None:
        super().__init__(env)
        refuse_other_layouts(self.env)
        self._conninfo = conninfo_of(self.env)
        self._schema = schema_of(self.env)
        self._pool_size = pool_size_of(self.env)
        self._closed = False
        self._engine: Engine | None = None
        self._connections: Connections | None = None

    def aggregate_recorder(self, purpose: str = "events") -> PulseAggregateRecorder:
        """A recorder of streams that are no log, for snapshots."""
        table = self._table("stored", purpose)
        self._create_absent(table, aggregates_layout)
        return PulseAggregateRecorder(self._the_engine(), table)

    def application_recorder(self) -> PulseApplicationRecorder:
        """A recorder of a log."""
        recorder_class = self._class(self.APPLICATION_RECORDER_TOPIC, PulseApplicationRecorder)
        table = self._table("stored", "events")
        self._create_absent(table, log_layout)
        return recorder_class(self._the_engine(), table)

    def tracking_recorder(
        self, tracking_recorder_class: type[TPulseTrackingRecorder] | None = None
    ) -> TPulseTrackingRecorder:
        """A recorder of positions, or a materialised view of that class."""
        recorder_class = cast(
            "type[TPulseTrackingRecorder]",
            self._class(
                self.TRACKING_RECORDER_TOPIC, PulseTrackingRecorder, tracking_recorder_class
            ),
        )
        table = self._table("notification", "tracking")
        self._create_absent(table, tracking_layout)
        recorder = recorder_class(self._the_connections(), table)
        if creates_tables(self.env):
            recorder.create_tables()
        return recorder

    def process_recorder(self) -> PulseProcessRecorder:
        """A recorder of a log that is made from another one."""
        recorder_class = self._class(self.PROCESS_RECORDER_TOPIC, PulseProcessRecorder)
        table = self._table("stored", "events")
        tracking_table = self._table("notification", "tracking")
        self._create_absent(table, log_layout)
        self._create_absent(tracking_table, tracking_layout)
        recorder = recorder_class(
            self._the_engine(), self._the_connections(), table, tracking_table
        )
        if creates_tables(self.env):
            recorder.create_tables()
        return recorder

    def close(self) -> None:
        """End subscriptions, threads and connections; what waits to be appended goes first."""
        self._closed = True
        if self._engine is not None:
            self._engine.close()
        if self._connections is not None:
            self._connections.close()

    def _table(self, default_prefix: str, purpose: str) -> Table:
        return Table(f"{self.env.name.lower() or default_prefix}_{purpose}", self._schema)

    def _class(self, variable: str, base: type[T], given: type[Any] | None = None) -> type[T]:
        topic = self.env.get(variable)
        wanted = given or (resolve_topic(topic) if topic else base)
        if not issubclass(wanted, base):
            raise InfrastructureFactoryError(f"{wanted!r} is not a {base.__name__}")
        return cast("type[T]", wanted)

    def _create_absent(self, table: Table, layout: Callable[[Table], LiteralString]) -> None:
        if creates_tables(self.env):
            with library_errors():
                create_absent(
                    lambda: connect_blocking(self._conninfo, "schema", Limits()),
                    table,
                    layout(table),
                )

    def _the_engine(self) -> Engine:
        self._refuse_if_closed()
        if self._engine is None:
            self._engine = Engine(
                self._conninfo, pool_size=self._pool_size, limits=self.append_limits
            )
        return self._engine

    def _the_connections(self) -> Connections:
        self._refuse_if_closed()
        if self._connections is None:
            self._connections = Connections(self._conninfo, pool_size=self._pool_size)
        return self._connections

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise OperationalError("the factory is closed")

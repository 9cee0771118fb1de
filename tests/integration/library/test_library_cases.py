"""The library's own test cases, on a table that the factory makes and on the one Pulse migrated."""

from typing import Any
from unittest import TestCase

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    ProcessRecorder,
    TrackingRecorder,
)
from eventsourcing.tests import persistence as cases
from eventsourcing.utils import Environment

from pulse.eventstore import Factory
from pulse.eventstore.library import (
    PulseAggregateRecorder,
    PulseApplicationRecorder,
    PulseProcessRecorder,
    PulseTrackingRecorder,
)
from tests.integration.library.conftest import MakeFactory
from tests.integration.library.stock import environment


class OnAFreshTable(TestCase):
    """Every test has a database of its own, and its application a table of its own in it."""

    application = "case"
    create_table = "yes"

    @pytest.fixture(autouse=True)
    def _on_a_fresh_table(self, make_factory: MakeFactory) -> None:
        self.make_factory = make_factory

    def factory(self) -> Factory:
        return self.make_factory(self.application, CREATE_TABLE=self.create_table)


class TestApplicationRecorder(OnAFreshTable, cases.ApplicationRecorderTestCase[Any]):
    def create_recorder(self) -> ApplicationRecorder:
        return self.factory().application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestApplicationRecorderOnPulsesTable(TestApplicationRecorder):
    application = "stored"
    create_table = "no"


class TestAggregateRecorder(OnAFreshTable, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.factory().aggregate_recorder("snapshots")


class TestTrackingRecorder(OnAFreshTable, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return self.factory().tracking_recorder()


class TestTrackingRecorderOnPulsesTable(TestTrackingRecorder):
    application = ""
    create_table = "no"


class TestProcessRecorder(OnAFreshTable, cases.ProcessRecorderTestCase):
    def create_recorder(self) -> ProcessRecorder:
        return self.factory().process_recorder()


class TestInfrastructureFactory(cases.InfrastructureFactoryTestCase[Factory]):
    @pytest.fixture(autouse=True)
    def _in_a_database(self, conninfo: str) -> None:
        self.conninfo = conninfo

    def setUp(self) -> None:
        self.env = Environment("TestCase", environment(self.conninfo))
        super().setUp()

    def expected_factory_class(self) -> type[Factory]:
        return Factory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return PulseAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return PulseApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return PulseTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        class View(PulseTrackingRecorder):
            pass

        return View

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        return PulseProcessRecorder

    def test_the_module_is_found_by_its_name(self) -> None:
        assert type(InfrastructureFactory[Any].construct(self.env)) is Factory


class TestNonInterleaving(OnAFreshTable, cases.NonInterleavingNotificationIDsBaseCase):
    """Through one recorder: both writers may share a commit, so this shows little."""

    def create_recorder(self) -> ApplicationRecorder:
        return self.factory().application_recorder()

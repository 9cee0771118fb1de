"""Pulse's event store on the in-memory log passes the eventsourcing library's recorder tests."""

from collections.abc import Iterator
from typing import Any
from unittest import TestCase

import pytest
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.tests import persistence as cases

from tests.simulation.memory.connection import MemoryDatabase
from tests.simulation.memory.server import Server
from tests.support.library_recorder import library_recorder


class OnALogInMemory(TestCase):
    @pytest.fixture(autouse=True)
    def _on_a_log_in_memory(self) -> Iterator[None]:
        with library_recorder(MemoryDatabase(Server(lambda: 0.0))) as self.recorder:
            yield

    def create_recorder(self) -> ApplicationRecorder:
        return self.recorder


class TestApplicationRecorder(OnALogInMemory, cases.ApplicationRecorderTestCase[Any]):
    pass


class TestNonInterleaving(OnALogInMemory, cases.NonInterleavingNotificationIDsBaseCase):
    pass

"""The log in memory passes the library's test cases, through Pulse's own recorder."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest import TestCase

import pytest
from eventsourcing.persistence import ApplicationRecorder
from eventsourcing.tests import persistence as cases

from tests.simulation.memory.recorder import memory_recorder


class OnALogInMemory(TestCase):
    @pytest.fixture(autouse=True)
    def _on_a_log_in_memory(self) -> Iterator[None]:
        with ExitStack() as self.stack:
            yield

    def create_recorder(self) -> ApplicationRecorder:
        return self.stack.enter_context(memory_recorder())


class TestApplicationRecorder(OnALogInMemory, cases.ApplicationRecorderTestCase[Any]):
    """But for its subscription, which hears Postgres's NOTIFY: nothing of it is simulated."""


class TestNonInterleaving(OnALogInMemory, cases.NonInterleavingNotificationIDsBaseCase):
    pass

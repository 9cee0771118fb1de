"""Given-when-then tests of decisions: given events, when a command, then events or a refusal."""

from typing import Self, TypeVar

from pulse.domain import Command, Event, decide, fold

Refusal = TypeVar("Refusal", bound=Exception)


class Scenario:
    """`given_events(*events).when(command).then(*events)`, or `.then_refused(Error)`."""

    def __init__(self, history: tuple[Event, ...]) -> None:
        self._order = fold(history)
        self._command: Command | None = None

    def when(self, command: Command) -> Self:
        """Set the command.

        Raises:
            AssertionError: the scenario already has a command, whose result would be ignored.
        """
        if self._command is not None:
            raise AssertionError("a scenario has one command: begin another with given_events")
        self._command = command
        return self

    def then(self, *expected: Event) -> None:
        """Check that the command causes exactly these events, or none.

        Raises:
            AssertionError: it causes other events; the message shows both.
        """
        caused = self._decide()
        if caused != expected:
            raise AssertionError(_difference(expected, caused))

    def then_refused(self, error: type[Refusal]) -> Refusal:
        """Check that the command is refused with this error; returns the error.

        Raises:
            AssertionError: it was not refused. Another error propagates.
        """
        try:
            caused = self._decide()
        except error as refusal:
            return refusal
        raise AssertionError(f"expected {error.__name__}, but {_names(caused)} followed")

    def _decide(self) -> tuple[Event, ...]:
        if self._command is None:
            raise AssertionError("there is no command: call when(command) before then")
        return decide(self._command, self._order)


def given_events(*history: Event) -> Scenario:
    """A scenario that starts from these events; without events, from no order.

    Raises:
        HistoryBroken: the events are not a valid history.
    """
    return Scenario(history)


def _difference(expected: tuple[Event, ...], caused: tuple[Event, ...]) -> str:
    lines = [f"expected {_names(expected)}, but {_names(caused)} followed"]
    lines += [f"  expected: {event}" for event in expected if event not in caused]
    lines += [f"  followed: {event}" for event in caused if event not in expected]
    return "\n".join(lines)


def _names(events: tuple[Event, ...]) -> str:
    return ", ".join(type(event).__name__ for event in events) or "nothing"

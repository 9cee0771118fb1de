"""Given these events, when this command, then those events: how a decision is told in a test."""

from typing import Self, TypeVar

from pulse.domain import Command, Event, decide, fold

Refusal = TypeVar("Refusal", bound=Exception)


class Scenario:
    """`given_events(*events).when(command).then(*events)`, or `.then_refused(Error)`."""

    def __init__(self, history: tuple[Event, ...]) -> None:
        self._order = fold(history)
        self._command: Command | None = None

    def when(self, command: Command) -> Self:
        """Ask this of the order.

        Raises:
            AssertionError: something was asked already: what came of it would go untold.
        """
        if self._command is not None:
            raise AssertionError("a scenario has one command: begin another with given_events")
        self._command = command
        return self

    def then(self, *expected: Event) -> None:
        """Exactly these events follow; none for a command that causes nothing.

        Raises:
            AssertionError: others do; it shows both.
        """
        caused = self._decide()
        if caused != expected:
            raise AssertionError(_difference(expected, caused))

    def then_refused(self, error: type[Refusal]) -> Refusal:
        """The command is refused with this error, which is returned to look at.

        Raises:
            AssertionError: it was not refused. Another error is passed on as it is.
        """
        try:
            caused = self._decide()
        except error as refusal:
            return refusal
        raise AssertionError(f"expected {error.__name__}, but {_told(caused)} followed")

    def _decide(self) -> tuple[Event, ...]:
        if self._command is None:
            raise AssertionError("nothing was asked: call when(command) before then")
        return decide(self._command, self._order)


def given_events(*history: Event) -> Scenario:
    """A scenario that starts from these events, first to last; from none for a new order.

    Raises:
        HistoryBroken: no order has this history.
    """
    return Scenario(history)


def _difference(expected: tuple[Event, ...], caused: tuple[Event, ...]) -> str:
    lines = [f"expected {_told(expected)}, but {_told(caused)} followed"]
    lines += [f"  expected: {event}" for event in expected if event not in caused]
    lines += [f"  followed: {event}" for event in caused if event not in expected]
    return "\n".join(lines)


def _told(events: tuple[Event, ...]) -> str:
    return ", ".join(type(event).__name__ for event in events) or "nothing"

"""The error of a violated invariant."""


class InvariantViolated(AssertionError):
    """An invariant does not hold."""


def require(holds: object, failure: str) -> None:
    """Raise InvariantViolated unless the condition holds."""
    if not holds:
        raise InvariantViolated(failure)

"""What the splitting commands need beyond Pulse itself, and what to say where it is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pulse.cli.exits import WrongSettings

_EXTRAS: Final = {
    "hypothesis": "testing",
    "matplotlib": "charts",
    "plotille": "charts",
}


@contextmanager
def kit_needed() -> Iterator[None]:
    """Around the imports of an extra.

    Raises:
        WrongSettings: it is not installed; the message says how to install it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        raise WrongSettings(
            f"this command needs {error.name}: install Pulse with its extra `{extra}`, "
            f"as with pip install '.[{extra}]' in a clone"
        ) from None

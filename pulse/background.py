"""The workers alone: `python -m pulse.background`."""

import uvloop

from pulse.process.apps import work_until_stopped
from pulse.process.startup import settings_from_environment


def main() -> None:
    """Split orders and watch over claims until SIGTERM or Ctrl-C."""
    uvloop.run(work_until_stopped(settings_from_environment()))


if __name__ == "__main__":
    main()

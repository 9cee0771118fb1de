"""The workers alone: `python -m pulse.background`."""

import uvloop

from pulse.process.startup import settings_from_environment
from pulse.process.workers import run_workers


def main() -> None:
    """Run the workers until SIGTERM or Ctrl-C."""
    uvloop.run(run_workers(settings_from_environment()))


if __name__ == "__main__":
    main()

"""The workers alone: `python -m pulse.background`."""

import uvloop

from pulse.bootstrap import settings_from_environment, work_until_stopped


def main() -> None:
    """Split orders and watch over claims until SIGTERM or Ctrl-C."""
    uvloop.run(work_until_stopped(settings_from_environment()))


if __name__ == "__main__":
    main()

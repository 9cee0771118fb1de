"""Moved to pulse.bootstrap."""

from pulse.bootstrap.server import *  # noqa: F403

"""Moved to pulse.bootstrap."""

from pulse.bootstrap.node import *  # noqa: F403

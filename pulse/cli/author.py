"""The user who runs a command that writes events, and the trace of the command."""

import os
import pwd

from pulse.application.callers import Caller
from pulse.application.origin import new_request_id, new_trace_id
from pulse.domain import Trace


def this_user() -> Caller:
    """The caller `cli:<name>`, with the user's name in the operating system.

    If the user has no name, the numeric user id is used. No environment variable can change it.
    """
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    return Caller(placed_by=f"cli:{name}")


def new_trace(command: str) -> Trace:
    """A new trace and request of this command."""
    source = f"PULSE_CLI:{command}"
    return Trace(
        trace_id=new_trace_id(),
        trace_source=source,
        request_id=new_request_id(),
        request_source=source,
    )

"""The wire format of an event of the log as a server-sent event.

It is not in the module of the streams' routes, because a process that only has workers must not
import the web framework.
"""

import msgspec

from pulse.application.event_view import EventView


def render_event(view: EventView) -> bytes:
    """An event of the log as a server-sent event."""
    return b"id: %d\ndata: %b\n\n" % (view.position, msgspec.json.encode(view))

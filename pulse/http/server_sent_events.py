"""The wire format of an event of the log as a server-sent event.

Apart from the routes of streams, because a process with workers alone does not import the web
framework.
"""

import msgspec

from pulse.application.event_view import EventView


def render_event(view: EventView) -> bytes:
    """An event of the log as a server-sent event."""
    return b"id: %d\ndata: %b\n\n" % (view.position, msgspec.json.encode(view))

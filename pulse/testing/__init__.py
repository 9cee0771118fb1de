"""The splitting kit: tools to test code against Pulse's domain.

Hypothesis strategies for orders, edge cases and schedules; `check_schedule`; the laws of a
splitter, and a comparison of other splitters with them. Needs the extra `testing` (in a clone:
`pip install '.[testing]'`), which installs `hypothesis`. It imports only the domain of Pulse.
"""

from pulse.testing.calendars import ListedSessions as ListedSessions
from pulse.testing.checking import ScheduleBroken as ScheduleBroken
from pulse.testing.checking import check_schedule as check_schedule
from pulse.testing.comparing import last_takes_the_rest as last_takes_the_rest
from pulse.testing.splitter_laws import SPLITTER_LAWS as SPLITTER_LAWS
from pulse.testing.splitter_laws import Sample as Sample
from pulse.testing.splitter_laws import sample_of as sample_of
from pulse.testing.strategies import edge_sizes as edge_sizes
from pulse.testing.strategies import edge_split_terms as edge_split_terms
from pulse.testing.strategies import moments as moments
from pulse.testing.strategies import order_request_bodies as order_request_bodies
from pulse.testing.strategies import order_requests as order_requests
from pulse.testing.strategies import place_orders as place_orders
from pulse.testing.strategies import schedules as schedules
from pulse.testing.strategies import sizes as sizes
from pulse.testing.strategies import split_terms as split_terms
from pulse.testing.strategies import split_terms_with_sessions as split_terms_with_sessions

"""The pure domain: orders, their events, splitting, and the rules of a schedule.

Importing this loads nothing beyond the standard library and msgspec, and reads no configuration.
"""

from pulse.domain.commands import Claim as Claim
from pulse.domain.commands import Command as Command
from pulse.domain.commands import PlaceOrder as PlaceOrder
from pulse.domain.commands import SplitOrder as SplitOrder
from pulse.domain.commands import TimeOutOrder as TimeOutOrder
from pulse.domain.errors import HistoryBroken as HistoryBroken
from pulse.domain.errors import OrderNotPlaced as OrderNotPlaced
from pulse.domain.errors import OrderRefused as OrderRefused
from pulse.domain.errors import OrderUniqueKeyTaken as OrderUniqueKeyTaken
from pulse.domain.errors import SplitterUnknown as SplitterUnknown
from pulse.domain.events import EVENT_TYPES as EVENT_TYPES
from pulse.domain.events import DomainEvent as DomainEvent
from pulse.domain.events import Event as Event
from pulse.domain.events import OrderCreated as OrderCreated
from pulse.domain.events import SlicesScheduled as SlicesScheduled
from pulse.domain.events import SplittingFailed as SplittingFailed
from pulse.domain.events import TimedOut as TimedOut
from pulse.domain.identity import INTERNAL_SCOPE as INTERNAL_SCOPE
from pulse.domain.identity import PULSE_NAMESPACE as PULSE_NAMESPACE
from pulse.domain.identity import order_id_for as order_id_for
from pulse.domain.order_request import MAX_DURATION_MINUTES as MAX_DURATION_MINUTES
from pulse.domain.order_request import MAX_QUANTITY as MAX_QUANTITY
from pulse.domain.order_request import MAX_SPLITS as MAX_SPLITS
from pulse.domain.order_request import MIN_SPLITS as MIN_SPLITS
from pulse.domain.order_request import OrderSpec as OrderSpec
from pulse.domain.order_request import Side as Side
from pulse.domain.order_request import SplitConfig as SplitConfig
from pulse.domain.order_request import SplitConfigRequest as SplitConfigRequest
from pulse.domain.order_request import parse_order_request as parse_order_request
from pulse.domain.order_request import require_valid_order as require_valid_order
from pulse.domain.orders import SPLITTING_ERROR as SPLITTING_ERROR
from pulse.domain.orders import TIMED_OUT as TIMED_OUT
from pulse.domain.orders import TOO_LATE as TOO_LATE
from pulse.domain.orders import Order as Order
from pulse.domain.orders import OrderState as OrderState
from pulse.domain.orders import decide as decide
from pulse.domain.orders import evolve as evolve
from pulse.domain.orders import fold as fold
from pulse.domain.orders import outcome_of as outcome_of
from pulse.domain.schedule_rules import SCHEDULE_RULES as SCHEDULE_RULES
from pulse.domain.schedule_rules import BrokenRule as BrokenRule
from pulse.domain.schedule_rules import Rule as Rule
from pulse.domain.schedule_rules import broken_rules as broken_rules
from pulse.domain.schedule_rules import rule_sentence as rule_sentence
from pulse.domain.splitting import CURRENT_SPLITTER_VERSION as CURRENT_SPLITTER_VERSION
from pulse.domain.splitting import SPLITTERS as SPLITTERS
from pulse.domain.splitting import Splitter as Splitter
from pulse.domain.splitting import SplitTerms as SplitTerms
from pulse.domain.splitting import split as split
from pulse.domain.splitting import split_v1 as split_v1
from pulse.domain.values import RecordedBy as RecordedBy
from pulse.domain.values import Slice as Slice
from pulse.domain.values import Trace as Trace

"""`pulse splitter`: draws schedules, and tests other splitters."""

from pulse.cli.splitter.compare import compare, rules
from pulse.cli.splitter.show import show
from pulse.cli.terminal import group

splitter = group(
    "splitter",
    "How orders are split: draw schedules, test your own splitter.",
    "Exit codes: 0 success, 1 a rule or law is broken, or a file cannot be written, 2 wrong usage "
    "or settings, 3 could not start.",
    (show, compare, rules),
)

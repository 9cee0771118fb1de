"""Shows what verification finds, a line each."""

from typing import Final

from rich.text import Text

from pulse.cli.terminal import output
from pulse.evidence.findings import Fault, Finding
from pulse.printable import printable

MAX_PRINTED: Final = 1_000
_SENTENCES: Final[dict[Fault, str]] = {
    "VERSIONS": "a version or position is wrong",
    "UNREADABLE": "the event cannot be read",
    "NEWER_CODE": "not verified: this needs newer code",
    "WRONG_ID": "the order's id is wrong",
    "NEVER_ACCEPTED": "the order was altered",
    "CANNOT_FOLLOW": "the event cannot follow the ones before it",
    "SCHEDULE": "the schedule differs from the one derived from its creation",
    "RULE": "the schedule breaks a rule",
    "ENCODING": "the event was altered",
    "ALTERED": "the event was altered",
    "DELETED": "the event was deleted",
    "INSERTED": "the event was inserted",
    "TREE": "the seal is damaged",
    "SIGNATURE": "the signature of the seal is wrong or missing",
    "ANCHOR": "the log contradicts the anchors",
    "FORK": "the record of a fork is wrong",
    "PARKED": "not verified: the order is parked",
    "QUEUE": "the order queue differs from the log",
    "SLICES": "the slices in the queue differ from the log",
    "PENDING": "the pending orders differ from the log",
    "CLAIM": "the times of the claim are impossible",
    "DUE": "the time of the next release differs from the log",
    "HISTORY": "the history of the queue differs from the log",
    "POSITION": "the position of the projection is wrong",
    "MEMBER": "the pack was changed",
}


def print_finding(finding: Finding, *, in_full: bool) -> None:
    """Print one line per finding; `in_full` adds a line for each breach of a rule."""
    line = Text()
    if finding.position is not None:
        line.append(f"position {finding.position:,}: ")
    if finding.order_id is not None:
        line.append(f"order {finding.order_id}: ")
    line.append(_SENTENCES[finding.fault], "bold red").append(f": {printable(finding.detail)}")
    rules = dict.fromkeys(breach.rule for breach in finding.broken_rules)
    if finding.fault == "SCHEDULE" and rules:
        line.append(f"; breaks {', '.join(rules)}")
    output().print(line)
    for breach in finding.broken_rules if in_full else ():
        output().print(f"  {breach.rule}: {printable(breach.breach)}")

"""Describes forks of the log in sentences."""

from pulse.cli.terminal import display_time
from pulse.eventstore.log_fork import LogFork
from pulse.evidence.chain import DeclaredFork
from pulse.evidence.losses import LostEvents
from pulse.wording import counted


def fork_text(fork: LogFork | DeclaredFork) -> str:
    """A fork in a sentence."""
    lost = ""
    if fork.size is not None and fork.known_size is not None and fork.known_size > fork.size:
        lost = f", up to {counted(fork.known_size - fork.size, 'sealed event')} lost"
    return (
        f"forked at position {fork.position:,} on {display_time(fork.forked_at)} by "
        f"{fork.forked_by}{lost}: {fork.reason} (log_id before: {fork.old_log_id})"
    )


def lost_text(lost: LostEvents) -> str:
    """How many sealed events a note declares lost, as a sentence."""
    are = "is" if lost.events == 1 else "are"
    events = counted(lost.events, "sealed event")
    return f"{events} {are} not in the log, as the note of key {lost.key} declares"

"""What the audit found, in sentences that say what to do."""

from typing import Final

from pulse.projections.audit import AuditFault, AuditFinding

_SENTENCES: Final[dict[AuditFault, str]] = {
    "MISSING": (
        "was created at position {position:,} and is neither in the queue nor parked: "
        "`pulse projections retry {order_id}` brings it in"
    ),
    "OUTDATED": (
        "is PENDING in the queue since position {position:,}, while the log has its outcome: "
        "`pulse projections retry {order_id}` applies it"
    ),
    "UNLOGGED": (
        "is in the queue, created at position {position:,}, with an event that the log lacks: "
        "restore the log from a backup, or `pulse rebuild` to make the queue what the log says"
    ),
}


def finding_text(finding: AuditFinding) -> str:
    """One line: the order, what is wrong with it, and what to do."""
    sentence = _SENTENCES[finding.fault].format(
        position=finding.position, order_id=finding.order_id
    )
    return f"order {finding.order_id} {sentence}"

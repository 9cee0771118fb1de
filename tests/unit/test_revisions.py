"""The schema's revisions: which of them stop the code that runs."""

from pulse.process.revisions import REVISIONS

FULL_STOPS = [1, 2, 3, 7, 8, 9, 15]
"""The revisions that no older code can run on, all from before 0.2.0. The list does not grow."""


def test_since_0_2_0_no_deploy_needs_a_full_stop() -> None:
    """Such a change takes two revisions: one before the deploy, one after it in a later release."""
    stops = [
        revision.number
        for revision in REVISIONS
        if revision.phase == "before" and revision.oldest_code == revision.number
    ]
    assert stops == FULL_STOPS

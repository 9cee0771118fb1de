"""The notices in the log: each once when it arises, and once when it has passed."""

from collections.abc import Awaitable, Callable

import structlog

from pulse.application.notices import Notice
from pulse.loop import Job

_log = structlog.get_logger(__name__)


class NoticeWatch(Job[tuple[Notice, ...]]):
    """Logs notices as they come and go; those that need a person as warnings."""

    name = "notices"
    poll_seconds = 5.0

    def __init__(self, read: Callable[[], Awaitable[tuple[Notice, ...]]]) -> None:
        self._read = read
        self._known: frozenset[tuple[str, bool]] = frozenset()

    async def run_once(self) -> tuple[Notice, ...]:
        """Log what has changed since the last time; returns the notices now.

        Raises:
            DatabaseUnavailable: they cannot be read.
        """
        notices = await self._read()
        for notice in notices:
            if (notice.code, notice.needs_person) not in self._known:
                log = _log.warning if notice.needs_person else _log.info
                log("notice.raised", code=notice.code, message=notice.message)
        codes = {notice.code for notice in notices}
        for code in sorted({code for code, _ in self._known} - codes):
            _log.info("notice.cleared", code=code)
        self._known = frozenset((notice.code, notice.needs_person) for notice in notices)
        return notices

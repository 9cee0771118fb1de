"""Logging: structlog for Pulse and for the libraries beneath, as lines for people or as JSON."""

import logging
import sys
from typing import Any

import structlog

_QUIET_LIBRARIES = ("psycopg", "psycopg.pool", "httpx", "httpcore")


class _WithoutQueries(logging.Filter):
    """Cuts the query off the paths that uvicorn logs: a token put there by mistake is a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        if isinstance(record.args, tuple):
            record.args = tuple(
                text.partition("?")[0] if isinstance(text, str) else text for text in record.args
            )
        return True


_WITHOUT_QUERIES = _WithoutQueries()


def configure_logs(log_format: str, level: str) -> None:
    """Send every log line to stderr; `auto` writes for people on a terminal, JSON elsewhere."""
    on_terminal = sys.stderr.isatty()
    console = log_format == "console" or (log_format == "auto" and on_terminal)
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    final: list[Any] = (
        [
            # plain: the default traceback shows local variables, and among them secrets
            structlog.dev.ConsoleRenderer(
                colors=on_terminal, exception_formatter=structlog.dev.plain_traceback
            )
        ]
        if console
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in _QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("uvicorn.access").addFilter(_WITHOUT_QUERIES)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )

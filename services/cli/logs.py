"""How the long-running programs log: structlog to stderr, readable on a terminal, JSON lines elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_NOISY = ("httpx2", "httpcore2", "nats")


def configure_logging(level: int = logging.INFO, **bound: Any) -> None:
    """Set up logging for this process, the standard library's loggers included, of what is as grave as `level`;
    `bound` stands in every line."""

    def add_bound(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**bound, **line}

    if sys.stderr.isatty():
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        plain = structlog.dev.plain_traceback  # not the one that shows local variables
        rendering: list[Any] = [structlog.dev.ConsoleRenderer(pad_event_to=20, exception_formatter=plain)]
    else:
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        rendering = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    shared: list[Any] = [add_bound, structlog.stdlib.add_log_level, stamp]
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)

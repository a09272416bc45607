"""Structured logs: a short fixed event text plus fields; ids from context, never an address or a body at INFO."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

_NOISY = {
    # Faust reports idle topics as stopped streams; progress is judged by shared/consuming instead.
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
    "kafka": logging.WARNING,
    "mail": logging.CRITICAL,  # aiosmtpd repeats what clients say
    "aiohttp.access": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "alembic": logging.WARNING,
}

_REPETITIVE = ("aiokafka", "faust", "mode", "opentelemetry")
_REPEAT_S = 10.0
_KINDS = 1000  # of texts remembered


class RepetitionFilter(logging.Filter):
    """Lets one line of a kind through in ten seconds, for clients that repeat themselves while a server is away.

    A kind is the logger and the text without its arguments. The next one let through says how many were left out.
    """

    def __init__(self, names: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._names = names
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a repetition."""
        if not record.name.startswith(self._names):
            return True
        kind = (record.name, str(record.msg)[:200])
        now = self._clock()
        since, left_out = self._seen.get(kind, (-_REPEAT_S, 0))
        if now - since < _REPEAT_S:
            self._seen[kind] = (since, left_out + 1)
            return False
        if len(self._seen) > _KINDS:
            self._seen.clear()
        self._seen[kind] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like it)", ()
        return True


def set_up_logs(level: str = "INFO", fmt: str = "text", **fields: Any) -> None:
    """Configure structlog and the standard library's logging alike. `fields` appear on every line."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    # Plain tracebacks: the pretty ones print local variables, and those hold secrets and addresses.
    renderer: Any = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )
    if fmt == "json":
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(RepetitionFilter(_REPETITIVE))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, floor in _NOISY.items():
        logging.getLogger(name).setLevel(max(floor, logging.getLevelNamesMapping()[level]))
    structlog.contextvars.bind_contextvars(**fields)

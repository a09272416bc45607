"""A reading position that Kafka no longer holds means records were lost: said aloud and counted, never silent (P13).

aiokafka moves on to the earliest record then, and tells nobody but its own log at INFO. There is no other hook for it
in a consumer that resets by itself, and this one also works under Faust, whose driver is an aiokafka consumer.
tests/integration/test_positions.py deletes records under a consumer, and so notices when the words change.
"""

import logging

import structlog

from shared.metrics import OFFSET_OUT_OF_RANGE

log = structlog.get_logger(__name__)

_FETCHER = "aiokafka.consumer.fetcher"
_WORDS = "Fetch offset %s is out of range"


class _OutOfRange(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Let through what would have been logged anyway."""
        if isinstance(record.msg, str) and record.msg.startswith(_WORDS):
            OFFSET_OUT_OF_RANGE.inc()
            position, partition = record.args if isinstance(record.args, tuple) else (None, None)
            log.error(
                "records were lost: kafka no longer holds the position, reading goes on at the earliest",
                position=position,
                topic=getattr(partition, "topic", None),
                partition=getattr(partition, "partition", None),
            )
        return record.levelno >= logging.WARNING


_filter = _OutOfRange()


def watch_positions() -> None:
    """From now on every such reset in this process is an error in the log and in the metric. May be called again."""
    fetcher = logging.getLogger(_FETCHER)
    fetcher.setLevel(logging.INFO)
    fetcher.addFilter(_filter)

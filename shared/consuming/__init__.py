"""Faust behind a lane. What Faust really does, and why each override is here: docs/faust.md.

The only place that imports Faust, so that another client could replace it here.
"""

from shared.consuming.consumer import (
    DRAIN_S,
    NEVER_S,
    REVOCATION_GRACE_S,
    WATCHDOG_S,
    Admission,
    ConsumerOptions,
    FaustLane,
    FaustTicket,
    Partition,
    Received,
    create_faust_app,
    set_paused,
)
from shared.consuming.running import run_faust

__all__ = [
    "DRAIN_S",
    "NEVER_S",
    "REVOCATION_GRACE_S",
    "WATCHDOG_S",
    "Admission",
    "ConsumerOptions",
    "FaustLane",
    "FaustTicket",
    "Partition",
    "Received",
    "create_faust_app",
    "run_faust",
    "set_paused",
]

"""W3C Trace Context (`traceparent`): carried from the HTTP request through Kafka headers to SMTP and callback."""

import re
from random import getrandbits

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def continue_trace(traceparent: str | None) -> str:
    """A `traceparent` for the next hop: same trace, new parent id; a new trace where there is no valid one."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and match[1] != "0" * 32 and match[2] != "0" * 16:
        return f"00-{match[1]}-{getrandbits(64):016x}-{match[3]}"
    return f"00-{getrandbits(128):032x}-{getrandbits(64):016x}-00"


def find_trace_id(traceparent: str | None) -> str | None:
    """The 32 hex digits of the trace, None where there is none."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else None

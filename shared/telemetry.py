"""What a process tells of itself beside its metrics: logs and traces, set up first thing."""

import sys
from typing import Any

from shared.logs import set_up_logs
from shared.settings import ProcessSettings
from shared.tracing import TracingUnavailable, set_up_tracing


def set_up_telemetry(settings: ProcessSettings, *, service: str, **fields: Any) -> None:
    """Logs as the settings say, with `fields` on every line, and spans where they name a collector.

    Ends the process (exit code 2) where spans are wanted and cannot be made.
    """
    set_up_logs(settings.log_level, settings.log_format, service=service, **fields)
    try:
        set_up_tracing(settings.traces_endpoint, settings.traces_ratio, service=service)
    except TracingUnavailable as exc:
        print(exc, file=sys.stderr)
        raise SystemExit(2) from None

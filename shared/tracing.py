"""Traces: W3C Trace Context from the HTTP request through Kafka headers to SMTP and callback, and spans for each hop.

`traceparent` is always carried on. Spans are made only where MILENA_TRACES_ENDPOINT names a collector; elsewhere a hop
costs what writing its `traceparent` costs. Spans hold ids, counts and codes, never an address, a subject or a body.
"""

import re
import time
from collections.abc import Mapping
from random import getrandbits

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

__all__ = ["Hop", "SpanKind", "begin_hop", "continue_trace", "find_trace_id", "is_tracing", "set_up_tracing"]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_tracer: Tracer | None = None

Attributes = Mapping[str, str | int | float | bool]


class TracingUnavailable(Exception):
    """MILENA_TRACES_ENDPOINT is set, and the packages that make spans are not installed."""


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


class Hop:
    """One step of a mail's way: `traceparent` is for whatever follows from it."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, traceparent: str, span: Span | None = None) -> None:
        self.traceparent = traceparent
        self._span = span

    def end(self, *, error: str | None = None, attributes: Attributes | None = None) -> None:
        """The step is over; `error` says in a word why it failed."""
        if self._span is None:
            return
        if attributes:
            self._span.set_attributes(attributes)
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


def begin_hop(
    name: str,
    kind: SpanKind,
    parent: str | None,
    *,
    attributes: Attributes | None = None,
    seconds_ago: float = 0.0,
) -> Hop:
    """Begin a step that follows from `parent` (a traceparent), and may have begun some seconds ago."""
    if _tracer is None:
        return Hop(continue_trace(parent))
    began = time.time_ns() - int(seconds_ago * 1e9)
    span = _tracer.start_span(name, _read_context(parent), kind, attributes, start_time=began)
    made = span.get_span_context()
    return Hop(f"00-{made.trace_id:032x}-{made.span_id:016x}-{made.trace_flags:02x}", span)


def is_tracing() -> bool:
    """Whether spans are made in this process."""
    return _tracer is not None


def set_up_tracing(endpoint: str, ratio: float, *, service: str) -> None:
    """Send spans to a collector that speaks OTLP over HTTP at `endpoint`; an empty one means none are made.

    `ratio` of the traces that begin here are kept; of those that come with a request, what their beginner decided.
    Raises TracingUnavailable.
    """
    if not endpoint:
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as exc:
        raise TracingUnavailable("MILENA_TRACES_ENDPOINT needs `pip install milena-server[traces]`") from exc
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(ratio), resource=Resource.create({"service.name": f"milena-{service}"})
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces")))
    use_tracer(provider.get_tracer("milena"))


def use_tracer(tracer: Tracer | None) -> None:
    """Make spans with this one from now on; None: make none."""
    global _tracer  # noqa: PLW0603  # as OpenTelemetry's own is: a process has one, set before any work
    _tracer = tracer


def _read_context(traceparent: str | None) -> Context:
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if not match:
        return Context()
    flags = TraceFlags(int(match[3], 16))
    found = SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(found), Context())

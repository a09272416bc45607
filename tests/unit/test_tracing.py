"""What a hop carries on, with and without spans."""

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared.tracing import SpanKind, begin_hop, find_trace_id, is_tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_without_a_collector_a_hop_only_carries_the_trace_on() -> None:
    assert not is_tracing()
    hop = begin_hop("x", SpanKind.CLIENT, f"00-{TRACE}-{PARENT}-01")
    hop.end(error="y", attributes={"z": 1})
    assert find_trace_id(hop.traceparent) == TRACE
    assert hop.traceparent.split("-")[2] != PARENT


def test_a_span_continues_the_trace_it_came_with(spans: InMemorySpanExporter) -> None:
    hop = begin_hop("x", SpanKind.CLIENT, f"00-{TRACE}-{PARENT}-01", seconds_ago=2.0)
    hop.end(attributes={"z": 1})
    [span] = spans.get_finished_spans()
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert hop.traceparent == f"00-{TRACE}-{span.context.span_id:016x}-01"
    assert span.start_time and span.end_time and span.end_time - span.start_time >= 2e9
    assert span.status.is_ok or span.status.is_unset


def test_an_error_stands_in_the_span(spans: InMemorySpanExporter) -> None:
    begin_hop("x", SpanKind.CLIENT, None).end(error="unanswered")
    [span] = spans.get_finished_spans()
    assert (span.status.is_ok, span.status.description, span.parent) == (False, "unanswered", None)


def test_what_its_beginner_did_not_sample_makes_no_span_and_stays_one_trace(spans: InMemorySpanExporter) -> None:
    hop = begin_hop("x", SpanKind.CLIENT, f"00-{TRACE}-{PARENT}-00")
    hop.end()
    assert spans.get_finished_spans() == ()
    assert hop.traceparent.startswith(f"00-{TRACE}-")
    assert hop.traceparent.endswith("-00")


@pytest.mark.parametrize("given", [None, "", "junk", f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{PARENT}-zz"])
def test_nonsense_begins_a_new_trace(spans: InMemorySpanExporter, given: str | None) -> None:
    hop = begin_hop("x", SpanKind.CLIENT, given)
    hop.end()
    [span] = spans.get_finished_spans()
    assert span.parent is None
    assert find_trace_id(hop.traceparent) not in {None, TRACE, "0" * 32}

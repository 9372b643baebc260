"""Spans as a collector gets them, by OpenTelemetry's own exporter into memory."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from dataclasses import replace

import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pushrail_stream.core.event import Event, valid_traceparent
from pushrail_stream.core.outcome import Blocked, Delivered
from pushrail_stream.core.retry import DeadLetter, Settled
from pushrail_stream.core.signals import Backpressure, Consumed, DeadLettered, Signal
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.logging import open_log
from pushrail_stream.observe.tracing import Tracing, open_tracing
from tests.support.records import record
from tests.support.signals import AT_MS, attempted, changed, event_of, letter

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


def traced(event: Event, traceparent: str = SAMPLED) -> Event:
    return event._replace(traceparent=valid_traceparent(traceparent.encode()))


def spans(*signals: Signal) -> list[ReadableSpan]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = Tracing(provider.get_tracer("test"))
    for signal in signals:
        tracing(signal)
    return list(exporter.get_finished_spans())


def consumed(event: Event) -> Consumed:
    return Consumed(event, record(3).origin, 2, AT_MS - 40, AT_MS)


def producer_of(span: ReadableSpan) -> tuple[str, str]:
    assert span.parent is not None
    assert span.parent.is_remote
    return f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}"


@pytest.mark.parametrize("recorded_at_ms", [-1, 0, -(2**63), 2**63 - 1, AT_MS + 1])
def test_an_impossible_time_loses_no_span(recorded_at_ms: int) -> None:
    recorded = record(3)._replace(timestamp_ms=recorded_at_ms).recorded_at_ms
    (span,) = found = spans(consumed(traced(event_of(record(3))))._replace(recorded_at_ms=recorded))
    assert span.start_time == span.end_time == AT_MS * 1_000_000
    assert encode_spans(found).resource_spans, "one that cannot be encoded takes its whole batch with it"


def test_an_event_continues_its_trace() -> None:
    (span,) = spans(consumed(traced(event_of(record(3)))))
    assert span.kind is SpanKind.CONSUMER
    assert producer_of(span) == (TRACE, SPAN)
    assert span.attributes is not None
    assert (span.attributes["messaging.kafka.offset"], span.attributes["pushrail.deliveries"]) == (3, 2)
    assert (span.start_time, span.end_time) == ((AT_MS - 40) * 1_000_000, AT_MS * 1_000_000), "from Kafka to us"


def test_an_attempt_links_to_its_events() -> None:
    signal = attempted((Delivered("e"), Settled()), (Blocked("AccessDenied", "no"), DeadLetter("blocked", "", "")))
    other = TRACE.replace("0", "1")
    signal = changed(signal, 0, event=traced(signal.deliveries[0].event))
    signal = changed(signal, 1, event=traced(signal.deliveries[1].event, f"00-{other}-{SPAN}-01"))
    (span,) = spans(signal)
    assert (span.name, span.kind, span.parent) == ("PutEvents", SpanKind.CLIENT, None)
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE, other]
    assert [link.attributes["pushrail.outcome"] for link in span.links if link.attributes] == ["delivered", "blocked"]
    assert span.attributes is not None
    assert (span.attributes["aws.request_id"], span.attributes["pushrail.failed"]) == ("request-1", 1)
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "AccessDenied")
    assert span.end_time is not None
    assert span.start_time is not None
    assert (span.end_time - span.start_time) / 1e6 == pytest.approx(12.3, abs=0.1)


def test_a_full_delivery_is_no_error() -> None:
    signal = attempted((Delivered("e"), Settled()))
    (span,) = spans(changed(signal, event=traced(signal.deliveries[0].event)))
    assert span.status.status_code is StatusCode.UNSET


def test_an_undecodable_record_keeps_its_trace() -> None:
    dead = letter("undecodable", "payload", "is missing")
    with_header = dead.record._replace(headers=(("traceparent", SAMPLED.encode()),))
    (span,) = spans(DeadLettered(replace(dead, record=with_header), None))
    assert producer_of(span) == (TRACE, SPAN)
    assert span.attributes is not None
    assert (span.attributes["pushrail.reason"], span.attributes["error.type"]) == ("undecodable", "payload")
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("traceparent", ["", SAMPLED[:-1] + "0", "00-" + "0" * 32 + "-" + SPAN + "-01"])
def test_an_unsampled_event_has_no_span(traceparent: str) -> None:
    event = traced(event_of(record(3)), traceparent)
    untraced = changed(attempted((Delivered("e"), Settled())), event=event)
    assert (
        spans(consumed(event), untraced, DeadLettered(letter("rejected", "x", "y"), None), Backpressure(True, 1, 1))
        == []
    )


def test_a_trace_id_is_the_producers() -> None:
    assert traced(event_of(record(0))).trace_id == TRACE
    assert event_of(record(0)).trace_id is None


async def test_missing_tracing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with open_tracing("worker-1", open_log("warning")) as tracing:
        tracing(consumed(traced(event_of(record(0)))))
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(OperatorError, match=re.escape("pip install 'pushrail-stream[tracing]'")):
        async with open_tracing("worker-1", open_log("warning")):
            pass


async def test_a_hung_collector_delays_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, turns, over = asyncio.Event(), 0, asyncio.Event()

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def turn() -> None:
        nonlocal turns
        await asked.wait()
        while not over.is_set():
            turns += 1
            await asyncio.sleep(0.05)

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server, asyncio.TaskGroup() as tasks:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setattr("pushrail_stream.observe.tracing.LAST_SECS", 1.0)
        tasks.create_task(turn())
        async with asyncio.timeout(8):  # the exporter of itself waits for ten
            async with open_tracing("worker-1", open_log("error")) as tracing:
                tracing(consumed(traced(event_of(record(0)))))
        assert asked.is_set()
        assert turns > 5
        over.set()
        (last,) = (thread for thread in threading.enumerate() if thread.name == "tracing-shutdown")
        await asyncio.to_thread(last.join, 60)

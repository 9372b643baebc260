"""Traces, for installations that want them: consume, attempt and dead-letter spans, tied to the producer's traceparent.

The producer's decision counts: an event whose traceparent is missing or not sampled costs no span. A consume span is a
child of the producer's; an attempt carries up to ten events of different traces, so it is a trace of its own with a
link to each; a dead letter is a child again. Needs the extra ``tracing``; nothing of it is imported otherwise.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, final

from pushrail_stream.core.event import TRACEPARENT_HEADER, valid_traceparent
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.signals import Attempted, Consumed, DeadLettered, Signal
from pushrail_stream.errors import OperatorError
from pushrail_stream.observe.logging import Logger, forward_log
from pushrail_stream.ports.pipeline import Observer
from pushrail_stream.settings.eventbridge import FLAVOURS

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanContext, Tracer

_NANOSECONDS: Final = 1_000_000
_SAMPLED: Final = 1
"""Bit of a traceparent's flags."""
LAST_SECS: Final = 5.0
"""Longest wait, at the end of a worker, for the collector to take the last spans."""


@asynccontextmanager
async def open_tracing(name: str, log: Logger) -> AsyncIterator[Observer]:
    """An observer that sends spans by OTLP over HTTP. At the end of the block it sends the last ones, if it can.

    Where to, how much and under which name is OpenTelemetry's own to configure: ``OTEL_EXPORTER_OTLP_ENDPOINT``,
    ``OTEL_TRACES_SAMPLER``, ``OTEL_SERVICE_NAME`` (``pushrail-stream`` where it is not set) and the like. Raises
    `OperatorError` when the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise OperatorError("tracing.enabled: needs more libraries: pip install 'pushrail-stream[tracing]'") from error
    resource = Resource.create({"service.instance.id": name})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "pushrail-stream"}))
    forward_log("opentelemetry", log)  # a collector that does not answer
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield Tracing(provider.get_tracer("pushrail_stream"))
    finally:
        # A hung collector must block neither the loop nor the end of the process.
        last = threading.Thread(target=provider.shutdown, name="tracing-shutdown", daemon=True)
        last.start()
        await asyncio.to_thread(last.join, LAST_SECS)


@final
class Tracing:
    """Turns signals into spans."""

    def __init__(self, tracer: Tracer) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an optional extra

        self._trace = trace
        self._tracer = tracer

    def __call__(self, signal: Signal) -> None:
        match signal:
            case Consumed():
                self._consumed(signal)
            case Attempted():
                self._attempted(signal)
            case DeadLettered():
                self._dead_lettered(signal)
            case _:
                pass

    def _consumed(self, signal: Consumed) -> None:
        producer = self._context(signal.event.traceparent)
        if producer is None:
            return
        origin, event = signal.origin, signal.event
        # A Kafka timestamp may be absent or any number. One that OTLP cannot carry would make the whole batch fail.
        started_ms = min(signal.recorded_at_ms or signal.at_ms, signal.at_ms)
        span = self._tracer.start_span(
            f"process {origin.topic}",
            self._parent(producer),
            self._trace.SpanKind.CONSUMER,
            {
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": origin.topic,
                "messaging.destination.partition.id": str(origin.partition),
                "messaging.kafka.offset": origin.offset,
                "pushrail.customer": event.customer_external_id,
                "pushrail.event_type": event.event_type,
                "pushrail.idempotency_key": event.idempotency_key,
                "pushrail.deliveries": signal.deliveries,
            },
            start_time=started_ms * _NANOSECONDS,
        )
        span.end(signal.at_ms * _NANOSECONDS)

    def _attempted(self, signal: Attempted) -> None:
        links = [
            self._trace.Link(
                producer,
                {
                    "pushrail.idempotency_key": entry.event.idempotency_key,
                    "pushrail.outcome": type(entry.outcome).__name__.lower(),
                    "pushrail.attempt": entry.attempt,
                },
            )
            for entry in signal.entries
            if (producer := self._context(entry.event.traceparent)) is not None
        ]
        if not links:
            return
        failed = [outcome.code for outcome in signal.outcomes if not isinstance(outcome, Delivered)]
        destination = signal.destination
        operation = FLAVOURS[destination.bus.type].operation
        span = self._tracer.start_span(
            operation,
            # A trace of its own: the call belongs to all of its events alike.
            self._trace.set_span_in_context(self._trace.INVALID_SPAN),
            self._trace.SpanKind.CLIENT,
            {
                "rpc.system": "aws-api",
                "rpc.service": "EventBridge",
                "rpc.method": operation,
                "cloud.region": destination.bus.region,
                "aws.request_id": signal.request_id or "",
                "http.response.status_code": signal.http_status or 0,
                "messaging.batch.message_count": len(signal.deliveries),
                "pushrail.destination": destination.id,
                "pushrail.failed": len(failed),
            },
            links,
            start_time=signal.at_ms * _NANOSECONDS,
        )
        if failed:
            span.set_status(self._trace.StatusCode.ERROR, ", ".join(sorted(set(failed))))
        span.end(round((signal.at_ms + signal.duration_secs * 1000) * _NANOSECONDS))

    def _dead_lettered(self, signal: DeadLettered) -> None:
        letter = signal.letter
        header = dict(letter.record.headers).get(TRACEPARENT_HEADER)
        producer = self._context(valid_traceparent(header))
        if producer is None:
            return
        origin = letter.record.origin
        span = self._tracer.start_span(
            "dead letter",
            self._parent(producer),
            self._trace.SpanKind.PRODUCER,
            {
                "messaging.system": "kafka",
                "pushrail.origin": str(origin),
                "pushrail.destination": letter.destination_id or "",
                "pushrail.reason": letter.reason,
                "pushrail.attempts": letter.attempts,
                "error.type": letter.code,
            },
            [self._trace.Link(producer)],
            start_time=letter.failed_at_ms * _NANOSECONDS,
        )
        span.set_status(self._trace.StatusCode.ERROR, letter.message)
        span.end(letter.failed_at_ms * _NANOSECONDS)

    def _parent(self, producer: SpanContext) -> Context:
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(producer))

    def _context(self, traceparent: str | None) -> SpanContext | None:
        """The producer's span; None without a valid traceparent, or when the span is not sampled."""
        if traceparent is None:
            return None
        _, trace, span, flags, *_ = traceparent.split("-")
        if not int(flags, 16) & _SAMPLED:
            return None
        return self._trace.SpanContext(
            int(trace, 16), int(span, 16), is_remote=True,
            trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
        )  # fmt: skip

"""Traces of a whole worker, as a collector gets them by OTLP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from confluent_kafka import Producer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import event, with_access_key
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import make_topics, open_bus, running, settings_for

pytestmark = pytest.mark.kafka
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@asynccontextmanager
async def collector() -> AsyncIterator[tuple[str, list[Span]]]:
    """Its address, and the spans it was sent."""
    found = list[Span]()

    async def take(request: web.Request) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            assert names["service.name"] == "pushrail-stream"
            found.extend(span for scope in resource.scope_spans for span in scope.spans)
        return web.Response(body=b"", content_type="application/x-protobuf")

    application = web.Application()
    application.add_routes([web.post("/v1/traces", take)])
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", found
    finally:
        await runner.cleanup()


def produce_traced(settings: Settings) -> None:
    """One event that can be delivered and one that cannot be decoded, in one trace; and one outside of any."""
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    header: list[tuple[str, str | bytes | None]] = [("traceparent", f"00-{TRACE}-{SPAN}-01".encode())]
    producer.produce(settings.topics.events, event(0, 1), "acct_0", headers=header)
    producer.produce(settings.topics.events, b"{}", "acct_0", headers=header)
    producer.produce(settings.topics.events, event(0, 2), "acct_0")
    assert producer.flush(30) == 0


async def test_a_trace_leads_from_producer_to_bus(real_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultBus.serve() as bus, collector() as (address, found):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # milliseconds between two exports
        settings = settings_for(real_kafka, bus.url, tracing={"enabled": True})
        make_topics(settings)
        open_bus(bus, [0])
        async with running(settings, [with_access_key(0)]) as worker:
            await asyncio.to_thread(produce_traced, settings)
            await bus.wait_for_arrivals(2)
            await worker.until(lambda: worker.worker.ledger.dead_lettered == 1)
            async with asyncio.timeout(PATIENCE_SECS):
                while len(found) < 3:  # noqa: ASYNC110 - they come from a thread of the exporter's
                    await asyncio.sleep(0.05)
    spans = {span.name: span for span in found}
    assert sorted(spans) == ["PutEvents", "dead letter", f"process {settings.topics.events}"]
    for name, span in spans.items():
        if name == "PutEvents":
            assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [(TRACE, SPAN)]
        else:
            assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, SPAN)

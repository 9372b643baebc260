"""A worker seen from outside: metrics that add up at every look, and whether it is ready."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka import Consumer, Message
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from pushrail_stream.core.signals import Membership
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.topics import create_topics, plan_topics
from pushrail_stream.observe.logging import open_log
from pushrail_stream.registry.directory import DestinationIndex
from pushrail_stream.sandbox.bus.faults import CallError, Hang, Match, Probability, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.worker import run_worker
from tests.support.builders import KEY_ID, SECRET, bus_arn, event, with_access_key
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import Watched, make_topics, open_bus, outside, produce, running, settings_for

pytestmark = pytest.mark.kafka
METRICS = Path(__file__).parents[2] / "deploy" / "METRICS.md"


async def ask(port: int, path: str, **headers: str) -> tuple[int, Any]:
    url = f"http://127.0.0.1:{port}{path}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        return reply.status, await (reply.json() if "json" in reply.content_type else reply.text())


def totals(text: str) -> dict[str, float]:
    return {
        sample.name: sum(s.value for s in family.samples if s.name == sample.name)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_ledger_balances_at_every_scrape(real_kafka: str) -> None:
    async with outside(real_kafka, 3, tiers=(1,), delivery={"hold_secs": 1, "flush_ms": 20}) as (bus, settings):
        bus.set_plan([
            Rule(CallError(503, "ServiceUnavailable", "busy"), Match(operation="PutEvents"), when=Probability(0.4)),
            Rule(CallError(403, "AccessDeniedException", "no"), Match(operation="PutEvents", bus=bus_arn(1))),
        ])  # fmt: skip
        async with running(settings, [with_access_key(n) for n in range(3)]) as worker:
            port = worker.worker.http_port
            await produce(settings, [(f"acct_{n % 3}", event(n % 3, n)) for n in range(600)])
            scrapes = 0
            async with asyncio.timeout(PATIENCE_SECS):
                while worker.worker.ledger.delivered < 400:
                    text = (await ask(port, "/metrics"))[1]
                    seen = totals(text)
                    ended = seen.get("pushrail_deliveries_total", 0)
                    assert seen["pushrail_deliveries_begun_total"] == ended + seen["pushrail_deliveries_in_flight"]
                    reasons = sum(
                        seen[f"pushrail_{name}_total"] for name in ("dead_letters", "moved_to_retry", "skipped")
                    )
                    [put_back] = map(float, re.findall(r'deliveries_total\{state="put_back"\} (\S+)', text))
                    assert ended - put_back == seen["pushrail_delivery_latency_seconds_count"] + reasons, (
                        "each end has its reason"
                    )
                    scrapes += 1
            assert scrapes > 3
            assert await ask(port, "/readyz") == (200, {"ready": True, "reasons": []})
            assert await ask(port, "/livez") == (200, {"live": True})
            await worker.until(lambda: worker.worker.ledger.dead_lettered == 200)
            last = totals((await ask(port, "/metrics"))[1])
            assert last["pushrail_destinations_suspended"] == 1
            assert last["pushrail_dead_letters_total"] == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(port, "/livez")


async def test_a_taken_port_is_named(embedded_broker: Any) -> None:
    async with FaultBus.serve() as bus:
        taken = int(bus.url.rpartition(":")[2])
        settings = settings_for(embedded_broker.bootstrap_servers, bus.url).model_copy()
        settings = settings.model_copy(update={"http": settings.http.model_copy(update={"port": taken})})
        make_topics(settings, embedded_broker)
        with pytest.raises(OperatorError, match=r"http\.host, http\.port: 127\.0\.0\.1:\d+ cannot be listened on"):
            await run_worker(settings, DestinationIndex(), open_log("warning"))


async def test_worker_metrics_match_their_document(real_kafka: str) -> None:
    rows = re.findall(r"^\| `(pushrail_(?!ingest_)\w+)` \|([^|]*)\|", METRICS.read_text(), flags=re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    assert len(documented) == len(rows), "each is told once"
    async with (
        outside(real_kafka, metrics={"max_destinations": 10}) as (bus, settings),
        running(settings, [with_access_key(0)]) as worker,
    ):
        port = worker.worker.http_port
        await produce(settings, [("acct_0", event(0, n)) for n in range(30)])
        await bus.wait_for_arrivals(30)
        async with asyncio.timeout(PATIENCE_SECS):
            late = {"pushrail_consumer_lag_records{", "pushrail_partition_unread_seconds{"}
            body = ""
            while not all(name in body for name in late):
                await asyncio.sleep(0.2)
                _, body = await ask(port, "/metrics")
        families = list(text_string_to_metric_families(body))
        openmetrics = (await ask(port, "/metrics", Accept="application/openmetrics-text; version=1.0.0"))[1]
        assert re.search(r"<h1>pushrail-stream</h1>.*badge ok'>ready", (page := (await ask(port, "/"))[1]), re.DOTALL)
        assert SECRET not in page + body
        assert KEY_ID not in page + body
    shown: dict[str, set[str]] = {}
    for family in families:
        if family.name.startswith(("process_", "python_")):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        shown[name] = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert re.fullmatch(r"pushrail_[a-z]+(_[a-z]+)*", name)
        assert family.documentation.endswith("."), f"{name} says what it is"
        assert (family.type == "counter") == any(sample.name == f"{family.name}_total" for sample in family.samples)
        assert family.type in {"counter", "gauge", "histogram"}
    assert shown == documented
    asked_for = openmetrics_families(openmetrics)  # type: ignore[no-untyped-call]
    assert {family.name for family in asked_for} == {family.name for family in families}


async def test_metrics_of_two_workers_add_up(real_kafka: str) -> None:
    async with outside(real_kafka, 3, delivery={"flush_ms": 20}) as (bus, settings):
        destinations = [with_access_key(n) for n in range(3)]
        async with running(settings, destinations) as one, running(settings, destinations) as two:
            for worker in (one, two):
                await both(worker, active=True)
            # Partitions may still move: one worker drops deliveries in flight and the other begins them.
            await produce(settings, [(f"acct_{n % 3}", event(n % 3, n)) for n in range(600)])
            await bus.wait_for_arrivals(600)
            async with asyncio.timeout(PATIENCE_SECS):
                while True:
                    seen = [totals((await ask(w.worker.http_port, "/metrics"))[1]) for w in (one, two)]
                    both_of = Counter[str]()
                    for samples in seen:
                        both_of.update(samples)
                    if not both_of["pushrail_deliveries_in_flight"] and not both_of["pushrail_consumer_lag_records"]:
                        break
                    await asyncio.sleep(0.5)
            # A session that is lost amid it repeats events, and each time is counted: no more, and no less.
            assert both_of["pushrail_event_latency_seconds_count"] == len(bus.arrivals) >= 600
            assert both_of["pushrail_deliveries_begun_total"] == both_of["pushrail_deliveries_total"]


def members(worker: Watched) -> dict[str, bool]:
    """Whether it takes part, by consumer group."""
    return {signal.group: signal.active for signal in worker.signals if isinstance(signal, Membership)}


async def both(worker: Watched, *, active: bool) -> None:
    await worker.until(lambda: list(members(worker).values()) == [active] * 2)


async def until_answered(port: int, status: int) -> Any:
    """The text of /readyz once it answers with this status."""
    async with asyncio.timeout(PATIENCE_SECS):
        while (answer := await ask(port, "/readyz"))[0] != status:  # noqa: ASYNC110 - seen from outside
            await asyncio.sleep(0.1)
    return answer[1]


async def test_it_is_ready_between_join_and_stop(real_kafka: str) -> None:
    async with FaultBus.serve() as bus:
        # A call that hangs keeps a worker that stops there to be asked: nearly as long as it may be held.
        slow = {"endpoint_url": bus.url, "read_timeout_secs": 9}
        settings = settings_for(real_kafka, bus.url, eventbridge=slow)
        make_topics(settings)
        open_bus(bus, [0])
        bus.set_plan([Rule(Hang(), when=Times(1))])
        async with running(settings, [with_access_key(0)]) as worker:
            port, group = worker.worker.http_port, settings.kafka.group_id
            status, answer = await ask(port, "/readyz")
            if status == 503:  # it may have joined while we asked
                reasons = {f"consumer group {name}: not in touch" for name in (group, f"{group}.retry")}
                assert set(answer["reasons"]) <= reasons
            assert await ask(port, "/livez") == (200, {"live": True})
            await both(worker, active=True)
            assert await ask(port, "/readyz") == (200, {"ready": True, "reasons": []})
            await produce(settings, [("acct_0", event(0, 1))])
            async with asyncio.timeout(PATIENCE_SECS):
                while not bus.calls:
                    await ask(port, "/metrics")
            worker.worker.stop()
            assert await ask(port, "/readyz") == (503, {"ready": False, "reasons": ["stopping"]})
            assert await ask(port, "/livez") == (200, {"live": True}), "what is in flight is still finished"


async def test_a_stuck_consumer_is_not_ready(real_kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = threading.Event()
    free.set()

    class Sticking(Consumer):
        def poll(self, timeout: float = -1) -> Message | None:
            free.wait()
            return super().poll(timeout)

    monkeypatch.setattr("pushrail_stream.kafka.consumer.Consumer", Sticking)
    monkeypatch.setattr("pushrail_stream.observe.readiness.STUCK_SECS", 1.0)
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        async with running(settings, []) as worker:
            port = worker.worker.http_port
            await both(worker, active=True)
            try:
                free.clear()
                answer = await until_answered(port, 503)
                assert re.fullmatch(r"consumer of (events|retries): stuck for \d+ s", answer["reasons"][0])
                async with asyncio.timeout(PATIENCE_SECS):
                    while totals((await ask(port, "/metrics"))[1])["pushrail_consumer_poll_age_seconds"] <= 1:  # noqa: ASYNC110 - the worker is asked
                        await asyncio.sleep(0.05)
            finally:
                free.set()
            await until_answered(port, 200)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
async def test_without_a_partition_it_is_ready(real_kafka: str, protocol: str) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        kafka = settings.kafka.model_copy(update={"group_protocol": protocol})
        settings = settings.model_copy(update={"kafka": kafka})
        create_topics(checked_kafka(settings), plan_topics(settings, 1), 1, dry_run=False)
        async with running(settings, []) as one, running(settings, []) as spare:
            for worker in (one, spare):
                await both(worker, active=True)
                assert await ask(worker.worker.http_port, "/readyz") == (200, {"ready": True, "reasons": []})


async def test_it_is_not_ready_while_kafka_is_down(
    local_kafka_factory: LocalKafkaFactory,
) -> None:
    kafka = await asyncio.to_thread(local_kafka_factory)
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka.bootstrap_servers, bus.url)
        make_topics(settings)
        async with running(settings, []) as worker:
            port = worker.worker.http_port
            await both(worker, active=True)
            await asyncio.to_thread(kafka.kill)
            await both(worker, active=False)
            status, answer = await ask(port, "/readyz")
            assert (status, len(answer["reasons"])) == (503, 2)
            assert await ask(port, "/livez") == (200, {"live": True}), "starting it anew would not help"
            await asyncio.to_thread(kafka.restart)
            await both(worker, active=True)
            assert (await ask(port, "/readyz"))[0] == 200

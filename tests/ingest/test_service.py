"""Events over HTTP into a real Kafka: the command as operators run it, and what producers see of it."""

from __future__ import annotations

import asyncio
import json
import random
import re
import resource
from pathlib import Path

import pytest
from confluent_kafka import KafkaError
from prometheus_client.parser import text_string_to_metric_families

from pushrail_stream.registry.store import replace_file
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.ingest_process import ingesting, new_key, settings_with_door
from tests.support.kafka.breakable import ApiKey, BreakableBroker
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.topics import create_topic
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import make_topics, open_bus, produce, read_all, running, settings_for

pytestmark = pytest.mark.kafka
METRICS = Path(__file__).parents[2] / "deploy" / "METRICS.md"
NOISE = random.Random(18).randbytes(30_000).hex()
"""60,000 characters, which compress to about half of that."""


async def test_an_oversized_event_refuses_its_request(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_with_door(real_kafka, "http://127.0.0.1:1", tmp_path)
    create_topic(real_kafka, settings.topics.events, config={"max.message.bytes": "20000"})
    small, large, blank = (event(0, n, payload={"noise": noise}) for n, noise in enumerate(("", NOISE, "x" * 60_000)))
    async with ingesting(Desk(tmp_path, settings)) as front:
        status, answer = await front.post(b"[" + b",".join([small, large, small]) + b"]")
        assert (status, [error["index"] for error in answer["errors"]]) == (413, [1])
        assert (await front.post(large))[0] == 413
        assert read_all(settings, settings.topics.events) == []
        status, answer = await front.post(b"[" + b",".join([blank, small]) + b"]")
        assert (status, answer["accepted"]) == (202, 2), "it fits, compressed"
        text = (await front.ops("/metrics"))[1]
    assert 'pushrail_ingest_requests_total{status="413"} 2.0' in text
    assert [value for _, value, _ in read_all(settings, settings.topics.events)] == [blank, small]


async def test_a_posted_event_reaches_the_bus(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_with_door(real_kafka, bus.url, tmp_path)
        make_topics(settings)
        open_bus(bus, [0])
        posted = [event(0, number) for number in range(30)]
        async with ingesting(Desk(tmp_path, settings)) as front, running(settings, [with_access_key(0)]):
            status, answer = await front.post(posted[0])
            assert (status, answer["accepted"]) == (202, 1)
            status, answer = await front.post(b"[" + b", ".join(posted[1:]) + b"]")
            assert (status, answer["accepted"]) == (202, 29)
            assert (await front.post(event(0, 99, eventType=7)))[0] == 422
            await bus.wait_for_arrivals(30)
            line = await front.said("request_answered")
            assert (line["status"], line["accepted"], line["vendor"]) == (202, 1, "acme")
            assert await front.ops("/readyz") == (200, '{"ready": true, "reasons": []}')
            text = (await front.ops("/metrics"))[1]
        assert sorted(a.detail.encode() for a in bus.arrivals) == sorted(posted), "to the byte"
    assert 'pushrail_ingest_requests_total{status="202"} 2.0' in text
    assert 'pushrail_ingest_events_total{outcome="accepted"} 30.0' in text
    kept = read_all(settings, settings.topics.events)
    assert {key for key, _, _ in kept} == {b"acct_0"}
    assert {headers["pushrail-vendor"] for _, _, headers in kept} == {"acme"}
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers["traceparent"]) for _, _, headers in kept)


async def test_keys_change_while_ingest_runs(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_with_door(real_kafka, "http://127.0.0.1:1", tmp_path)
    make_topics(settings)
    desk = Desk(tmp_path, settings)
    async with ingesting(desk) as front:
        second = await new_key(desk)
        assert (await front.said("api_keys"))["in_use"] == 2
        assert (await front.post(event(0, 1), second))[0] == 202
        listed = [json.loads(line) for line in (await desk.run("ingest", "keys", "list", "--json")).splitlines()]
        assert [key["vendor"] for key in listed] == ["acme", "acme"]
        await desk.run("ingest", "keys", "revoke", listed[0]["id"])
        assert (await front.said("api_keys"))["in_use"] == 1
        assert (await front.post(event(0, 2)))[0] == 401
        assert (await front.post(event(0, 2), second))[0] == 202
        replace_file(settings.ingest.keys_file, b"{")
        problem = (await front.said("api_keys_refused"))["problem"]
        assert problem.startswith(f"{settings.ingest.keys_file}: file: Invalid JSON")
        assert (await front.post(event(0, 3), second))[0] == 202, "the keys before stay in use"
    assert settings.ingest.keys_file.stat().st_mode & 0o077 == 0


async def test_a_kafka_outage_is_503_until_it_ends(local_kafka_factory: LocalKafkaFactory, tmp_path: Path) -> None:
    kafka = await asyncio.to_thread(local_kafka_factory)
    settings = settings_with_door(kafka.bootstrap_servers, "http://127.0.0.1:1", tmp_path, timeout_secs=2)
    make_topics(settings)
    async with ingesting(Desk(tmp_path, settings)) as front:
        assert (await front.post(event(0, 1)))[0] == 202
        await asyncio.to_thread(kafka.kill)
        status, answer = await front.post(event(0, 2))
        assert (status, answer["results"][0]["status"]) == (503, "failed")
        async with asyncio.timeout(PATIENCE_SECS):
            while (ready := await front.ops("/readyz"))[0] == 200:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.2)
        assert "Kafka is out of reach" in ready[1]
        assert (await front.ops("/livez"))[0] == 200
        await asyncio.to_thread(kafka.restart)
        async with asyncio.timeout(PATIENCE_SECS):
            while (await front.post(event(0, 3)))[0] != 202:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.2)
            while (await front.ops("/readyz"))[0] != 200:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.2)


async def test_a_fatal_producer_error_ends_ingest(
    tmp_path: Path,
) -> None:
    with BreakableBroker.start({}) as broker:
        settings = settings_with_door(broker.bootstrap_servers, "http://127.0.0.1:1", tmp_path, timeout_secs=30)
        make_topics(settings, broker)
        desk = Desk(tmp_path, settings)
        async with ingesting(desk, exit_code=1) as front:
            assert (await front.post(event(0, 1)))[0] == 202
            broker.push_request_errors(ApiKey.PRODUCE, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
            async with asyncio.timeout(20):  # below the producer's time-out
                status, answer = await front.post(event(0, 2))
                assert (status, answer["results"][0]["status"]) == (503, "failed")
                await front.process.wait()
        assert "the Kafka producer cannot go on, restart this program: " in front.last_words


async def test_a_fatal_dlq_error_ends_the_worker(tmp_path: Path) -> None:
    with BreakableBroker.start({}) as broker:
        settings = settings_for(broker.bootstrap_servers, "http://127.0.0.1:1")
        make_topics(settings, broker)
        await produce(settings, [("acct_0", b"no event")])
        # The log of attempts has a producer of its own: each of the two is told.
        broker.push_request_errors(ApiKey.PRODUCE, *[KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER] * 8)
        process = await Desk(tmp_path, settings).start("run", "--json")
        try:
            _, err = await asyncio.wait_for(process.communicate(), PATIENCE_SECS)
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert process.returncode == 1
        assert "the Kafka producer cannot go on, restart this program: " in err.decode()


async def test_a_failed_start_is_one_line(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_with_door(real_kafka, "http://127.0.0.1:1", tmp_path)
    desk = Desk(tmp_path, settings)
    assert "make one by: pushrail-stream ingest keys create" in await desk.run("ingest", exit_code=1)
    await new_key(desk)
    assert settings.topics.events in await desk.run("ingest", exit_code=1)


async def test_ingest_metrics_match_their_document(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_with_door(real_kafka, "http://127.0.0.1:1", tmp_path)
    make_topics(settings)
    async with ingesting(Desk(tmp_path, settings)) as front:
        families = list(text_string_to_metric_families((await front.ops("/metrics"))[1]))
    shown = {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels
        }
        - {"le"}
        for family in families
        if family.name.startswith("pushrail_")
    }
    rows = re.findall(
        r"^\| `(pushrail_(?:ingest|kafka|build)_\w+)` \|([^|]*)\|", METRICS.read_text(), flags=re.MULTILINE
    )
    assert shown == {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}
    clients = {sample.labels["client"] for family in families for sample in family.samples if "client" in sample.labels}
    assert clients == {"ingest"}


async def test_it_uses_its_limit_of_sockets(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_with_door(real_kafka, "http://127.0.0.1:1", tmp_path)
    make_topics(settings)
    few, hard = 512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    before = resource.prlimit(0, resource.RLIMIT_NOFILE, (few, hard))
    try:
        async with ingesting(Desk(tmp_path, settings)) as front:
            assert resource.prlimit(front.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

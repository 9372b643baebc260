"""Forged or damaged records and events without a vendor stop neither a worker nor the tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from confluent_kafka import Producer

from pushrail_stream.core.headers import DeliveryHeaders, encode_headers
from pushrail_stream.core.record import Headers, Origin
from pushrail_stream.settings.model import Settings
from tests.support.builders import event, with_access_key
from tests.support.commands import Desk
from tests.support.workers import (
    committed,
    ends,
    make_topics,
    outside,
    produce,
    read_all,
    running,
    settings_for,
)

pytestmark = pytest.mark.kafka

FORGED: dict[str, list[bytes]] = {
    "pushrail-first-attempt-at": [b"9999-12-31T23:59:60Z", b"0001-01-01T00:00:00+23:59"],
    "pushrail-failed-at": [b"9999-12-31T23:59:60Z", b"9999-12-31T23:59:59-00:01", b"\xff"],
    "pushrail-attempts": [b"9" * 4_000, b"-1", b"1e3"],
    "pushrail-not-before": [b"9" * 40, b"-" + b"9" * 40],
    "pushrail-replay-count": [b"9" * 40],
    "pushrail-origin": [b"t/-1/-1", b"t/0/" + b"9" * 40, b"t", b"\xc3("],
    "pushrail-error-message": [b"\xff\xfe"],
}
HEADERS: list[Headers] = [
    (
        *encode_headers(
            DeliveryHeaders(
                origin=Origin("elsewhere", 0, 7), attempts=1, reason="retryable", failed_at_ms=1_795_514_400_000,
                first_attempt_at_ms=1_795_514_390_000, destination="dst_0",
            ),
            (),
        ),
        (name, value),
    )
    for name, values in FORGED.items()
    for value in values
]  # fmt: skip


def write(settings: Settings, topic: str, forged: list[Headers]) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    for number, headers in enumerate(forged):
        written: Any = list(headers)
        producer.produce(topic, event(0, number), "acct_0", 0, headers=written)
    assert producer.flush(30) == 0


async def test_forged_headers_become_dead_letters(real_kafka: str) -> None:
    async with outside(real_kafka, tiers=(1,)) as (_bus, settings):
        [retry] = settings.topics.retry
        write(settings, retry, HEADERS)
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, n)) for n in range(3)])
            await worker.settled(len(HEADERS) + 3)
            assert (worker.worker.ledger.delivered, worker.worker.ledger.dead_lettered) == (3, len(HEADERS))
        assert committed(settings, retry) == ends(settings, retry)
        codes = [headers["pushrail-error-code"] for _, _, headers in read_all(settings, settings.topics.dlq)]
        assert sorted(codes) == sorted(headers[-1][0] for headers in HEADERS)


async def test_commands_show_forged_dead_letters(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_for(real_kafka, "http://127.0.0.1:1")
    make_topics(settings)
    write(settings, settings.topics.dlq, [HEADERS[0][:-1], *HEADERS])
    desk = Desk(tmp_path, settings)
    desk.put([with_access_key(0)])
    listed = {row["reason"]: row for row in await desk.lines("dlq", "list")}
    assert {reason: row["count"] for reason, row in listed.items()} == {"retryable": 1, "foreign": len(HEADERS)}
    assert len((await desk.run("dlq", "list")).splitlines()) == 3, "a heading and a line for each kind"
    shown = await desk.lines("dlq", "show", "--reason", "foreign", "--limit", "100")
    assert [one["message"].partition(":")[0] for one in shown] == [headers[-1][0] for headers in HEADERS]
    assert (await desk.run("dlq", "show", "--reason", "foreign", "--limit", "100")).count("foreign") == len(HEADERS)
    planned = await desk.ask("replay", "dlq", "--all", "--dry-run")
    assert planned["leftOut"] == {"no dead letter of ours (foreign)": len(HEADERS)}


async def test_a_missing_vendor_setting_is_our_fault(
    real_kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with outside(real_kafka, vendor=None) as (_bus, settings):
        async with running(settings, [with_access_key(0)]) as worker:
            await produce(settings, [("acct_0", event(0, 0))])
            await worker.settled(1)
            url = f"http://127.0.0.1:{worker.worker.http_port}/"
            async with aiohttp.ClientSession() as session, session.get(url) as reply:
                page = await reply.text()
            assert "<td data-h='what'>setting</td><td data-h='where'>vendor</td>" in page
            assert worker.worker.ledger.dead_lettered == 1
        [(_, _, headers)] = read_all(settings, settings.topics.dlq)
        assert headers["pushrail-error-code"] == "vendor"
        assert "pushrail-vendor" in headers["pushrail-error-message"]
        desk = Desk(tmp_path, settings)
        desk.put([with_access_key(0)])
        [row] = await desk.lines("dlq", "list")
        assert (row["reason"], row["fault"], row["code"]) == ("undecodable", "ours", "vendor")
        assert (await desk.lines("dlq", "list", "--fault", "producer")) == []
        cautions = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "setting_caveat" in line]
        assert [(line["level"], line["setting"]) for line in cautions] == [("warning", "vendor")]

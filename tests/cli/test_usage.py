"""``usage``: a month's deliveries, and whether the log reaches back to its beginning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.operations.times import now_ms
from pushrail_stream.operations.usage import parse_month, this_month
from pushrail_stream.settings.model import Settings
from tests.support.attempt_log import both, log_of, with_index
from tests.support.attempt_records import said
from tests.support.commands import Desk
from tests.support.workers import settings_for

pytestmark = pytest.mark.kafka
DAY_MS = 86_400_000


def tell(settings: Settings, *records: tuple[int, dict[str, Any]]) -> None:
    """Write attempts that were made and recorded then (epoch milliseconds), in partition 0, and keep them for ever."""
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    for_ever = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ConfigResource.Type.TOPIC, settings.topics.attempts, incremental_configs=[for_ever])
    for altered in admin.incremental_alter_configs([topic]).values():
        altered.result(30)
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    for at_ms, changes in records:
        value = json.dumps(said(0, **changes) | {"at": format_rfc3339(at_ms)}).encode()
        producer.produce(settings.topics.attempts, value, "dst", partition=0, timestamp=at_ms)
    assert producer.flush(60) == 0


async def test_a_months_deliveries_are_counted(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    now = now_ms()
    present, earlier = parse_month(this_month()), parse_month("2026-01")
    assert present is not None
    assert earlier is not None
    here = max(present.since_ms, now - 60_000)
    tell(
        settings,
        (here, {"entryBytes": 900}),
        (here, {"entryBytes": 200_000}),
        (here, {"entryBytes": 70_000, "customerExternalId": "acct_b", "destinationId": "dst_b"}),
        (here, {"entryBytes": 900, "status": "retrying", "code": "ThrottlingException"}),
        (here, {"status": "delivered"}),
        (present.since_ms - 1, {"entryBytes": 900}),
    )
    told = await desk.ask("usage", "--by", "customer")
    assert told["usage"] == [
        {"vendor": "acme", "customerExternalId": "acct_0", "deliveries": 3, "bytes": 200_900, "units": 5},
        {"vendor": "acme", "customerExternalId": "acct_b", "deliveries": 1, "bytes": 70_000, "units": 2},
    ]
    assert told["total"] == {"deliveries": 4, "bytes": 270_900, "units": 7}
    assert (told["month"], told["isOver"], told["isComplete"], told["withoutSize"]) == (this_month(), False, True, 1)
    by_destination = await desk.ask("usage", "--by", "destination", "--month", this_month())
    assert [(row["destinationId"], row["units"]) for row in by_destination["usage"]] == [("dst_0", 5), ("dst_b", 2)]
    table, remarks = await both(desk, "usage")
    assert table.splitlines()[0].split() == ["customer", "vendor", "deliveries", "bytes", "units"]
    assert table.splitlines()[-1] == f"{this_month()}: 4 deliveries, 270,900 bytes, 7 units of 64 KB"
    assert "1 records have no size" in remarks
    assert f"{this_month()} is not over yet" in remarks
    assert (await desk.ask("usage", "--month", "2026-01"))["usage"] == []


async def test_a_log_that_does_not_reach_back_is_told(real_kafka: str, tmp_path: Path) -> None:
    settings, desk = log_of(real_kafka, tmp_path)
    begin = parse_month(this_month())
    assert begin is not None
    tell(settings, (begin.since_ms - DAY_MS, {}), *[(begin.since_ms + 1, {"entryBytes": 1})] * 3)
    assert (await desk.ask("usage"))["isComplete"]
    with_index(desk, tmp_path / "index.sqlite")
    await desk.ask("attempts", "index", "--once", "--keep", "90")
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers, "log_level": 0})
    for removed in admin.delete_records([TopicPartition(settings.topics.attempts, 0, 2)]).values():
        removed.result(30)
    told = await desk.ask("usage")
    assert (told["isComplete"], told["total"]["deliveries"]) == (True, 3), "the index has what Kafka has removed"
    (tmp_path / "index.sqlite").unlink()
    told = await desk.ask("usage")
    assert (told["isComplete"], told["total"]["deliveries"]) == (False, 2)
    assert "may be incomplete" in (await both(desk, "usage"))[1]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--month", "2026-13"], "error: --month: must be a month such as 2026-11"),
        (["--month", "9998-01"], "error: --month: 9998-01 is yet to come"),
        (["--by", "bus"], "error: Invalid value for '--by'"),
    ],
)
async def test_wrong_usage_is_refused(words: list[str], why: str, tmp_path: Path) -> None:
    desk = Desk(tmp_path, settings_for("127.0.0.1:1", "http://127.0.0.1:1"))
    assert (await desk.run("usage", *words, exit_code=2)).startswith(why)

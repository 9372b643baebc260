"""``notices``: what workers wrote, for people and as CloudEvents."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Producer

from pushrail_stream.core.bus_status import MissingBus
from pushrail_stream.core.signals import BusMissing, OwnCredentialsFailed, Suspended
from pushrail_stream.observe.notices import Notices
from pushrail_stream.operations.times import now_ms
from tests.support.builders import destination
from tests.support.commands import Desk
from tests.support.workers import make_topics, settings_for

pytestmark = pytest.mark.kafka
BUS = destination()


async def test_notices_are_listed_and_filtered(real_kafka: str, tmp_path: Path) -> None:
    settings = settings_for(real_kafka, "http://127.0.0.1:1")
    make_topics(settings)
    producer = Producer({"bootstrap.servers": real_kafka, "log_level": 0})
    desk, ages = Desk(tmp_path, settings), iter([172_800_000, 2_000, 1_000])

    def append(key: bytes, *values: bytes) -> None:
        for value in values:
            producer.produce(settings.topics.notices, value, key)

    for signal in (
        Suspended(BUS, "AccessDenied", "no", 30, first=True), BusMissing(BUS, MissingBus(0, None), None),
        OwnCredentialsFailed("BaseCredentialsMissing", "none"),
    ):  # fmt: skip
        at_ms = now_ms() - next(ages)
        Notices(append, "g", "w", lambda: at_ms, lambda _id: BUS)(signal)  # noqa: B023 - called at once
    assert producer.flush(60) == 0

    head, *rows = (await desk.run("notices")).splitlines()
    assert head.split() == ["time", "kind", "destination", "details"]
    assert [row.split()[1] for row in rows] == ["bus.missing", "credentials.failing"]
    assert "code BaseCredentialsMissing, message none" in rows[1]
    told = await desk.lines("notices", "--since", "7d")
    assert [one["type"] for one in told] == [
        "pushrail.destination.suspended", "pushrail.bus.missing", "pushrail.credentials.failing",
    ]  # fmt: skip
    assert len(await desk.lines("notices", "--destination", BUS.id)) == 1
    assert [one["subject"] for one in await desk.lines("notices", "--since", "7d", "--kind", "destination")] == [BUS.id]

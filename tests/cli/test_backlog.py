"""The command `backlog list`: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path

import pytest
import yaml

from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.fleet import FleetTopics
from pushrail_stream.observe.worker_record import BacklogSummary
from pushrail_stream.operations.times import now_ms
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import Settings
from tests.support.builders import event
from tests.support.commands import Shell
from tests.support.kafka.cursors import commit_cursors
from tests.support.worker_records import worker_record
from tests.support.workers import PARTITIONS, make_topics, produce, settings_for

pytestmark = pytest.mark.usefixtures("one_destination")
HOUR_MS = 3_600_000


@pytest.fixture
def settings(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = settings_for(embedded_broker.bootstrap_servers, "http://127.0.0.1:1")
    make_topics(found, embedded_broker)
    path = Path("pushrail.yaml").absolute()
    path.write_text(yaml.safe_dump(found.model_dump(mode="json")))
    monkeypatch.setenv("PUSHRAIL_CONFIG", str(path))
    return found


def fall_behind(settings: Settings) -> int:
    """Two destinations are behind, and one worker lives. The time of the first event that waits."""
    asyncio.run(produce(settings, [("one", event(0, n)) for n in range(20)]))
    oldest_ms = now_ms() - 2 * HOUR_MS
    states = [
        CursorState(destination_id=name, since=0, next=next_, oldest_ms=oldest_ms, opened_ms=oldest_ms + 1_000, open=())
        for name, next_ in (("dst_acme", 0), ("dst_zulu", 0))
    ]
    for partition in range(PARTITIONS):
        commit_cursors(settings, partition, 0, states if partition == 0 else states[:1])
    state = worker_record("a", now_ms(), group=settings.kafka.group_id)
    told = json.loads(state.encode()) | {
        "backlogs": [{"id": "dst_acme", "cursors": 2, "since": 1, "waiting": 0, "unread": 20, "oldestAt": 1,
                      "perSecond": 12.5, "catchUpSecs": 750.0}]
    }  # fmt: skip
    assert BacklogSummary("dst_acme", 2, 1, 0, 20, 1, 12.5, 750.0).events == 20

    async def write() -> None:
        async with FleetTopics(checked_kafka(settings), settings.topics, "a") as topics:
            await topics.write_state(json.dumps(told).encode())

    asyncio.run(write())
    return oldest_ms


def test_no_backlog_is_no_failure(shell: Shell, settings: Settings) -> None:
    assert settings.kafka.group_id
    code, out, err = shell("backlog", "list")
    assert code == 0
    assert out.startswith("destination  events at most  oldest  behind since  partitions  per s  caught up in")
    assert "no destination is behind" in err
    assert shell("backlog", "list", "--json") == (0, "", "")


def test_it_shows_who_is_behind_by_how_much_and_for_how_long(shell: Shell, settings: Settings) -> None:
    fall_behind(settings)
    code, out, err = shell("backlog", "list")
    assert code == 0
    head, acme, zulu = out.splitlines()
    assert "caught up in" in head
    assert acme.split()[0] == "dst_acme"
    assert "2 h 0 min" in acme
    assert acme.endswith("12.5   12 min 30 s")
    assert zulu.split()[0] == "dst_zulu"
    assert "destinations behind: 2" in err
    assert "lag does not count them" in err


def test_programs_get_one_object_for_each_destination(shell: Shell, settings: Settings) -> None:
    fall_behind(settings)
    code, out, _ = shell("backlog", "list", "--destination", "dst_acme", "--json")
    assert code == 0
    [said] = [json.loads(line) for line in out.splitlines()]
    assert (said["destination"], said["partitions"], said["perSecond"], said["catchUpSecs"]) == (
        "dst_acme", list(range(PARTITIONS)), 12.5, 750.0,
    )  # fmt: skip
    assert (said["events"], said["waiting"], said["unread"]) == (20, 0, 20)
    assert said["oldest"] < said["since"]
    _, out, _ = shell("backlog", "list", "--output", "csv")
    assert [row[0] for row in csv.reader(out.splitlines())] == ["destination", "dst_acme", "dst_zulu"]


def test_it_fails_when_kafka_is_away(shell: Shell, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    code, _, err = shell("backlog", "list")
    assert settings.kafka.group_id
    assert (code, "error:" in err) == (1, True)

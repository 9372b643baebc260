"""The doctor's questions to Kafka, on both kinds of broker."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.fleet import FleetTopics
from pushrail_stream.operations.findings import Check, Finding, Installation, NotKnownError
from pushrail_stream.operations.kafka_checks import (
    check_backlogs,
    check_cluster,
    check_groups,
    check_rights,
    check_topics,
    check_workers,
)
from pushrail_stream.operations.times import now_ms
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import DeliverySettings, Settings
from pushrail_stream.settings.source import LoadedSettings
from tests.support.builders import event
from tests.support.kafka.cursors import commit_cursors
from tests.support.kafka.topics import create_topic
from tests.support.worker_records import worker_record
from tests.support.workers import make_topics, produce, settings_for

pytestmark = pytest.mark.kafka


def found(check: Check, settings: Settings) -> list[Finding]:
    return list(check(Installation(LoadedSettings(settings, None))))


def states(check: Check, settings: Settings) -> list[str]:
    return [finding.state for finding in found(check, settings)]


@pytest.fixture
def settings(real_kafka: str, tmp_path: Path) -> Settings:
    return settings_for(real_kafka, "http://127.0.0.1:1", registry={"path": str(tmp_path)})


def test_the_cluster_is_described(settings: Settings) -> None:
    [finding] = found(check_cluster, settings)
    assert finding.state == "ok"
    assert finding.found.startswith(f"reached at {settings.kafka.bootstrap_servers} by PLAINTEXT: cluster ")
    assert "; brokers: 1; Fetch up to version " in finding.found


def test_missing_topics_are_a_problem(settings: Settings) -> None:
    [finding] = found(check_topics, settings)
    assert (finding.state, finding.remedy) == ("problem", "`pushrail-stream topics create`")
    assert settings.topics.events in finding.found
    with pytest.raises(NotKnownError, match=f"topic {settings.topics.events} is missing"):
        found(check_groups, settings)


def test_backlogs_are_a_warning_when_half_of_their_time_is_over(
    embedded_broker: EmbeddedBroker, tmp_path: Path
) -> None:
    settings = settings_for(embedded_broker.bootstrap_servers, "http://x", registry={"path": str(tmp_path)})
    make_topics(settings, embedded_broker)
    [fine] = found(check_backlogs, settings)
    assert (fine.state, fine.found) == ("ok", "no destination is behind")
    young, old = now_ms() - 60_000, now_ms() - 13 * 3_600_000
    cursors = {
        name: CursorState(destination_id=name, since=0, next=0, to=10, oldest_ms=at_ms, opened_ms=at_ms)
        for name, at_ms in (("dst_young", young), *((f"dst_{number}", old) for number in range(7)))
    }
    commit_cursors(settings, 0, 0, [cursors["dst_young"]])
    [behind] = found(check_backlogs, settings)
    assert behind.state == "ok"
    assert behind.found.startswith("destinations behind: 1, by at most 10 events, which the lag does not count")
    commit_cursors(settings, 1, 0, list(cursors.values()))
    [behind, warning] = found(check_backlogs, settings)
    assert (behind.state, warning.state) == ("ok", "warning")
    assert "dst_0, dst_1, dst_2, dst_3, dst_4 and 2 more" in warning.found
    assert "from 1 d 0 h on (delivery.max_age_secs)" in warning.found
    assert "backlog list" in warning.remedy


def test_a_backlog_without_workers_is_a_problem(settings: Settings) -> None:
    make_topics(settings)
    behind = CursorState(destination_id="dst_a", since=0, next=0, to=9, oldest_ms=now_ms(), opened_ms=now_ms())
    commit_cursors(settings, 0, 0, [behind])
    assert states(check_backlogs, settings) == ["ok", "problem"]
    assert states(check_groups, settings) == ["warning", "warning", "ok"], "the group has no lag"


def test_topics_have_the_required_configuration(settings: Settings) -> None:
    make_topics(settings)
    assert states(check_topics, settings) == ["ok"]
    assert states(check_rights, settings) == ["ok"]


def test_a_weak_topic_is_a_problem_with_its_remedy(settings: Settings) -> None:
    create_topic(settings.kafka.bootstrap_servers, settings.topics.events, config={"cleanup.policy": "compact"})
    create_topic(settings.kafka.bootstrap_servers, settings.topics.dlq, config={"retention.ms": "1000"})
    make_topics(settings)
    findings = found(check_topics, settings)
    [problem] = [one for one in findings if one.state == "problem"]
    assert "cleanup.policy is compact, and must be delete" in problem.found
    assert "kafka-configs.sh" in problem.remedy
    warnings = [one.found for one in findings if one.state == "warning"]
    assert any(found.startswith(f"{settings.topics.dlq}: retention.ms is 1000") for found in warnings)
    assert findings[-1].found.endswith(" have the required configuration")


async def test_events_without_workers_are_a_problem(settings: Settings) -> None:
    make_topics(settings)
    idle = await asyncio.to_thread(found, check_groups, settings)
    group = settings.kafka.group_id
    assert [(one.state, one.found) for one in idle] == [
        ("warning", f"{group} has no members: no worker runs"),
        ("warning", f"{group}.retry has no members: no worker runs"),
        ("ok", "no events wait above the commits (backlogs are below them)"),
    ]
    await produce(settings, [("acct_0", event(0))])
    assert await asyncio.to_thread(states, check_groups, settings) == ["problem", "problem"]


async def test_a_partition_without_commits_is_a_problem(settings: Settings) -> None:
    """Kafka's own consumer stands for workers: it holds the partitions, and commits or does not."""
    settings = settings.model_copy(update={"delivery": DeliverySettings(hold_secs=0.5)})
    make_topics(settings)
    await produce(settings, [("acct_0", event(0, number)) for number in range(300)])
    name = {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": settings.kafka.group_id}
    member = Consumer(name | {"auto.offset.reset": "earliest", "enable.auto.commit": False, "log_level": 0})
    member.subscribe([settings.topics.events])
    while not member.assignment():
        await asyncio.to_thread(member.poll, 0.1)

    stuck = (await asyncio.to_thread(found, check_groups, settings))[-1]
    assert stuck.state == "problem"
    found_stuck = re.fullmatch(r"events that wait: 300; no commit within 2 s in partitions (\d)", stuck.found)
    assert found_stuck is not None

    settings = settings.model_copy(update={"delivery": DeliverySettings(hold_secs=60)})
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(asyncio.to_thread(found, check_groups, settings))
        committed = 0
        while not watch.done():
            await asyncio.wait([watch], timeout=0.1)
            committed = min(committed + 1, 299)
            member.commit(offsets=[TopicPartition(settings.topics.events, int(found_stuck[1]), committed)])
    goes_on = watch.result()[-1]
    assert (goes_on.state, goes_on.found.endswith("commits go on")) == ("ok", True)
    member.close()


def test_an_embedded_broker_does_not_tell(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    settings = settings_for(embedded_broker.bootstrap_servers, "http://127.0.0.1:1", registry={"path": str(tmp_path)})
    make_topics(settings, embedded_broker)
    assert states(check_cluster, settings) == ["ok"]
    assert states(check_topics, settings) == ["ok"], "there is nothing to check"
    assert states(check_rights, settings) == ["ok"]
    assert states(check_groups, settings) == ["unknown", "unknown", "ok"]


async def test_workers_are_alive_unready_or_lost(embedded_broker: EmbeddedBroker, tmp_path: Path) -> None:
    settings = settings_for(embedded_broker.bootstrap_servers, "http://127.0.0.1:1", registry={"path": str(tmp_path)})
    make_topics(settings, embedded_broker)
    assert await asyncio.to_thread(states, check_workers, settings) == ["warning"], "no worker at all"
    now, group = now_ms(), settings.kafka.group_id
    for state in (
        worker_record("good", now, group=group),
        worker_record("ahead", now + 7_260_000, group=group),
        worker_record("lost", now - 60_000, group=group),
        worker_record("other", now, group="other"),
        msgspec.structs.replace(worker_record("stuck", now, group=group), reasons=["kafka"]),
    ):
        async with FleetTopics(checked_kafka(settings), settings.topics, state.id) as link:
            await link.write_state(state.encode())
    ahead, lost, stuck, good, others = await asyncio.to_thread(found, check_workers, settings)
    assert ahead.found == "pushrail-stream ahead at host:1 is lost: its last state is from 2 h 0 min ahead"
    assert (lost.state, lost.found.split(":")[0]) == ("warning", "pushrail-stream lost at host")
    assert (stuck.state, stuck.found) == ("problem", "pushrail-stream stuck at host:1 is not ready: kafka")
    assert (good.state, good.found) == ("ok", "alive and ready: 1 (host:1)")
    assert (others.state, others.found) == ("ok", "workers of other groups on this Kafka: 1")

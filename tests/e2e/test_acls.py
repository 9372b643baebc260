"""The ACLs of `access kafka`: every program works with these rights on a real broker."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from pushrail_stream.core.record import Partition
from pushrail_stream.core.skips import Skip, skip_dead_letter, skip_mark
from pushrail_stream.kafka.access import Grant, Resource, grants
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.event_producer import KafkaEventProducer
from pushrail_stream.kafka.fleet import ask_workers
from pushrail_stream.kafka.replay_journal import ReplayJournal, read_marks
from pushrail_stream.kafka.topics import check_topics, plan_topics, topics_named, worker_topics
from pushrail_stream.ports.kafka import ProducerRecord, RecordMetadata
from pushrail_stream.sandbox.bus.faults import CallError, Match, Rule, Times
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event, with_access_key
from tests.support.commands import Desk
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.kafka.topics import create_topic, unique_name
from tests.support.workers import ends, make_topics, open_bus, produce, read_all, settings_for

pytestmark = pytest.mark.kafka
US: Final = "User:ANONYMOUS"
KINDS: Final[dict[Resource, ResourceType]] = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
FOR_THE_BROKER: Final = (AclOperation.CLUSTER_ACTION, AclOperation.ALTER, AclOperation.DESCRIBE)
"""The broker's own operations, and those with which this test changes the rules: no Create, no IdempotentWrite."""


def binding(kind: ResourceType, name: str, principal: str, operation: AclOperation) -> AclBinding:
    is_topic = kind in {ResourceType.TOPIC, ResourceType.BROKER}
    pattern = ResourcePatternType.LITERAL if is_topic else ResourcePatternType.PREFIXED
    return AclBinding(kind, name, pattern, principal, "*", operation, AclPermissionType.ALLOW)


class Rules:
    """The ACLs of a broker that allows everything on a resource without ACLs."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def allow_everything(self) -> None:
        anything: Any = None
        everything = AclBindingFilter(
            ResourceType.ANY,
            anything,
            ResourcePatternType.ANY,
            anything,
            anything,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        [done] = self._admin.delete_acls([everything]).values()
        done.result(20)

    def allow_only(self, settings: Settings, rows: Collection[Grant]) -> None:
        """These rights and nothing else on this installation; returns when the broker enforces it."""
        found = [
            binding(KINDS[row.resource], row.name, US, OPERATIONS[operation])
            for row in rows
            for operation in row.operations
        ]
        topics = [plan.name for plan in plan_topics(settings)]
        found += [binding(ResourceType.TOPIC, name, "User:nobody", AclOperation.ALL) for name in topics]
        for kind in (ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID):
            found.append(binding(kind, settings.kafka.group_id, "User:nobody", AclOperation.ALL))
        found += [binding(ResourceType.BROKER, "kafka-cluster", US, operation) for operation in FOR_THE_BROKER]
        sentinel = unique_name("sentinel")
        create_topic(self._bootstrap, sentinel)
        for done in self._admin.create_acls(found).values():
            done.result(20)
        last = binding(ResourceType.TOPIC, sentinel, "User:nobody", AclOperation.ALL)
        [done] = self._admin.create_acls([last]).values()
        done.result(20)
        while sentinel in self._admin.list_topics(timeout=20).topics:
            time.sleep(0.05)


@pytest.fixture
def rules(local_kafka_factory: LocalKafkaFactory) -> tuple[str, Rules]:
    kafka = local_kafka_factory(
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        }
    )
    return kafka.bootstrap_servers, Rules(kafka.bootstrap_servers)


async def installation(bootstrap: str, bus: FaultBus, home: Path) -> tuple[Settings, Desk]:
    """Topics, documents on their topic, and three events: one is delivered, one is retried, and one is no event."""
    settings = settings_for(
        bootstrap,
        bus.url,
        tiers=(1,),
        registry={"topic": True},
        audit={"enabled": True},
        delivery={"hold_secs": 1, "backoff_cap_secs": 0.3},
    )
    make_topics(settings)
    open_bus(bus, range(2))
    desk = Desk(home, settings)
    desk.put(with_access_key(number) for number in range(2))
    for number in range(2):
        await desk.run("destinations", "put", str(desk.file(f"dst_{number}")))
    await produce(settings, [("acct_0", event(0, 1)), ("acct_1", event(1, 2)), ("acct_0", b"{")])
    return settings, desk


async def test_services_need_only_the_listed_acls(rules: tuple[str, Rules], tmp_path: Path) -> None:
    bootstrap, acls = rules
    async with FaultBus.serve() as bus:
        settings, desk = await installation(bootstrap, bus, tmp_path)
        acls.allow_only(settings, grants(settings, ["workers"]))
        assert check_topics(checked_kafka(settings), worker_topics(settings)) == []
        failing = Match(operation="PutEvents", bus=bus_arn(1))
        bus.set_plan([Rule(CallError(503, "InternalException"), failing, Times(40))])  # beyond hold_secs
        async with desk.working() as log:
            await bus.wait_for_arrivals(2)
        warnings = [line for line in log if '"level": "warning"' in line]
        assert warnings
        assert {json.loads(line)["event"] for line in warnings} == {"first_start", "dead_lettered"}, warnings
        assert read_marks(checked_kafka(settings), settings.topics.replays) == {}, "orders of `topics skip`"

        acls.allow_everything()
        acls.allow_only(settings, grants(settings, ["ingest"]))
        options, topic = checked_kafka(settings), settings.topics.events
        assert check_topics(options, topics_named(settings, topic)) == []
        async with KafkaEventProducer.open(options, topic, 10) as producer:
            [position] = await producer.publish_all([ProducerRecord(b"acct_0", event(0, 3), ())])
        assert isinstance(position, RecordMetadata)

        acls.allow_everything()
        acls.allow_only(settings, grants(settings, ["producers"]))
        await produce(settings, [("acct_0", event(0, 4))])

        acls.allow_everything()
        assert len(read_all(settings, settings.topics.dlq)) == 1
        assert sum(ends(settings, next(iter(settings.topics.retry))).values()) > 0


async def test_commands_need_only_the_listed_acls(rules: tuple[str, Rules], tmp_path: Path) -> None:
    bootstrap, acls = rules
    async with FaultBus.serve() as bus:
        settings, desk = await installation(bootstrap, bus, tmp_path)
        async with desk.working():
            await bus.wait_for_arrivals(2)
        acls.allow_only(settings, grants(settings, ["commands"]))
        for words in (
            ("topics", "describe"),
            ("dlq", "list"),
            ("attempts", "--since", "1h"),
            ("check", "--since", "1h"),
            ("destinations", "list"),
        ):
            await desk.run(*words)
        desk.file("dst_0").write_text(desk.file("dst_0").read_text().replace('"enabled": true', '"enabled": false'))
        await desk.run("destinations", "put", str(desk.file("dst_0")), exit_code=1)

        acls.allow_everything()
        acls.allow_only(settings, grants(settings, ["commands", "audited"]))
        await desk.run("replay", "offsets", "--to", "latest")

        acls.allow_everything()
        acls.allow_only(settings, grants(settings, ["commands", "replays", "audited"]))
        await desk.run("replay", "dlq", "--all")
        await desk.run("replay", "events", "--since", "1h", "--all")

        acls.allow_everything()
        acls.allow_only(settings, grants(settings, ["commands", "requests", "audited"]))
        answers = ask_workers(checked_kafka(settings), settings.topics.control, b"{}")
        assert await asyncio.to_thread(lambda: next(filter(None, answers))) == [b"{}"]
        await desk.run("retry", "list")

        acls.allow_everything()
        acls.allow_only(settings, grants(settings, ["commands", "skips", "audited"]))
        order = Skip(Partition(settings.topics.events, 0), 0, 1, "unreadable", 0)
        journal = ReplayJournal(checked_kafka(settings), settings.topics.replays, role="skip")
        journal.write(settings.topics.dlq, [(None, None, skip_dead_letter(order).headers())], [skip_mark(order)])

        acls.allow_everything()
        acls.allow_only(settings, grants(settings, ["commands", "changes", "audited"]))
        await desk.run("destinations", "put", str(desk.file("dst_0")))

        acls.allow_everything()
        new = settings_for(bootstrap, bus.url)  # whose audit trail does not exist yet
        acls.allow_only(new, grants(new, ["commands", "creation", "audited"]))
        (tmp_path / "new").mkdir()
        await Desk(tmp_path / "new", new).run("topics", "create")

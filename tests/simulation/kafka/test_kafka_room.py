"""The product's Kafka room runs unchanged on the simulated cluster."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from pushrail_stream.core.record import NOT_UTF8, Partition
from pushrail_stream.errors import OperatorError, TopicRecreated
from pushrail_stream.kafka.cluster import describe_cluster, missing_rights
from pushrail_stream.kafka.groups import committed_by, members_of, move_group, plan_first_start, plan_shift
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.replay_journal import ReplayJournal, read_marks
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.kafka.topics import check_topics, create_topics, describe_topics, plan_topics
from pushrail_stream.kafka.unreadable import UnreadableBatch, find_unreadable
from pushrail_stream.settings.model import KafkaSettings, Settings
from tests.simulation.kafka.admin_client import SimAdminClient
from tests.simulation.kafka.client import bound_to
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.consumer import SimConsumer
from tests.simulation.kafka.groups import Coordinators
from tests.simulation.kafka.partition_log import NewRecord, PartitionLog
from tests.simulation.kafka.producer import SimProducer
from tests.simulation.scheduler import Scheduler
from tests.simulation.substitution import KafkaClients, simulated

KAFKA = KafkaSettings(bootstrap_servers="kafka-1:9092")
SETTINGS = Settings(vendor="acme", kafka=KAFKA)


def nowhere(_host: object, _factory: object, name: str, port: int) -> Any:
    raise ConnectionRefusedError(f"{name}:{port}")


class Stage:
    """A cluster with one topic of two partitions, and an operator's host."""

    def __init__(self) -> None:
        self.scheduler = Scheduler()
        self.cluster = Cluster(self.scheduler, random.Random(1))
        self.cluster.coordinators = Coordinators(self.cluster)
        self.cluster.create_topic("events", 2)
        self.log: PartitionLog = self.cluster.topics["events"].partitions[0]

    def fill(self, count: int, first: int = 0) -> None:
        self.log.append([NewRecord(b"k", f"{number}".encode(), (), number) for number in range(first, first + count)])

    def run(self, work: Callable[[], None], *after: tuple[float, Callable[[], object]]) -> None:
        """Run an operator's work; ``after`` some seconds the world does something."""
        done: list[bool] = []

        def main() -> None:
            work()
            done.append(True)

        kinds = (SimConsumer, SimProducer, SimAdminClient)
        clients = KafkaClients(*(bound_to(kind, self.cluster, self.scheduler) for kind in kinds))
        for secs, change in after:
            self.scheduler.call_later(secs, change)
        with simulated(self.scheduler, 1, kafka=clients, connect=nowhere):
            self.scheduler.host("operator").start(main)
            self.scheduler.run(self.scheduler.now + 600)
        assert done


def scanned(**options: Any) -> list[str]:
    with Scan(KAFKA, "events", **options) as scan:
        return [(record.value or b"").decode() for batch in scan for record in batch]


def test_a_scan_reads_a_topic_to_its_end() -> None:
    stage = Stage()
    stage.fill(50)
    stage.log.remove_before(45)

    def work() -> None:
        assert scanned() == ["45", "46", "47", "48", "49"]
        assert scanned(starts={0: 48}) == ["48", "49"]
        assert scanned(newest=1) == ["49"]

    stage.run(work)


def test_a_scan_passes_markers_and_aborted_records() -> None:
    stage = Stage()
    stage.log.append([NewRecord(b"k", b"a")], producer=(7, 0), sequence=0, is_transactional=True)
    stage.log.end_transaction((7, 0), is_committed=False)
    stage.fill(1)
    stage.log.append([NewRecord(b"k", b"b")], producer=(7, 0), sequence=1, is_transactional=True)
    stage.log.end_transaction((7, 0), is_committed=False)
    stage.run(lambda: compare(scanned(), ["0"]))


def compare(found: object, expected: object) -> None:
    assert found == expected


def test_a_scan_finds_the_first_record_of_a_time() -> None:
    stage = Stage()
    stage.log.append([NewRecord(b"k", b"old", (), 10), NewRecord(b"k", b"new", (), 900_000)])
    stage.run(lambda: compare(scanned(since_ms=800_000), ["new"]))


def test_a_scan_notices_that_its_topic_was_recreated() -> None:
    stage = Stage()
    stage.fill(10)

    def recreate() -> None:
        stage.cluster.delete_topic("events")
        stage.cluster.create_topic("events", 2)

    def work() -> None:
        with pytest.raises(TopicRecreated), Scan(KAFKA, "events", follow=True) as scan:
            for _ in scan:
                pass

    stage.run(work, (20.0, recreate))


def test_a_scan_steps_over_a_batch_that_cannot_be_read() -> None:
    stage = Stage()
    stage.fill(3)
    stage.log.append_unreadable(4, KafkaError._BAD_COMPRESSION)
    stage.fill(2, first=7)

    def work() -> None:
        assert find_unreadable(KAFKA, Partition("events", 0), 1) is None
        assert find_unreadable(KAFKA, Partition("events", 0), 3) == UnreadableBatch(3, 7)
        with Scan(KAFKA, "events") as scan:
            assert [record.offset for batch in scan for record in batch] == [0, 1, 2, 7, 8]
            assert scan.unreadable == [(Partition("events", 0), UnreadableBatch(3, 7))]

    stage.run(work)


def test_a_header_whose_name_is_not_utf8_keeps_its_value() -> None:
    stage = Stage()
    stage.log.append([NewRecord(b"k", b"v", ((b"\xff", b"1"), ("name", b"2")))])

    def work() -> None:
        with Scan(KAFKA, "events") as scan:
            [record] = [record for batch in scan for record in batch]
        assert record.headers == ((NOT_UTF8, b"1"), ("name", b"2"))

    stage.run(work)


def test_topics_are_created_and_checked() -> None:
    stage = Stage()
    plans = plan_topics(SETTINGS, 3)

    def work() -> None:
        assert reached_kafka(SETTINGS).bootstrap_servers == KAFKA.bootstrap_servers
        assert describe_cluster(KAFKA).brokers == 3
        made = create_topics(KAFKA, plans, None, dry_run=False)
        assert set(made.values()) == {"created"}
        assert check_topics(KAFKA, plans) == []
        stage.cluster.set_config(SETTINGS.topics.events, cleanup_policy="compact")
        with pytest.raises(OperatorError, match="cleanup"):
            check_topics(KAFKA, plans)
        found = describe_topics(KAFKA, plans)[SETTINGS.topics.events]
        assert found is not None
        assert (found.partitions, found.replication) == (3, 3)

    stage.run(work)


def test_rights_that_are_missing_are_named() -> None:
    stage = Stage()
    stage.cluster.acl.deny("topic", "events", "Read")
    stage.cluster.acl.deny("group", "group", "Read")

    def work() -> None:
        needed = {"events": frozenset({"Read", "Write"}), "nothing": frozenset({"Read"})}
        assert missing_rights(KAFKA, needed, ("group",)) == ["Read on topic events", "Read on group group"]

    stage.run(work)


def test_a_group_is_moved() -> None:
    stage = Stage()
    stage.fill(10)

    def work() -> None:
        assert len(plan_first_start(KAFKA, "group", ["events"])["events"]) == 2
        shifts = plan_shift(KAFKA, "group", "events", 4)
        assert [(shift.old, shift.new) for shift in shifts] == [(None, 4), (None, 0)]
        move_group(KAFKA, "group", "events", shifts)
        assert {number: commit.offset for number, commit in committed_by(KAFKA, "group", "events").items()} == {
            0: 4,
            1: 0,
        }
        assert members_of(KAFKA, "group") == []
        assert plan_first_start(KAFKA, "group", ["events"]) == {}

    stage.run(work)


def test_a_commit_above_the_end_of_its_log_does_not_count() -> None:
    """The log has lost its end, and new records take the offsets: a worker will read them."""
    stage = Stage()
    stage.fill(10)

    def work() -> None:
        move_group(KAFKA, "group", "events", plan_shift(KAFKA, "group", "events", 8))
        assert committed_by(KAFKA, "group", "events")[0].offset == 8
        stage.cluster.elect("events", 0, 2, 5)
        assert committed_by(KAFKA, "group", "events")[0].offset == 0

    stage.run(work)


def test_a_journal_writes_copies_and_marks_together() -> None:
    stage = Stage()
    stage.cluster.create_topic("marks", config={"cleanup.policy": "compact"})

    def work() -> None:
        older = ReplayJournal(KAFKA, "marks")
        older.write("events", [(b"k", b"a", (("h", b"v"),))], [("a", b"{}")])
        newer = ReplayJournal(KAFKA, "marks")
        with pytest.raises(OperatorError, match="another replay has been started meanwhile"):
            older.write("events", [(b"k", b"b", ())], [("b", b"{}")])
        newer.write("events", [(b"k", b"c", ())], [("c", b"{}")])
        assert scanned() == ["a", "c"]
        assert read_marks(KAFKA, "marks") == {"a": b"{}", "c": b"{}"}

    stage.run(work)


def test_a_cluster_out_of_reach_is_named_with_its_reason() -> None:
    stage = Stage()
    for number in stage.cluster.brokers:
        stage.cluster.stop_broker(number)

    def work() -> None:
        with pytest.raises(OperatorError, match=r"Kafka cannot be reached at kafka-1:9092: .*Connection refused"):
            reached_kafka(SETTINGS.model_copy())

    stage.run(work)

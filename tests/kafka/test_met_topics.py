"""A topic that is deleted and created again, as a consumer's clients meet it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pushrail_stream.core.commit import Committable, encode_metadata, topic_of
from pushrail_stream.core.record import NO_TOPIC_ID, Partition, TopicIdentity
from pushrail_stream.kafka import met_topics
from pushrail_stream.kafka.met_topics import MetTopics
from tests.support.samples import MIRROR, RECREATED, TOPIC

EVENTS = "pushrail.events"
NOWHERE = TOPIC._replace(topic_id=NO_TOPIC_ID)
P0, P1 = Partition(EVENTS, 0), Partition(EVENTS, 1)


class Consumer:
    """The topics of a consumer at any time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(met_topics, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.topics = MetTopics()
        self.topics.begin_client()

    def at(self, secs: float) -> MetTopics:
        self.now = 1_000.0 + secs
        return self.topics

    def named(self, *partitions: Partition) -> list[TopicIdentity | None]:
        """The topics that commits of the current topic name."""
        made = {partition: commit_of(self.topics.now.get(EVENTS)) for partition in partitions}
        honest = self.topics.honest(made)
        assert [commit.offset for commit in honest.values()] == [7] * len(partitions)
        return [topic_of(honest[partition]) for partition in partitions]


def commit_of(topic: TopicIdentity | None) -> Committable:
    return Committable(7, encode_metadata(7, [9], topic, 2))


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> Consumer:
    return Consumer(monkeypatch)


def test_commits_name_the_topic_that_is_there(consumer: Consumer) -> None:
    consumer.topics.assign({P0: None, P1: commit_of(TOPIC)}, {EVENTS: TOPIC})
    consumer.at(5).follow({EVENTS: TOPIC}, ())
    made = {P0: commit_of(TOPIC)}
    assert consumer.topics.honest(made) == made, "with its map"
    assert not consumer.at(100).is_outdated


def test_commits_name_no_topic_while_brokers_may_be_late(consumer: Consumer) -> None:
    consumer.topics.assign({P0: commit_of(TOPIC)}, {EVENTS: TOPIC})
    consumer.at(1).follow({EVENTS: TOPIC}, ())
    consumer.at(2).follow({EVENTS: RECREATED}, [P0])
    assert consumer.topics.is_outdated, "it has met the earlier topic"
    assert consumer.named(P0) == [NOWHERE]
    consumer.at(3).begin_client()
    consumer.topics.assign({P0: commit_of(TOPIC), P1: None}, {EVENTS: RECREATED})
    assert consumer.named(P0, P1) == [NOWHERE, NOWHERE], "its client may have met it too"
    assert consumer.topics.honest({P0: Committable(7, "")}) == {P0: Committable(7, "")}, "the broker takes no metadata"
    assert not consumer.at(31).is_outdated
    assert consumer.at(33).is_outdated
    consumer.topics.begin_client()
    consumer.topics.assign({P0: commit_of(TOPIC), P1: commit_of(NOWHERE)}, {EVENTS: RECREATED})
    assert consumer.named(P0, P1) == [RECREATED, RECREATED]
    assert not consumer.at(1_000).is_outdated


def test_a_partition_of_another_owner_that_knew_the_new_topic_keeps_its_commits(consumer: Consumer) -> None:
    consumer.topics.assign({P0: commit_of(TOPIC), P1: commit_of(RECREATED)}, {EVENTS: RECREATED})
    assert consumer.named(P0, P1) == [NOWHERE, RECREATED]
    consumer.topics.assign({P0: commit_of(RECREATED)}, {EVENTS: RECREATED})
    assert consumer.named(P0) == [RECREATED], "it was another worker's meanwhile"


def test_an_idle_partition_whose_commit_is_old_begins_anew_without_doubt(consumer: Consumer) -> None:
    """A worker that has known the new topic for long meets it."""
    consumer.topics.assign({P0: commit_of(RECREATED)}, {EVENTS: RECREATED})
    consumer.at(60).begin_client()
    consumer.topics.assign({P0: commit_of(RECREATED), P1: commit_of(TOPIC)}, {EVENTS: RECREATED})
    assert consumer.named(P0, P1) == [RECREATED, RECREATED]
    assert not consumer.at(200).is_outdated


def test_a_topic_whose_id_was_unknown_is_that_of_the_commits(consumer: Consumer) -> None:
    consumer.topics.assign({P0: commit_of(TOPIC)}, {})
    assert consumer.named(P0) == [None]
    consumer.at(2).follow({EVENTS: RECREATED}, [P0])
    assert consumer.named(P0) == [NOWHERE]


def test_a_client_that_reads_nothing_and_reports_no_error_is_replaced(consumer: Consumer) -> None:
    """It began amid the recreation, and the commits name no topic: nothing tells of the earlier one."""
    consumer.topics.assign({P0: Committable(5, ""), P1: Committable(5, "")}, {EVENTS: RECREATED})
    consumer.at(31).follow({EVENTS: RECREATED}, ())
    consumer.topics.note_unread(set())
    assert not consumer.topics.is_outdated
    consumer.topics.note_failure(P1)
    consumer.topics.note_unread({P1})
    assert not consumer.topics.is_outdated, "another client would fail too"
    consumer.topics.note_unread({P0, P1})
    assert consumer.topics.is_outdated
    consumer.topics.begin_client()
    assert not consumer.topics.is_outdated
    consumer.topics.note_unread({P1})
    assert consumer.topics.is_outdated, "the new client has reported nothing"


def test_a_topic_of_another_cluster_is_not_an_earlier_one(consumer: Consumer) -> None:
    consumer.topics.assign({P0: commit_of(MIRROR)}, {EVENTS: TOPIC})
    assert consumer.named(P0) == [TOPIC]
    assert not consumer.at(60).is_outdated

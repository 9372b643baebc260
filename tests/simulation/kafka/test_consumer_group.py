from __future__ import annotations

from confluent_kafka import KafkaError

from tests.simulation.kafka.assignor import Place
from tests.simulation.kafka.classic_member import Identity
from tests.simulation.kafka.consumer_group import LEAVE_EPOCH, PAUSE_EPOCH, Beat, ConsumerGroup, Timing
from tests.simulation.scheduler import Scheduler

SESSION_SECS = 45.0


class Client:
    """A member: what it believes."""

    def __init__(self, group: ConsumerGroup, name: str, instance_id: str | None = None) -> None:
        self.group = group
        self.name = name
        self.instance_id = instance_id
        self.epoch = 0
        self.owned: tuple[Place, ...] = ()
        self.told: tuple[Place, ...] = ()

    def beat(self, *, owned: tuple[Place, ...] | None = None, epoch: int | None = None) -> int | None:
        """One heartbeat; the error."""
        sent = self.epoch if epoch is None else epoch
        is_first = sent == 0
        answer = self.group.heartbeat(
            Beat(
                self.name,
                sent,
                self.instance_id,
                rebalance_secs=300.0 if is_first else None,
                topics=("events",) if is_first else None,
                owned=() if is_first else owned,
            )
        )
        if answer.error is None:
            self.epoch = answer.epoch
            if answer.partitions is not None:
                self.told = answer.partitions
        return answer.error

    def settle(self) -> None:
        """Follow what the coordinator tells, until nothing changes."""
        self.beat()
        while self.owned != self.told:
            self.owned = self.told
            self.beat(owned=self.owned)


class Groups:
    def __init__(self, partitions: int = 4) -> None:
        self.world = Scheduler()
        self.partitions = partitions
        self.group = ConsumerGroup(self.world, self._partitions_of, lambda: True, Timing())

    def _partitions_of(self, topic: str) -> list[Place]:
        return [(topic, number) for number in range(self.partitions)] if topic == "events" else []

    def client(self, name: str, instance_id: str | None = None) -> Client:
        return Client(self.group, name, instance_id)


def test_the_only_member_gets_everything() -> None:
    groups = Groups()
    alone = groups.client("a")
    alone.settle()
    assert len(alone.owned) == 4
    assert groups.group.state == "Stable"


def test_a_partition_is_given_back_before_it_is_given_away() -> None:
    groups = Groups()
    first, second = groups.client("a"), groups.client("b")
    first.settle()
    second.settle()
    assert second.owned == (), "the first one still has them all"
    assert groups.group.state == "Reconciling"
    epoch = first.epoch
    first.beat()
    assert len(first.told) == 2
    assert first.epoch == epoch, "the new epoch comes when they are given back"
    first.beat(owned=first.owned)
    assert first.epoch == epoch
    second.beat()
    assert second.told == ()
    first.owned = first.told
    first.beat(owned=first.owned)
    assert first.epoch == epoch + 1
    second.settle()
    assert sorted(first.owned + second.owned) == [("events", number) for number in range(4)]
    assert groups.group.state == "Stable"


def test_commits_need_the_present_epoch() -> None:
    groups = Groups()
    first = groups.client("a")
    assert groups.group.refuse_commit(Identity("")) is None
    first.settle()
    assert groups.group.refuse_commit(Identity("a", None, first.epoch)) is None
    assert groups.group.refuse_commit(Identity("a", None, first.epoch - 1)) == KafkaError.STALE_MEMBER_EPOCH
    assert groups.group.refuse_commit(Identity("z", None, first.epoch)) == KafkaError.UNKNOWN_MEMBER_ID
    assert groups.group.refuse_commit(Identity("")) == KafkaError.UNKNOWN_MEMBER_ID, "a tool, while there are members"


def test_a_silent_member_is_removed() -> None:
    groups = Groups()
    first, second = groups.client("a"), groups.client("b")
    first.settle()
    groups.world.run(groups.world.now + SESSION_SECS - 1)
    second.settle()
    groups.world.run(groups.world.now + 2)
    second.settle()
    assert len(second.owned) == 4
    assert first.beat() == KafkaError.UNKNOWN_MEMBER_ID


def test_a_member_that_gives_nothing_back_is_removed() -> None:
    groups = Groups()
    first, second = groups.client("a"), groups.client("b")
    first.settle()
    second.settle()
    for _ in range(31):  # the rebalance time-out is 300 s
        first.beat(owned=first.owned)
        second.beat()
        groups.world.run(groups.world.now + 10.0)
    assert first.beat() == KafkaError.UNKNOWN_MEMBER_ID
    second.settle()
    assert len(second.owned) == 4


def test_a_wrong_epoch_is_fenced() -> None:
    groups = Groups()
    first, second = groups.client("a"), groups.client("b")
    first.settle()
    before = first.epoch
    second.settle()
    first.settle()
    assert first.beat(epoch=before) is None, "the answer with the new epoch may have been lost"
    assert first.beat(epoch=before + 5) == KafkaError.FENCED_MEMBER_EPOCH
    groups.client("c").settle()
    first.settle()
    assert first.beat(epoch=before) == KafkaError.FENCED_MEMBER_EPOCH


def test_a_leaver_frees_its_partitions() -> None:
    groups = Groups()
    first, second = groups.client("a"), groups.client("b")
    for client in (first, second, first, second):
        client.settle()
    first.beat(epoch=LEAVE_EPOCH)
    second.settle()
    assert len(second.owned) == 4


def test_a_static_member_comes_back_to_its_partitions() -> None:
    groups = Groups()
    first, second = groups.client("a", "pod-1"), groups.client("b", "pod-2")
    for client in (first, second, first, second):
        client.settle()
    told = second.told
    assert groups.client("taken", "pod-1").beat() == KafkaError.UNRELEASED_INSTANCE_ID
    first.beat(epoch=PAUSE_EPOCH)
    again = groups.client("c", "pod-1")
    second.beat()
    again.settle()
    second.settle()
    assert again.owned == first.owned
    assert second.told == told


def test_new_partitions_come_with_the_next_heartbeat() -> None:
    groups = Groups(2)
    first = groups.client("a")
    first.settle()
    groups.partitions = 6
    first.settle()
    assert len(first.owned) == 6

from __future__ import annotations

import random

from confluent_kafka import KafkaError

from tests.simulation.kafka.classic_member import Identity, Joined, Joining
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.consumer_group import Beat
from tests.simulation.kafka.groups import ADMIN, Commit, Coordinators, GroupDescription
from tests.simulation.kafka.network import Later
from tests.simulation.kafka.test_classic_group import collected
from tests.simulation.scheduler import Scheduler

PLACE = ("events", 0)


class World:
    def __init__(self) -> None:
        self.world = Scheduler()
        self.cluster = Cluster(self.world, random.Random(1))
        self.cluster.coordinators = self.coordinators = Coordinators(self.cluster)
        self.coordinators.first_delay_secs = 0.0
        self.cluster.create_topic("events", 2)
        self.group = self.coordinators.of("g")

    def join(self) -> Identity:
        """A member of the classic group, which has the generation 1."""
        wish = Joining("", None, "worker", "host", 10.0, 300.0, ("events",))
        announced = self.group.join(wish)
        assert isinstance(announced, Joined)
        [joined] = collected(self.group.join(wish._replace(member_id=announced.member_id)))
        who = Identity(joined.member_id, None, joined.generation)
        answer = self.group.sync(who, {joined.member_id: (PLACE,)})
        assert not isinstance(answer, Later)
        return who

    def commit(self, offset: int = 5, who: Identity = ADMIN, metadata: str = "") -> int | None:
        return self.group.commit(who, {PLACE: Commit(offset, metadata, 0)})[PLACE]


def test_a_commit_is_kept_with_its_epoch_and_metadata() -> None:
    world = World()
    assert world.commit(7, metadata="map") is None
    assert world.group.fetch([PLACE, ("events", 1)]) == {PLACE: Commit(7, "map", 0), ("events", 1): None}
    assert world.group.fetch(None) == {PLACE: Commit(7, "map", 0)}


def test_metadata_may_be_too_large_for_one_partition() -> None:
    world = World()
    world.coordinators.max_metadata_bytes = 10
    answer = world.group.commit(ADMIN, {PLACE: Commit(1, "x" * 10), ("events", 1): Commit(2, "x" * 9)})
    assert answer == {PLACE: KafkaError.OFFSET_METADATA_TOO_LARGE, ("events", 1): None}
    assert world.group.commits == {("events", 1): Commit(2, "x" * 9)}


def test_offsets_are_altered_only_in_an_empty_group() -> None:
    world = World()
    who = world.join()
    assert world.group.alter({PLACE: Commit(1)}) == {PLACE: KafkaError.UNKNOWN_MEMBER_ID}
    assert world.commit(3, who) is None
    world.group.move({PLACE: Commit(2)})
    assert world.group.commits == {PLACE: Commit(2)}
    world.group.leave(who)
    assert world.group.alter({PLACE: Commit(1)}) == {PLACE: None}


def test_a_member_of_no_group_cannot_commit() -> None:
    world = World()
    assert world.commit(who=Identity("somebody", None, 3)) == KafkaError.ILLEGAL_GENERATION


def test_rights_are_asked_for() -> None:
    world = World()
    world.cluster.acl.deny("group", "g", "Read")
    assert world.commit() == KafkaError.GROUP_AUTHORIZATION_FAILED
    assert world.group.heartbeat(ADMIN) == (KafkaError.GROUP_AUTHORIZATION_FAILED,)
    world.cluster.acl.allow("group", "g", "Read")
    world.cluster.acl.deny("topic", "events", "Read")
    assert world.commit() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    world.cluster.acl.deny("group", "g", "Describe")
    assert world.group.fetch(None) == (KafkaError.GROUP_AUTHORIZATION_FAILED,)


def test_the_commits_of_a_deleted_topic_go() -> None:
    world = World()
    world.commit()
    world.cluster.delete_topic("events")
    assert world.group.commits == {}
    assert world.commit() == KafkaError.UNKNOWN_TOPIC_OR_PART
    world.cluster.create_topic("events", 1)
    assert world.group.fetch([PLACE]) == {PLACE: None}


def test_a_loading_coordinator_refuses_everything() -> None:
    world = World()
    world.commit()
    world.group.trouble = KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    assert world.commit() == KafkaError.COORDINATOR_LOAD_IN_PROGRESS
    assert world.group.fetch(None) == (KafkaError.COORDINATOR_LOAD_IN_PROGRESS,)
    world.group.trouble = None
    assert world.group.fetch(None) == {PLACE: Commit(5, "", 0)}


def test_a_new_coordinator_loads_and_knows_the_members() -> None:
    world = World()
    who = world.join()
    world.cluster.load_secs = 3.0
    world.cluster.move_coordinator("g")
    assert world.group.heartbeat(who) == (KafkaError.COORDINATOR_LOAD_IN_PROGRESS,)
    world.world.run(world.world.now + 4.0)
    assert world.group.heartbeat(who) == (None,)


def test_a_group_is_described() -> None:
    world = World()
    described = world.group.describe()
    assert isinstance(described, GroupDescription)
    assert described.state == "Dead"
    world.commit()
    who = world.join()
    described = world.group.describe()
    assert isinstance(described, GroupDescription)
    assert (described.state, described.protocol) == ("Stable", "classic")
    [member] = described.members
    assert (member.member_id, member.client_id, member.partitions) == (who.member_id, "worker", (PLACE,))


def test_both_protocols_do_not_mix() -> None:
    world = World()
    who = world.join()
    assert world.group.consumer_heartbeat(Beat("m", 0, topics=("events",))).error == KafkaError.GROUP_ID_NOT_FOUND
    world.group.leave(who)
    answer = world.group.consumer_heartbeat(Beat("m", 0, topics=("events",), owned=()))
    assert answer.error is None
    assert answer.partitions == (("events", 0), ("events", 1))
    refused = world.group.join(Joining("", None, "worker", "host", 10.0, 300.0, ("events",)))
    assert refused == Joined(error=KafkaError.INCONSISTENT_GROUP_PROTOCOL)

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from tests.simulation.kafka.classic_group import ClassicGroup
from tests.simulation.kafka.classic_member import Identity, Joined, Joining, State, Synced
from tests.simulation.kafka.network import Later
from tests.simulation.scheduler import Scheduler

SESSION_SECS = 10.0
POLL_SECS = 300.0


class Members:
    """Clients of one group, and the answers that they got."""

    def __init__(self, first_delay_secs: float = 0.0) -> None:
        self.world = Scheduler()
        self.is_here = True
        self.made = 0
        self.group = ClassicGroup(self.world, self._new_id, lambda: self.is_here, first_delay_secs)

    def _new_id(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}-{self.made}"

    def wish(self, member_id: str = "", instance_id: str | None = None, owned: int = 0) -> Joining:
        places = tuple(("events", number) for number in range(owned))
        return Joining(member_id, instance_id, "worker", "host", SESSION_SECS, POLL_SECS, ("events",), places)

    def join(self, member_id: str = "", instance_id: str | None = None, owned: int = 0) -> list[Joined]:
        """Join, in two steps where the coordinator wants it; the list gets the answer when it comes."""
        answers = collected(self.group.join(self.wish(member_id, instance_id, owned)))
        if answers and answers[0].error == KafkaError.MEMBER_ID_REQUIRED:
            return collected(self.group.join(self.wish(answers[0].member_id, instance_id, owned)))
        return answers

    def sync(self, joined: Joined, assignment: dict[str, tuple[tuple[str, int], ...]] | None = None) -> list[Synced]:
        return collected(self.group.sync(Identity(joined.member_id, None, joined.generation), assignment))

    def pair(self) -> tuple[Joined, Joined]:
        """Two members in a stable group."""
        [first] = self.join()
        self.sync(first, {first.member_id: (("events", 0), ("events", 1))})
        waiting = self.join()
        [first] = self.join(first.member_id, owned=2)
        [second] = waiting
        assert first.members.keys() == {first.member_id, second.member_id}
        self.sync(second)
        self.sync(first, {first.member_id: (("events", 0),), second.member_id: (("events", 1),)})
        assert self.group.state == State.STABLE
        return first, second


def collected(answer: Any) -> list[Any]:
    got: list[Any] = []
    if isinstance(answer, Later):
        answer.when_given(got.append)
    else:
        got.append(answer)
    return got


def who(joined: Joined) -> Identity:
    return Identity(joined.member_id, None, joined.generation)


def test_a_new_member_is_given_an_id_first() -> None:
    members = Members()
    answer = members.group.join(members.wish())
    assert isinstance(answer, Joined)
    assert answer.error == KafkaError.MEMBER_ID_REQUIRED
    assert not members.group.members
    [joined] = collected(members.group.join(members.wish(answer.member_id)))
    assert (joined.generation, joined.leader) == (1, answer.member_id)


def test_a_join_waits_for_the_other_members() -> None:
    members = Members()
    [first] = members.join()
    members.sync(first, {})
    newcomer = members.join()
    assert newcomer == []
    assert members.group.heartbeat(who(first)) == KafkaError.REBALANCE_IN_PROGRESS
    [again] = members.join(first.member_id)
    assert [again.generation, newcomer[0].generation] == [2, 2]
    assert len(again.members) == 2
    assert newcomer[0].members == {}, "only the leader gets them"


def test_the_first_round_waits_for_others_that_start() -> None:
    members = Members(first_delay_secs=3.0)
    answers = [members.join(), members.join()]
    members.world.run(members.world.now + 2.9)
    assert answers == [[], []]
    members.world.run(members.world.now + 0.2)
    assert [len(answer) for answer in answers] == [1, 1]


def test_syncs_wait_for_the_leader() -> None:
    members = Members()
    first, second = members.pair()
    assert members.group.members[second.member_id].partitions == (("events", 1),)
    assert members.sync(second) == [Synced((("events", 1),))]
    assert members.group.heartbeat(who(first)) is None


def test_an_older_generation_is_refused() -> None:
    members = Members()
    first, _ = members.pair()
    old = Identity(first.member_id, None, first.generation - 1)
    assert members.group.heartbeat(old) == KafkaError.ILLEGAL_GENERATION
    assert members.group.refuse_commit(old) == KafkaError.ILLEGAL_GENERATION
    assert members.group.refuse_commit(who(first)) is None


def test_a_silent_member_is_removed() -> None:
    members = Members()
    first, second = members.pair()
    for _ in range(3):
        members.world.run(members.world.now + SESSION_SECS / 2)
        error = members.group.heartbeat(who(first))
    assert error == KafkaError.REBALANCE_IN_PROGRESS
    assert list(members.group.members) == [first.member_id]
    assert members.group.heartbeat(who(second)) == KafkaError.UNKNOWN_MEMBER_ID


def test_a_commit_keeps_the_session() -> None:
    members = Members()
    first, second = members.pair()
    for _ in range(4):
        members.world.run(members.world.now + SESSION_SECS / 2)
        assert members.group.refuse_commit(who(first)) is None
        assert members.group.refuse_commit(who(second)) is None


def test_a_member_that_does_not_rejoin_is_left_out() -> None:
    members = Members()
    first, second = members.pair()
    members.join()
    waiting = members.join(first.member_id, owned=1)
    for _ in range(int(POLL_SECS / SESSION_SECS * 2) + 1):  # the second one's heartbeats go on, and it never joins
        members.world.run(members.world.now + SESSION_SECS / 2)
        members.group.heartbeat(who(second))
    [joined] = waiting
    assert joined.generation == first.generation + 1
    assert second.member_id not in members.group.members


def test_commits_wait_for_the_end_of_a_round() -> None:
    members = Members()
    first, _ = members.pair()
    members.join()
    assert members.group.refuse_commit(who(first)) is None, "members may commit until they have joined"
    members.group.leave(Identity(list(members.group.members)[1]))
    [joined] = members.join(first.member_id, owned=1)
    assert members.group.refuse_commit(who(joined)) == KafkaError.REBALANCE_IN_PROGRESS


def test_a_tool_commits_only_while_there_is_no_member() -> None:
    members = Members()
    assert members.group.refuse_commit(Identity("")) is None
    first, second = members.pair()
    assert members.group.refuse_commit(Identity("")) == KafkaError.UNKNOWN_MEMBER_ID
    for member in (first, second):
        assert members.group.leave(Identity(member.member_id)) is None
    assert members.group.state == State.EMPTY
    assert members.group.refuse_commit(Identity("")) is None


def test_a_static_member_keeps_its_partitions() -> None:
    members = Members()
    [first] = members.join(instance_id="pod-1")
    members.sync(first, {first.member_id: (("events", 0),)})
    [again] = members.join(instance_id="pod-1")
    assert again.member_id != first.member_id
    assert again.generation == first.generation, "nobody joins again"
    assert members.sync(again) == [Synced((("events", 0),))]
    fenced = members.group.heartbeat(Identity(first.member_id, "pod-1", first.generation))
    assert fenced == KafkaError.FENCED_INSTANCE_ID


def test_a_name_that_is_taken_ends_the_former_join() -> None:
    members = Members(first_delay_secs=3.0)
    first = members.join(instance_id="pod-1")
    second = members.join(instance_id="pod-1")
    assert [answer.error for answer in first] == [KafkaError.FENCED_INSTANCE_ID]
    members.world.run(members.world.now + 4.0)
    assert second[0].error is None


@pytest.mark.parametrize("joins", [True, False])
def test_a_new_coordinator_knows_the_last_complete_round(*, joins: bool) -> None:
    members = Members()
    first, second = members.pair()
    waiting = members.join() if joins else []
    members.group.restart()
    assert [answer.error for answer in waiting] == [KafkaError.NOT_COORDINATOR] * joins
    assert list(members.group.members) == [first.member_id, second.member_id]
    assert members.group.heartbeat(who(first)) is None


def test_a_new_coordinator_begins_a_round_for_a_member_that_has_given_partitions_up() -> None:
    members = Members()
    first, second = members.pair()
    joins = [members.join(second.member_id, owned=1), members.join(first.member_id, owned=1)]
    ([second], [first]) = joins
    members.sync(second)
    members.sync(first, {first.member_id: (("events", 0),), second.member_id: ()})
    waiting = members.join(second.member_id)
    members.group.restart()
    assert [answer.error for answer in waiting] == [KafkaError.NOT_COORDINATOR]
    assert members.join(second.member_id) == [], "it waits for the others in a new round"
    assert members.group.state == State.PREPARING


def test_silence_counts_only_while_the_coordinator_runs() -> None:
    members = Members()
    first, second = members.pair()
    members.is_here = False
    members.world.run(members.world.now + 10 * SESSION_SECS)
    members.is_here = True
    members.world.run(members.world.now + SESSION_SECS / 2)
    assert list(members.group.members) == [first.member_id, second.member_id]
    members.world.run(members.world.now + 2 * SESSION_SECS)
    assert list(members.group.members) == []

"""Members come and go: what each is told, in order."""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import TopicPartition

from tests.simulation.parity.clients import Member, group_properties, moves_of, write
from tests.simulation.parity.kit import Kit, attempt, places
from tests.simulation.parity.stories.commits import commit, committed, joined
from tests.simulation.parity.stories.registry import story


def _settled(kit: Kit, topic: str, *members: Member) -> None:
    """Wait until members own all four partitions, evenly, and nothing changes."""
    share = 4 // len(members)
    kit.until(lambda: all(member.has(share) for member in members), *members)
    assert sorted(n for member in members for n in member.numbers()) == [0, 1, 2, 3], topic
    kit.meanwhile(1.5, *members)


@story(groups=True)
def a_member_joins_and_leaves(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=4), kit.unique("group")
    one = joined(kit, group, topic, 4)
    two = Member(kit, group, topic)
    _settled(kit, topic, one, two)
    kit.note("joined", [one.moves, two.moves])
    kit.note("the one that stays is told of nothing new", "assign 0" in one.diary)
    kit.note("each commits", [commit(m, topic, 1, number=m.numbers()[0]) for m in (one, two)] != [])
    two.close()
    _settled(kit, topic, one)
    kit.note("left", [one.moves, two.moves])
    kit.note("errors", [one.errors, two.errors, one.events, two.events])
    one.close()
    kit.note("closed", one.moves)


@story(groups=True)
def a_member_is_killed(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=4), kit.unique("group")
    one = joined(kit, group, topic, 4)
    other = kit.start_elsewhere(group_properties(kit, group), topic)
    _owns_two(kit, one)
    kit.note("joined", one.moves)
    other.kill()
    began = kit.now()
    _settled(kit, topic, one)
    kit.note("killed", one.moves)
    kit.note("it took a session", kit.now() - began > 1.5)
    one.close()


@story(groups=True)
def commits_are_made_in_the_callback(kit: Kit) -> None:
    """While partitions are revoked, as the engine does it: for another member, and at the end."""
    topic, group = kit.new_topic(partitions=4), kit.unique("group")
    one = joined(kit, group, topic, 4)
    outcomes: list[object] = []

    def at_revoke(partitions: Sequence[TopicPartition]) -> None:
        offsets = [TopicPartition(topic, p.partition, 7, "last") for p in partitions]
        answer = attempt(lambda: places(one.consumer.commit(offsets=offsets, asynchronous=False)))
        outcomes.append(sorted(answer.values()) if isinstance(answer, dict) else answer)

    one.at_revoke = at_revoke
    two = Member(kit, group, topic)
    _settled(kit, topic, one, two)
    kit.note("for another member", outcomes)
    kit.note("the other finds", [committed(two, topic, number) for number in two.numbers()])
    kit.note("kept ones", [committed(one, topic, number)[0] for number in one.numbers()])
    outcomes.clear()
    one.close()
    kit.note("at the end", outcomes)
    _settled(kit, topic, two)
    kit.note("all", [committed(two, topic, number)[0] for number in range(4)])
    two.close()


@story(groups=True)
def commits_during_a_rebalance(kit: Kit) -> None:
    """Another member has joined, and this one has not polled since: it does not know yet."""
    topic, group = kit.new_topic(partitions=4), kit.unique("group")
    one = joined(kit, group, topic, 4)
    two = Member(kit, group, topic)
    kit.meanwhile(2.5, two)
    kit.note("not polled", [commit(one, topic, 1, number=number) for number in range(4)])
    _settled(kit, topic, one, two)
    kit.note("own one", [*commit(one, topic, 2, number=one.numbers()[0]).values()])
    kit.note("one of the other", [*commit(one, topic, 3, number=two.numbers()[0]).values()])
    kit.note("it is", committed(two, topic, two.numbers()[0])[0])
    one.close()
    two.close()


@story(groups=True)
def a_member_is_frozen(kit: Kit) -> None:
    """Longer than a session: its partitions are another member's meanwhile, and it learns that only afterwards."""
    topic, group = kit.new_topic(partitions=4), kit.unique("group")
    one = joined(kit, group, topic, 4)
    other = kit.start_elsewhere(group_properties(kit, group), topic)
    _owns_two(kit, one)
    other.freeze()
    _settled(kit, topic, one)
    kit.note("frozen", one.moves)
    other.thaw()
    _owns_two(kit, one)
    kit.note("thawed", one.moves)
    other.kill()
    kit.note("the frozen one", moves_of(other.diary()))
    one.close()


def _owns_two(kit: Kit, one: Member) -> None:
    kit.until(lambda: one.has(2), one)
    kit.meanwhile(1.5, one)


@story(groups=True)
def a_static_member_restarts(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=4), kit.unique("group")
    one = joined(kit, group, topic, 4, group_instance_id="one")
    two = Member(kit, group, topic, group_instance_id="two")
    _settled(kit, topic, one, two)
    before = two.numbers()
    two.close()
    kit.meanwhile(0.5, one)
    again = Member(kit, group, topic, group_instance_id="two")
    _settled(kit, topic, one, again)
    kit.note("first", one.moves)
    kit.note("second", two.moves)
    kit.note("again", [again.moves, again.numbers() == before])
    twin = Member(kit, group, topic, group_instance_id="two")
    kit.meanwhile(3.0, one, again, twin)
    kit.note("the older twin", [again.moves, again.errors, again.events])
    kit.note("the younger twin", [twin.moves, twin.errors, twin.events])
    kit.note("the older commits", commit(again, topic, 1, number=before[0]))
    again.close()
    twin.close()
    one.close()


@story(groups=True)
def a_static_member_stays_away(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=4), kit.unique("group")
    one = joined(kit, group, topic, 4, group_instance_id="one")
    two = Member(kit, group, topic, group_instance_id="two")
    _settled(kit, topic, one, two)
    two.close()
    kit.note("right after", one.numbers() != [0, 1, 2, 3])
    _settled(kit, topic, one)
    kit.note("a session later", one.moves)
    one.close()


@story(groups=True)
def polls_come_too_late(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=2), kit.unique("group")
    write(kit, topic, "a")
    member = joined(kit, group, topic, 2, max_poll_interval_ms=3_000)
    kit.until(lambda: member.got, member)
    kit.note("in time", commit(member, topic, 1))
    kit.sleep(5.0)
    kit.note("late commit", commit(member, topic, 1))
    kit.note("a late position", member.position(topic))
    kit.until(lambda: len([line for line in member.diary if line.startswith("assign")]) > 1, member)
    kit.until(lambda: member.has(2), member)
    kit.note("diary", member.moves)
    kit.note("errors", [member.errors, member.events])
    kit.note("commit again", [commit(member, topic, 1), committed(member, topic)])
    member.close()


@story(groups=True)
def a_late_member_loses_to_another(kit: Kit) -> None:
    topic, group = kit.new_topic(partitions=2), kit.unique("group")
    write(kit, topic, "a")
    late = joined(kit, group, topic, 2, max_poll_interval_ms=3_000)
    kit.until(lambda: late.got, late)
    other = Member(kit, group, topic)
    kit.until(lambda: other.has(2) and other.got, other)
    kit.note("the other reads", [other.got, commit(other, topic, 1)])
    kit.note("late commit", attempt(lambda: commit(late, topic, 0)))
    kit.note("read back", committed(other, topic)[0])
    kit.until(lambda: late.has(1) and other.has(1), late, other)
    kit.note("late", [late.moves, late.errors])
    kit.note("other", other.moves)
    other.close()
    late.close()


@story(groups=True)
def two_topics_one_missing(kit: Kit) -> None:
    topic, missing = kit.new_topic(partitions=2), kit.unique("missing")
    member = Member(kit, kit.unique("group"), topic, missing)
    kit.until(lambda: member.has(2), member)
    kit.meanwhile(2.5, member)
    kit.note("errors", [sorted(member.errors), sorted(member.events)])
    kit.note("diary", member.moves)
    kit.create_again(missing, 2)
    kit.until(lambda: member.has(4), member)
    kit.note("created", member.moves)
    member.close()

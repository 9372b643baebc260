"""A group of the classic protocol, as its coordinator keeps it: join barrier, generations, sessions, static members.

The coordinator does not assign: the leader, a member, does. Kafka's documentation describes the requests (JoinGroup,
SyncGroup, Heartbeat, LeaveGroup); KIP-345 describes static members and KIP-394 the two steps of a first join.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from confluent_kafka import KafkaError

from tests.simulation.kafka.classic_member import Assignment, Identity, Joined, Joining, Member, Record, State, Synced
from tests.simulation.kafka.network import Later
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Scheduler, Timer


@final
class ClassicGroup:
    """The members of one group, and the rounds in which they share the partitions out."""

    def __init__(
        self, world: Scheduler, new_id: Callable[[str], str], is_here: Callable[[], bool], first_delay_secs: float
    ) -> None:
        """``is_here``: whether the coordinator runs. ``first_delay_secs``: ``group.initial.rebalance.delay.ms``."""
        self._world = world
        self._new_id = new_id
        self._is_here = is_here
        self._first_delay_secs = first_delay_secs
        self.state = State.EMPTY
        self.generation = 0
        self.members: dict[str, Member] = {}
        self._static: dict[str, str] = {}
        """The member of each ``group.instance.id``."""
        self._announced: dict[str, Timer] = {}
        """Members that were given an id and have not used it yet."""
        self._leader = ""
        self._round: Timer | None = None
        """The end of the longest wait of the present round."""
        self._is_delayed = False
        """Whether a new group still waits for members that are starting at the same time."""
        self._record = Record(0, {})

    # Requests.

    def join(self, wish: Joining) -> Joined | Later:
        """Answer a JoinGroup."""
        if not wish.member_id:
            return self._join_first(wish)
        if wish.member_id in self._announced:
            self._announced.pop(wish.member_id).cancel()
            return self._add(wish.member_id, wish)
        member = self.members.get(wish.member_id)
        if (error := self._unknown(Identity(wish.member_id, wish.instance_id))) is not None or member is None:
            return Joined(error=error)
        is_changed = (wish.topics, wish.owned) != (member.wish.topics, member.wish.owned)
        begins_round = is_changed or (self.state == State.STABLE and member.member_id == self._leader)
        member.wish = wish
        if self.state == State.PREPARING:
            return self._wait_for_others(member)
        if begins_round:
            self._begin_round(delay_secs=0.0)
            return self._wait_for_others(member)
        self._keep_alive(member)
        return self._joined(member)

    def sync(self, who: Identity, assignment: Assignment | None) -> Synced | Later:
        """Answer a SyncGroup. ``assignment``: the leader's."""
        if (error := self._refusal(who)) is not None:
            return Synced(error=error)
        member = self.members[who.member_id]
        if self.state == State.PREPARING:
            return Synced(error=KafkaError.REBALANCE_IN_PROGRESS)
        if self.state == State.STABLE:
            self._keep_alive(member)
            return Synced(member.partitions)
        member.sync = Later()
        if who.member_id == self._leader and assignment is not None:
            self._settle(assignment)
            return Synced(member.partitions)
        return member.sync

    def heartbeat(self, who: Identity) -> ErrorCode | None:
        """Answer a Heartbeat with an error or nothing."""
        if (error := self._refusal(who)) is not None:
            return error
        self._keep_alive(self.members[who.member_id])
        return KafkaError.REBALANCE_IN_PROGRESS if self.state == State.PREPARING else None

    def leave(self, who: Identity) -> ErrorCode | None:
        """Answer a LeaveGroup with an error or nothing."""
        if who.member_id in self._announced:
            self._announced.pop(who.member_id).cancel()
            self._end_round_if_complete()
            return None
        if (error := self._unknown(who)) is not None:
            return error
        self._remove(self.members[who.member_id])
        return None

    def refuse_commit(self, who: Identity) -> ErrorCode | None:
        """The reason to refuse a commit."""
        if who.generation < 0 and self.state == State.EMPTY:
            return None
        if who.generation < 0 and not who.member_id and who.instance_id is None:
            return KafkaError.UNKNOWN_MEMBER_ID
        if (error := self._refusal(who)) is not None:
            return error
        if self.state == State.COMPLETING:
            return KafkaError.REBALANCE_IN_PROGRESS
        self._keep_alive(self.members[who.member_id])
        return None

    def restart(self) -> None:
        """Another broker takes over: it knows the last complete round, and nothing of what came later."""
        for timer in self._announced.values():
            timer.cancel()
        self._announced.clear()
        self._end_wait()
        for member in self.members.values():
            member.dismiss(KafkaError.NOT_COORDINATOR)
        self.generation, self.members = self._record.generation, self._record.members()
        self._static = {m.wish.instance_id: name for name, m in self.members.items() if m.wish.instance_id is not None}
        if self._leader not in self.members:
            self._leader = next(iter(self.members), "")
        for member in self.members.values():
            self._keep_alive(member)
        self.state = State.STABLE if self.members else State.EMPTY

    # Members.

    def _join_first(self, wish: Joining) -> Joined | Later:
        if wish.instance_id is None:
            member_id = self._new_id(wish.client_id)
            self._announced[member_id] = self._world.call_later(wish.session_secs, self._forget_announced, member_id)
            return Joined(member_id, error=KafkaError.MEMBER_ID_REQUIRED)
        member_id = self._new_id(wish.instance_id)
        before = self.members.get(self._static.get(wish.instance_id, ""))
        if before is None:
            return self._add(member_id, wish)
        return self._replace(before, member_id, wish)

    def _replace(self, before: Member, member_id: str, wish: Joining) -> Joined | Later:
        """A static member has started again. It gets the partitions that it had."""
        before.dismiss(KafkaError.FENCED_INSTANCE_ID)
        member = Member(member_id, wish)
        member.partitions = before.partitions
        self.members = {
            (member_id if known is before else name): (member if known is before else known)
            for name, known in self.members.items()
        }
        self._static[wish.instance_id or ""] = member_id
        if self._leader == before.member_id:
            self._leader = member_id
        if self.state == State.STABLE and wish.topics == before.wish.topics:
            self._keep_alive(member)
            self._write_down()
            return Joined(member_id, self.generation, leader=before.member_id)
        if self.state != State.PREPARING:
            self._begin_round(delay_secs=0.0)
        return self._wait_for_others(member)

    def _add(self, member_id: str, wish: Joining) -> Later:
        member = self.members[member_id] = Member(member_id, wish)
        if wish.instance_id is not None:
            self._static[wish.instance_id] = member_id
        if self.state != State.PREPARING:
            self._begin_round(delay_secs=self._first_delay_secs if self.state == State.EMPTY else 0.0)
        return self._wait_for_others(member)

    def _remove(self, member: Member) -> None:
        member.dismiss(KafkaError.UNKNOWN_MEMBER_ID)
        self._forget(member)
        if self.state == State.PREPARING:
            self._end_round_if_complete()
        else:
            self._begin_round(delay_secs=0.0)

    def _forget(self, member: Member) -> None:
        del self.members[member.member_id]
        if member.wish.instance_id is not None:
            self._static.pop(member.wish.instance_id, None)
        if self._leader == member.member_id:
            self._leader = next(iter(self.members), "")

    def _forget_announced(self, member_id: str) -> None:
        if self._announced.pop(member_id, None) is not None:
            self._end_round_if_complete()

    def _keep_alive(self, member: Member) -> None:
        if member.session is not None:
            member.session.cancel()
        member.session = self._world.call_later(member.wish.session_secs, self._expire, member)

    def _expire(self, member: Member) -> None:
        if self.members.get(member.member_id) is not member or member.is_waiting:
            return
        if self._is_here():
            self._remove(member)
        else:
            self._keep_alive(member)

    # Rounds.

    def _begin_round(self, *, delay_secs: float) -> None:
        """All members must join again. The first member of a group waits for others that are starting too."""
        for member in self.members.values():
            if member.sync is not None:
                member.sync.give(Synced(error=KafkaError.REBALANCE_IN_PROGRESS))
                member.sync = None
                self._keep_alive(member)
        self.state = State.PREPARING
        self._is_delayed = delay_secs > 0
        self._wait(delay_secs or self._longest_secs, self._end_delay if delay_secs else self._end_round)
        self._end_round_if_complete()

    @property
    def _longest_secs(self) -> float:
        return max((member.wish.rebalance_secs for member in self.members.values()), default=0.0)

    def _wait(self, secs: float, then: Callable[[], None]) -> None:
        if self._round is not None:
            self._round.cancel()
        self._round = self._world.call_later(secs, lambda: then() if self._is_here() else self._wait(secs, then))

    def _end_delay(self) -> None:
        self._is_delayed = False
        self._wait(self._longest_secs, self._end_round)
        self._end_round_if_complete()

    def _wait_for_others(self, member: Member) -> Later:
        if member.join is not None:  # its client has given up waiting for the former answer
            member.join.give(Joined(error=KafkaError.UNKNOWN_MEMBER_ID))
        answer = member.join = Later()
        if member.session is not None:
            member.session.cancel()
        self._end_round_if_complete()
        return answer

    def _end_round_if_complete(self) -> None:
        all_have_joined = not self._announced and all(member.join is not None for member in self.members.values())
        if self.state == State.PREPARING and not self._is_delayed and all_have_joined:
            self._end_round()

    def _end_round(self) -> None:
        """Everyone has joined, or the wait is over: who has not joined is out, except static members."""
        for member in list(self.members.values()):
            if member.join is None and member.wish.instance_id is None:
                member.dismiss(KafkaError.UNKNOWN_MEMBER_ID)
                self._forget(member)
        joined = [member for member in self.members.values() if member.join is not None]
        if self.members and not joined:
            self._wait(self._longest_secs, self._end_round)
            return
        self.generation += 1
        if not joined:
            self.state = State.EMPTY
            self._end_wait()
            self._write_down()
            return
        self.state = State.COMPLETING
        if self._leader not in {member.member_id for member in joined}:
            self._leader = joined[0].member_id
        self._wait(self._longest_secs, self._end_sync)
        for member in joined:
            answer, member.join = member.join, None
            self._keep_alive(member)
            if answer is not None:
                answer.give(self._joined(member))

    def _joined(self, member: Member) -> Joined:
        wishes = {name: other.wish for name, other in self.members.items()}
        is_leader = member.member_id == self._leader
        return Joined(member.member_id, self.generation, self._leader, wishes if is_leader else {})

    def _end_sync(self) -> None:
        """Members that have joined and not synced in all that time are out."""
        if self.state == State.COMPLETING:
            late = [member for member in self.members.values() if member.sync is None]
            for member in late:
                member.dismiss(KafkaError.UNKNOWN_MEMBER_ID)
                self._forget(member)
            self._begin_round(delay_secs=0.0)

    def _settle(self, assignment: Assignment) -> None:
        self.state = State.STABLE
        self._end_wait()
        for member in self.members.values():
            member.partitions = assignment.get(member.member_id, ())
            answer, member.sync = member.sync, None
            self._keep_alive(member)
            if answer is not None:
                answer.give(Synced(member.partitions))
        self._write_down()

    def _write_down(self) -> None:
        told = {name: (member.wish, member.partitions) for name, member in self.members.items()}
        self._record = Record(self.generation, told)

    def _end_wait(self) -> None:
        if self._round is not None:
            self._round.cancel()
            self._round = None

    # Checks.

    def _unknown(self, who: Identity) -> ErrorCode | None:
        if who.instance_id is not None and who.instance_id in self._static:
            return None if self._static[who.instance_id] == who.member_id else KafkaError.FENCED_INSTANCE_ID
        return None if who.member_id in self.members else KafkaError.UNKNOWN_MEMBER_ID

    def _refusal(self, who: Identity) -> ErrorCode | None:
        if (error := self._unknown(who)) is not None:
            return error
        return None if who.generation == self.generation else KafkaError.ILLEGAL_GENERATION

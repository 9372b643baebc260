"""A group of the consumer protocol (KIP-848), as its coordinator keeps it: the coordinator assigns, by heartbeats.

A member has an epoch. It gets the epoch of the newest assignment when it has given back the partitions that are not
its own any more, and it gets a partition only when the former owner has given that back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.assignor import Place, share_out
from tests.simulation.kafka.classic_member import Identity
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Scheduler, Timer

JOIN_EPOCH: Final = 0
LEAVE_EPOCH: Final = -1
PAUSE_EPOCH: Final = -2
"""A static member leaves and means to come back."""

Topics = Callable[[str], Sequence[Place]]
"""The partitions of a topic: none while it does not exist."""


class Beat(NamedTuple):
    """A ConsumerGroupHeartbeat request."""

    member_id: str
    """The client makes it."""
    epoch: int
    instance_id: str | None = None
    client_id: str = ""
    host: str = ""
    rebalance_secs: float | None = None
    topics: tuple[str, ...] | None = None
    owned: tuple[Place, ...] | None = None
    """None: as told before."""


class BeatAnswer(NamedTuple):
    """The answer to a heartbeat."""

    epoch: int = LEAVE_EPOCH
    interval_secs: float = 0.0
    partitions: tuple[Place, ...] | None = None
    """The member's partitions when they have changed."""
    error: ErrorCode | None = None


class MemberState(StrEnum):
    """The steps of a member towards the target."""

    STABLE = "stable"
    UNREVOKED = "has to give partitions back"
    UNRELEASED = "waits for partitions of others"


class Timing(NamedTuple):
    """Settings of the brokers."""

    session_secs: float = 45.0
    """``group.consumer.session.timeout.ms``."""
    interval_secs: float = 5.0
    """``group.consumer.heartbeat.interval.ms``."""


@final
class Member:
    """A member of the group."""

    def __init__(self, beat: Beat) -> None:
        self.member_id = beat.member_id
        self.instance_id = beat.instance_id
        self.client_id = beat.client_id
        self.host = beat.host
        self.topics = beat.topics or ()
        self.rebalance_secs = beat.rebalance_secs or 300.0
        self.epoch = 0
        self.previous_epoch = 0
        self.state = MemberState.STABLE
        self.partitions: tuple[Place, ...] = ()
        """The partitions that the coordinator has assigned to it."""
        self.leaving: tuple[Place, ...] = ()
        """Partitions that it has not given back yet."""
        self.session: Timer | None = None
        self.revocation: Timer | None = None


@final
class ConsumerGroup:
    """The members of one group and the assignment that they move to."""

    def __init__(self, world: Scheduler, partitions_of: Topics, is_here: Callable[[], bool], timing: Timing) -> None:
        """``is_here``: whether the coordinator runs."""
        self._world = world
        self._is_here = is_here
        self._partitions_of = partitions_of
        self._timing = timing
        self.epoch = 0
        self.members: dict[str, Member] = {}
        self._target: dict[str, list[Place]] = {}
        self._known: tuple[tuple[str, tuple[str, ...]], ...] = ()
        """Members and their topics, of which the target was made."""
        self._partitions: tuple[Place, ...] = ()

    @property
    def state(self) -> str:
        """The state, by the name that Kafka's tools show."""
        if not self.members:
            return "Empty"
        stable = all(m.state == MemberState.STABLE and m.epoch == self.epoch for m in self.members.values())
        return "Stable" if stable else "Reconciling"

    def heartbeat(self, beat: Beat) -> BeatAnswer:
        """Answer a heartbeat."""
        if beat.epoch in {LEAVE_EPOCH, PAUSE_EPOCH}:
            return self._leave(beat)
        member = self._joining(beat) if beat.epoch == JOIN_EPOCH else self._known_member(beat)
        if not isinstance(member, Member):
            return BeatAnswer(error=member)
        before = member.partitions
        if beat.topics is not None:
            member.topics = beat.topics
        if beat.rebalance_secs is not None:
            member.rebalance_secs = beat.rebalance_secs
        self._update_target()
        self._reconcile(member, beat.owned)
        self._keep_alive(member)
        is_complete = beat.epoch == JOIN_EPOCH or (beat.topics is not None and beat.owned is not None)
        told = member.partitions if is_complete or member.partitions != before else None
        return BeatAnswer(member.epoch, self._timing.interval_secs, told)

    def refuse_commit(self, who: Identity) -> ErrorCode | None:
        """The reason to refuse a commit."""
        if who.generation < 0 and not self.members:
            return None
        member = self.members.get(who.member_id)
        if member is None:
            return KafkaError.UNKNOWN_MEMBER_ID
        return None if who.generation == member.epoch else KafkaError.STALE_MEMBER_EPOCH

    def restart(self) -> None:
        """Another broker takes over. It knows all members, and their sessions begin anew."""
        for member in self.members.values():
            self._keep_alive(member)

    # Members.

    def _joining(self, beat: Beat) -> Member | ErrorCode:
        member = self.members.get(beat.member_id)
        if member is None:
            before = self._static(beat.instance_id)
            if before is not None and before.epoch != PAUSE_EPOCH:
                return int(KafkaError.UNRELEASED_INSTANCE_ID)
            member = Member(beat)
            if before is not None:
                self._drop(before)
                member.partitions = before.partitions
                self._target[member.member_id] = self._target.pop(before.member_id, [])
                self._known = tuple(
                    (member.member_id, topics) if name == before.member_id else (name, topics)
                    for name, topics in self._known
                )
            self.members[member.member_id] = member
        if member.leaving:
            member.leaving = ()
        return member

    def _known_member(self, beat: Beat) -> Member | ErrorCode:
        member = self.members.get(beat.member_id)
        if member is None:
            return int(KafkaError.UNKNOWN_MEMBER_ID)
        if beat.epoch == member.epoch:
            return member
        # The answer with the newer epoch may have been lost.
        is_repeated = beat.epoch == member.previous_epoch and set(beat.owned or ()) <= set(member.partitions)
        return member if is_repeated and beat.epoch < member.epoch else int(KafkaError.FENCED_MEMBER_EPOCH)

    def _leave(self, beat: Beat) -> BeatAnswer:
        member = self.members.get(beat.member_id)
        if member is None:
            return BeatAnswer(error=KafkaError.UNKNOWN_MEMBER_ID)
        if beat.epoch == PAUSE_EPOCH and member.instance_id is not None:
            member.epoch = PAUSE_EPOCH
        else:
            self._drop(member)
            self._update_target()
        return BeatAnswer(beat.epoch)

    def _static(self, instance_id: str | None) -> Member | None:
        if instance_id is None:
            return None
        return next((m for m in self.members.values() if m.instance_id == instance_id), None)

    def _drop(self, member: Member) -> None:
        for timer in (member.session, member.revocation):
            if timer is not None:
                timer.cancel()
        del self.members[member.member_id]

    def _keep_alive(self, member: Member) -> None:
        if member.session is not None:
            member.session.cancel()
        member.session = self._world.call_later(self._timing.session_secs, self._expire, member)

    def _expire(self, member: Member) -> None:
        if self.members.get(member.member_id) is not member:
            return
        if self._is_here():
            self._drop(member)
            self._update_target()
        else:
            self._keep_alive(member)

    # Assignment.

    def _update_target(self) -> None:
        """Make a new target when members, their topics or the topics' partitions have changed."""
        known = tuple((name, member.topics) for name, member in self.members.items())
        topics = sorted({topic for _, names in known for topic in names})
        partitions = tuple(place for topic in topics for place in self._partitions_of(topic))
        if (known, partitions) == (self._known, self._partitions):
            return
        self._known, self._partitions = known, partitions
        self.epoch += 1
        owned: Mapping[str, Sequence[Place]] = {name: self._target.get(name, ()) for name in self.members}
        self._target = share_out(partitions, dict(known), owned)

    def _reconcile(self, member: Member, owned: Sequence[Place] | None) -> None:
        """Bring a member as near to its target as the others allow."""
        if member.state == MemberState.UNREVOKED:
            if owned is None or set(owned) & set(member.leaving):
                return
            member.leaving = ()
            if member.revocation is not None:
                member.revocation.cancel()
        target = self._target.get(member.member_id, [])
        kept = tuple(place for place in member.partitions if place in target)
        leaving = tuple(place for place in member.partitions if place not in target)
        if leaving and member.epoch > 0:
            member.partitions, member.leaving = kept, leaving
            member.state = MemberState.UNREVOKED
            member.revocation = self._world.call_later(member.rebalance_secs, self._expire_unrevoked, member)
            return
        taken = {place for m in self.members.values() if m is not member for place in (*m.partitions, *m.leaving)}
        free = tuple(place for place in target if place not in kept and place not in taken)
        member.partitions = kept + free
        is_complete = len(member.partitions) == len(target)
        member.state = MemberState.STABLE if is_complete else MemberState.UNRELEASED
        if member.epoch != self.epoch:
            member.previous_epoch, member.epoch = member.epoch, self.epoch

    def _expire_unrevoked(self, member: Member) -> None:
        if member.state == MemberState.UNREVOKED:
            self._expire(member)

"""The coordinators of consumer groups: memberships of both protocols, and commits with everything that refuses them.

Methods answer a request as the broker does, and run where `Network.request` calls them. A commit belongs to one topic:
when that is deleted, its commits go, also if a topic of the same name exists by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.access import Operation
from tests.simulation.kafka.assignor import Place
from tests.simulation.kafka.classic_group import ClassicGroup
from tests.simulation.kafka.classic_member import Assignment, Identity, Joined, Joining, Synced
from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.consumer_group import Beat, BeatAnswer, ConsumerGroup, Timing
from tests.simulation.kafka.network import Later
from tests.simulation.kafka.partition_log import ErrorCode

ADMIN: Final = Identity("")
"""The committers that are no members: tools, and consumers that join no group."""
MAX_METADATA_BYTES: Final = 4096
"""Kafka's default of ``offset.metadata.max.bytes``. Kafka 4.3 refuses metadata of this length."""
FIRST_DELAY_SECS: Final = 3.0
"""Kafka's default of ``group.initial.rebalance.delay.ms``, in seconds."""


class Commit(NamedTuple):
    """A group's commit of a partition."""

    offset: int
    metadata: str = ""
    epoch: int = -1
    """Leader epoch of the record before the offset; -1: unknown."""


class MemberDescription(NamedTuple):
    """A member, for tools."""

    member_id: str
    instance_id: str | None
    client_id: str
    host: str
    partitions: tuple[Place, ...]


class GroupDescription(NamedTuple):
    """A group, for tools."""

    state: str
    """As Kafka's tools show it; ``Dead``: there is no such group."""
    protocol: str
    """``classic`` or ``consumer``."""
    members: Sequence[MemberDescription]


CommitAnswer = Mapping[Place, ErrorCode | None]
FetchedCommits = Mapping[Place, Commit | ErrorCode | None]


@final
class Coordinators:
    """All groups of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._groups: dict[str, GroupCoordinator] = {}
        self.first_delay_secs = FIRST_DELAY_SECS
        self.max_metadata_bytes = MAX_METADATA_BYTES
        self.timing = Timing()
        self.note: Callable[..., None] = _ignore
        """Told every commit and every change of membership; `History.note` takes it."""

    def of(self, group_id: str) -> GroupCoordinator:
        """The coordinator of a group. A group exists once it has members or commits."""
        if group_id not in self._groups:
            self._groups[group_id] = GroupCoordinator(group_id, self._cluster, self)
        return self._groups[group_id]

    @property
    def groups(self) -> Mapping[str, GroupCoordinator]:
        """The groups that anyone has asked for."""
        return self._groups


@final
class GroupCoordinator:
    """One group."""

    def __init__(self, group_id: str, cluster: Cluster, settings: Coordinators) -> None:
        self.group_id = group_id
        self.trouble: ErrorCode | None = None
        """The error that every request gets for now, such as COORDINATOR_LOAD_IN_PROGRESS."""
        self._cluster = cluster
        self._settings = settings
        self._group: ClassicGroup | ConsumerGroup | None = None
        self._commits: dict[Place, tuple[str, Commit]] = {}
        """By partition the id of the topic and the commit."""
        self._broker = cluster.coordinator_broker(group_id)

    # Memberships.

    def join(self, wish: Joining) -> Joined | Later:
        """Answer JoinGroup."""
        if (error := self._refusal("Read")) is not None:
            return Joined(error=error)
        if isinstance(self._group, ConsumerGroup) and self._group.members:
            return Joined(error=KafkaError.INCONSISTENT_GROUP_PROTOCOL)
        if not isinstance(self._group, ClassicGroup):
            self._group = ClassicGroup(
                self._cluster.scheduler, self._new_id, self._is_here, self._settings.first_delay_secs
            )
        return self._group.join(wish)

    def sync(self, who: Identity, assignment: Assignment | None) -> Synced | Later:
        """Answer SyncGroup."""
        if (error := self._refusal("Read")) is not None:
            return Synced(error=error)
        if not isinstance(self._group, ClassicGroup):
            return Synced(error=KafkaError.UNKNOWN_MEMBER_ID)
        return self._group.sync(who, assignment)

    def heartbeat(self, who: Identity) -> tuple[ErrorCode | None]:
        """Answer Heartbeat."""
        if (error := self._refusal("Read")) is not None:
            return (error,)
        if not isinstance(self._group, ClassicGroup):
            return (KafkaError.UNKNOWN_MEMBER_ID,)
        return (self._group.heartbeat(who),)

    def leave(self, who: Identity) -> tuple[ErrorCode | None]:
        """Answer LeaveGroup."""
        if (error := self._refusal("Read")) is not None:
            return (error,)
        if not isinstance(self._group, ClassicGroup):
            return (KafkaError.UNKNOWN_MEMBER_ID,)
        return (self._group.leave(who),)

    def consumer_heartbeat(self, beat: Beat) -> BeatAnswer:
        """Answer ConsumerGroupHeartbeat."""
        if (error := self._refusal("Read")) is not None:
            return BeatAnswer(error=error)
        for topic in beat.topics or ():
            if (error := self._cluster.acl.refusal("topic", topic, "Describe")) is not None:
                return BeatAnswer(error=error)
        if isinstance(self._group, ClassicGroup) and self._group.members:
            return BeatAnswer(error=KafkaError.GROUP_ID_NOT_FOUND)
        if not isinstance(self._group, ConsumerGroup):
            self._group = ConsumerGroup(
                self._cluster.scheduler, self._partitions_of, self._is_here, self._settings.timing
            )
        return self._group.heartbeat(beat)

    def describe(self) -> GroupDescription | ErrorCode:
        """Answer DescribeGroups."""
        if (error := self._refusal("Describe")) is not None:
            return error
        protocol = "consumer" if isinstance(self._group, ConsumerGroup) else "classic"
        if self._group is None:
            return GroupDescription("Empty" if self.commits else "Dead", protocol, [])
        if isinstance(self._group, ClassicGroup):
            members = [
                MemberDescription(name, m.wish.instance_id, m.wish.client_id, m.wish.host, m.partitions)
                for name, m in self._group.members.items()
            ]
        else:
            members = [
                MemberDescription(name, m.instance_id, m.client_id, m.host, m.partitions)
                for name, m in self._group.members.items()
            ]
        return GroupDescription(str(self._group.state), protocol, members)

    # Commits.

    @property
    def commits(self) -> Mapping[Place, Commit]:
        """The present commits."""
        for place in list(self._commits):
            topic = self._cluster.topic(place[0])
            if topic is None or topic.id != self._commits[place][0]:
                del self._commits[place]
        return {place: commit for place, (_, commit) in self._commits.items()}

    def commit(self, who: Identity, commits: Mapping[Place, Commit]) -> CommitAnswer:
        """Answer OffsetCommit: by partition an error or nothing."""
        error = self._refusal("Read")
        if error is None and self._group is None and who.generation >= 0:
            error = KafkaError.ILLEGAL_GENERATION
        if error is None and self._group is not None:
            error = self._group.refuse_commit(who)
        if error is not None:
            return dict.fromkeys(commits, error)
        answer = {place: self._refuse_place(place, commit) for place, commit in commits.items()}
        self._keep({place: commit for place, commit in commits.items() if answer[place] is None}, who.member_id)
        return answer

    def alter(self, commits: Mapping[Place, Commit]) -> CommitAnswer:
        """Commit as a tool does: refused while there are members."""
        return self.commit(ADMIN, commits)

    def move(self, commits: Mapping[Place, Commit]) -> None:
        """Set commits behind everybody's back, as a tool does that mirrors or restores ``__consumer_offsets``."""
        self._keep(commits, "a tool")

    def forget_commits(self) -> None:
        """Delete all commits, as Kafka does when a group was empty for ``offsets.retention.minutes``."""
        self._commits.clear()
        self._settings.note("commits.expired", group=self.group_id)

    def fetch(self, places: Iterable[Place] | None) -> FetchedCommits | tuple[ErrorCode]:
        """Answer OffsetFetch for these partitions or for all; nothing where there is no commit."""
        if (error := self._refusal("Describe")) is not None:
            return (error,)
        commits = self.commits
        refusal = self._cluster.acl.refusal
        wanted = commits if places is None else places
        return {place: refusal("topic", place[0], "Describe") or commits.get(place) for place in wanted}

    def _refuse_place(self, place: Place, commit: Commit) -> ErrorCode | None:
        topic, number = place
        if (error := self._cluster.acl.refusal("topic", topic, "Read")) is not None:
            return error
        found = self._cluster.topic(topic)
        if found is None or number >= len(found.partitions):
            return KafkaError.UNKNOWN_TOPIC_OR_PART
        if len(commit.metadata.encode()) >= self._settings.max_metadata_bytes:
            return KafkaError.OFFSET_METADATA_TOO_LARGE
        return None

    def _keep(self, commits: Mapping[Place, Commit], by: str) -> None:
        for place, commit in commits.items():
            topic = self._cluster.topic(place[0])
            if topic is not None:
                self._commits[place] = (topic.id, commit)
                self._settings.note(
                    "commit",
                    group=self.group_id,
                    topic=place[0],
                    partition=place[1],
                    offset=commit.offset,
                    metadata=commit.metadata,
                    epoch=commit.epoch,
                    by=by,
                )

    # The coordinator itself.

    def _refusal(self, operation: Operation) -> ErrorCode | None:
        """The reason to refuse any request. A new coordinator first learns the group from its log."""
        broker = self._cluster.coordinator_broker(self.group_id)
        if broker != self._broker:
            self._broker = broker
            if self._group is not None:
                self._group.restart()
        if self.trouble is not None:
            return self.trouble
        if self._cluster.is_loading(self.group_id):
            return KafkaError.COORDINATOR_LOAD_IN_PROGRESS
        return self._cluster.acl.refusal("group", self.group_id, operation)

    def _is_here(self) -> bool:
        """Whether the coordinator runs: only then does it count a member's silence."""
        return self._broker is not None and self._cluster.is_up(self._broker) and self.trouble is None

    def _partitions_of(self, name: str) -> Sequence[Place]:
        topic = self._cluster.topic(name)
        return () if topic is None else [(name, number) for number in range(len(topic.partitions))]

    def _new_id(self, prefix: str) -> str:
        return f"{prefix}-{self._cluster.dice.randbytes(8).hex()}"


def _ignore(_kind: str, **_facts: object) -> None:
    """Drop what the groups note: a story's witness takes its place."""

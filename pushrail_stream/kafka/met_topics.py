"""The topics that the clients of one consumer meet, when topics are deleted and created again under their names.

No client tells which topic a record is of, and a broker that hears late of the new topic serves the earlier one. So a
consumer that has learned of the new topic may still read the earlier one for a while. Until that is over, its commits
name no topic that exists: the partition's next owner then begins at the new topic's beginning, as this consumer's next
client does. Otherwise the offsets that were settled in the earlier topic would count for records of the new one.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import final

from pushrail_stream.core.commit import Committable, topic_of, was_recreated
from pushrail_stream.core.record import Partition, TopicIdentity
from pushrail_stream.kafka.topic_ids import LATE_BROKERS_SECS


@final
class MetTopics:
    """The identities of a consumer's topics. Only the thread that owns the consumer may use it."""

    def __init__(self) -> None:
        self.now: Mapping[str, TopicIdentity] = {}
        """The identities of the topics whose records arrive, as far as they are known."""
        self._met: dict[str, TopicIdentity] = {}
        """The first identities of the topics that the present client has met."""
        self._last: dict[str, TopicIdentity] = {}
        """The newest identities; while Kafka tells none, those that commits name."""
        self._recreated: set[str] = set()
        """The names of topics that were created again."""
        self._learned_at: dict[TopicIdentity, float] = {}
        self._begun_at = time.monotonic()
        """The time at which the present client began."""
        self._failed: set[Partition] = set()
        """Partitions of which the present client has reported an error. Another client would report it too."""
        self.is_stuck = False
        """Whether the present client reads nothing for long from a partition that has records, and reports no error."""
        self._doubtful: set[Partition] = set()
        """Partitions of which the present client may read the earlier topic."""

    def begin_client(self) -> None:
        """Begin with a new client."""
        self._met.clear()
        self._doubtful.clear()
        self._failed.clear()
        self.is_stuck = False
        self._begun_at = time.monotonic()

    def assign(self, committed: Mapping[Partition, Committable | None], topics: Mapping[str, TopicIdentity]) -> None:
        """Learn the current ``topics``, and begin with partitions at the group's commits."""
        self._learn(topics)
        named = {partition: None if commit is None else topic_of(commit) for partition, commit in committed.items()}
        for partition, topic in named.items():
            if topic is not None:
                self._last.setdefault(partition.topic, topic)
                if was_recreated(topic, topics.get(partition.topic)):
                    self._recreated.add(partition.topic)
        self._doubtful -= named.keys()
        self._doubt({p for p, topic in named.items() if topic is None or was_recreated(topic, topics.get(p.topic))})

    def follow(self, topics: Mapping[str, TopicIdentity], restarted: Collection[Partition]) -> None:
        """Learn the current ``topics``. The client reads ``restarted`` from the beginning, as their topic is new."""
        self._learn(topics)
        self._met = dict(topics) | self._met
        self._doubt(restarted)

    def note_failure(self, partition: Partition) -> None:
        """Note that the present client has reported an error of a partition."""
        self._failed.add(partition)

    def note_unread(self, partitions: Collection[Partition]) -> None:
        """Note partitions from which nothing has been read for long, although Kafka has records."""
        self.is_stuck = not self._failed.issuperset(partitions)

    @property
    def is_outdated(self) -> bool:
        """Whether the present client has to be replaced, because it has met an earlier topic, or may have.

        librdkafka keeps its leader epochs. Those of the new topic begin at 0, so brokers may refuse every fetch, and
        the client reports no error. A consumer that begins amid the recreation may never learn of the earlier topic:
        a client that reads nothing for long and reports no error counts as one that has met it.
        """
        if self.is_stuck:
            return True
        if any(was_recreated(topic, self.now.get(name)) for name, topic in self._met.items()):
            return True
        now = time.monotonic()
        return any(self._begun_at < heard_at <= now for heard_at in map(self._heard_at, self._recreated))

    def honest(self, commits: Mapping[Partition, Committable]) -> dict[Partition, Committable]:
        """The commits, in which doubtful partitions name no topic that exists."""
        return {p: commit.of_no_topic() if p in self._doubtful else commit for p, commit in commits.items()}

    def _learn(self, topics: Mapping[str, TopicIdentity]) -> None:
        for name, topic in topics.items():
            if was_recreated(self._last.get(name), topic):
                self._recreated.add(name)
            self._last[name] = topic
            self._learned_at.setdefault(topic, time.monotonic())
        self.now = topics

    def _doubt(self, partitions: Collection[Partition]) -> None:
        """Doubt these partitions where the present client began before every broker knew the new topic."""
        self._doubtful |= {
            p for p in partitions if p.topic in self._recreated and self._begun_at < self._heard_at(p.topic)
        }

    def _heard_at(self, name: str) -> float:
        """The time by which every broker knows the present topic of this name."""
        topic = self.now.get(name)
        return float("-inf") if topic is None else self._learned_at[topic] + LATE_BROKERS_SECS

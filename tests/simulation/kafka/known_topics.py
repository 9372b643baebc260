"""The topics of a consumer as it knows them: refreshed now and then, and soon after an error.

librdkafka believes only after ``topic.metadata.propagation.max.ms`` that a topic is gone, and it ignores a leader epoch
that is older than the one it knows, also when the topic has another id by then. It forgets them when no broker can be
reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.broker import TopicView
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Host, Timer

_SOON_SECS: Final = 0.1
"""Time until the metadata is asked for again after an error, in seconds: librdkafka's ``retry.backoff.ms``."""
_LATEST_SECS: Final = 5.0
"""Longest time until the next question while no broker answers, in seconds."""

Refresh = Callable[[list[str], Callable[[Mapping[str, Any]], None]], None]
"""Asks brokers about topics, and calls with the answer, which is empty when that failed."""


class Existence(StrEnum):
    """The client's view of a topic."""

    UNKNOWN = "unknown"
    EXISTS = "exists"
    GONE = "gone"
    REFUSED = "refused"


@final
class KnownTopic:
    """One topic."""

    def __init__(self, now: float) -> None:
        self.existence = Existence.UNKNOWN
        self.since = now
        self.error: ErrorCode = KafkaError.UNKNOWN_TOPIC_OR_PART
        """The error that says why it is missing."""
        self.id: str | None = None
        self.leaders: list[int | None] = []
        """By partition."""
        self.epochs: dict[int, int] = {}
        """Newest leader epoch by partition. A partition that is being read keeps it while the topic is gone."""

    def enter(self, existence: Existence, now: float) -> bool:
        """Change; whether that is news."""
        if existence == self.existence:
            return False
        self.existence, self.since = existence, now
        return True


@final
class KnownTopics:
    """The topics that a consumer follows."""

    def __init__(
        self, host: Host, refresh: Refresh, *, interval_secs: float, propagation_secs: float, reconnect_secs: float
    ) -> None:
        """``reconnect_secs``: longest time between two tries to reach a broker."""
        self._host = host
        self._refresh = refresh
        self._interval_secs = interval_secs
        self._propagation_secs = propagation_secs
        self._longest_secs = min(_LATEST_SECS, reconnect_secs)
        self._topics: dict[str, KnownTopic] = {}
        self._timer: Timer | None = None
        self._is_asking = False
        self._failures = 0
        """Questions without an answer since the last answer."""
        self.is_closed = False
        self.on_gone: Callable[[str, list[ErrorCode]], None] = lambda _topic, _errors: None
        """Called when a topic is not there, or may not be seen, with the errors of its partitions."""
        self.on_epochs: Callable[[str, list[int]], None] = lambda _topic, _partitions: None
        """Called with partitions that have a newer leader epoch, or may have another leader."""
        self.on_answer: Callable[[], None] = lambda: None
        """Called after each answer."""

    def __getitem__(self, name: str) -> KnownTopic:
        """The known facts about a topic."""
        if name not in self._topics:
            self._topics[name] = KnownTopic(self._host.scheduler.now)
        return self._topics[name]

    def leader(self, topic: str, partition: int) -> int | None:
        """The leader of a partition."""
        leaders = self[topic].leaders
        return leaders[partition] if partition < len(leaders) else None

    def follow(self, names: Iterable[str]) -> None:
        """Know these topics too; ask if any of them is new."""
        new = [name for name in names if name not in self._topics]
        for name in new:
            self[name]
        if new:
            self.ask(0.0)

    def ask(self, secs: float | None = None) -> None:
        """Ask about all of them this much later, or earlier if that is planned already; soon unless told when."""
        if secs is None:
            secs = min(self._longest_secs, _SOON_SECS * 2**self._failures)
        due = self._host.scheduler.now + secs
        if self.is_closed or (self._timer is not None and not self._timer.cancelled and self._timer.at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._host.call_later(secs, self._ask)

    def ask_now(self, names: list[str], then: Callable[[], None]) -> None:
        """Ask about these topics alone, and go on with the answer, or without one when that fails."""

        def take(found: Mapping[str, Any]) -> None:
            for name, view in found.items():
                self[name]
                self._learn(name, view)
            then()

        self._refresh(names, take)

    def _ask(self) -> None:
        self._timer = None
        if self.is_closed or not self._topics:
            return
        if self._is_asking:
            self.ask()
            return
        self._is_asking = True
        self._refresh(list(self._topics), self._take)

    def _take(self, found: Mapping[str, Any]) -> None:
        self._is_asking = False
        if self.is_closed:
            return
        for name, view in found.items():
            if name in self._topics:
                self._learn(name, view)
        self.on_answer()
        lacks_leader = any(
            None in topic.leaders for topic in self._topics.values() if topic.existence == Existence.EXISTS
        )
        self._failures = 0 if found else self._failures + 1
        self.ask(None if lacks_leader or not found else self._interval_secs)

    def _learn(self, name: str, view: TopicView | ErrorCode) -> None:
        topic = self._topics[name]
        if isinstance(view, TopicView):
            self._learn_partitions(name, topic, view)
        elif view == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            self._lose(name, topic, Existence.REFUSED, view)
        elif view == KafkaError.UNKNOWN_TOPIC_OR_PART:
            is_early = self._host.scheduler.now - topic.since < self._propagation_secs
            if topic.existence == Existence.GONE or not is_early:
                self._lose(name, topic, Existence.GONE, view)

    def _lose(self, name: str, topic: KnownTopic, existence: Existence, error: ErrorCode) -> None:
        has_vanished = existence == Existence.GONE and bool(topic.leaders)
        topic.error = error
        topic.leaders = []
        if topic.enter(existence, self._host.scheduler.now):
            self.on_gone(name, [KafkaError._UNKNOWN_PARTITION, error] if has_vanished else [error])

    def _learn_partitions(self, name: str, topic: KnownTopic, view: TopicView) -> None:
        topic.enter(Existence.EXISTS, self._host.scheduler.now)
        if len(view.leaders) > len(topic.leaders) or view.topic.id != topic.id:
            count = len(view.leaders)
            topic.leaders = (topic.leaders + [None] * count)[:count]
        topic.id = view.topic.id
        changed = []
        for number, (leader, epoch) in enumerate(view.leaders):
            if number < len(topic.leaders) and epoch >= topic.epochs.get(number, -1):
                topic.leaders[number] = leader
                if epoch > topic.epochs.get(number, -1):
                    topic.epochs[number] = epoch
                    changed.append(number)
        if changed:
            self.on_epochs(name, changed)

    def forget_leaders(self) -> None:
        """Forget all leaders and their epochs, as librdkafka does when it can reach no broker."""
        for topic in self._topics.values():
            topic.leaders = [None] * len(topic.leaders)
            topic.epochs.clear()

    def forget_epochs(self, topic: str, partition: int) -> None:
        """A partition is not read any more: while its topic is gone, the client forgets it."""
        if self[topic].existence != Existence.EXISTS:
            self[topic].epochs.pop(partition, None)

"""Ids of topics: a topic that is deleted and created again keeps its name and gets another id."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Final, final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from pushrail_stream.blocking import in_daemon_thread
from pushrail_stream.core.commit import was_recreated
from pushrail_stream.core.record import NO_TOPIC_ID, TopicIdentity
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import has_controller
from pushrail_stream.settings.model import KafkaSettings

_PERIOD_SECS: Final = 2.0
"""Time between two questions. Until a new id is known, the records of the old and the new topic are mixed up."""
LATE_BROKERS_SECS: Final = 30.0
"""Time until every broker knows a topic that was created again. A late one serves the deleted topic to new clients."""
_TIMEOUT_SECS: Final = 3.0
"""Longest wait of an assignment for the answer."""
_URL_SAFE: Final = str.maketrans("+/", "-_")
"""Kafka's tools print ids in the URL-safe alphabet, librdkafka in the other one."""


@final
class TopicIdentities:
    """The newest identities of topics. Several threads may ask.

    In a cluster that tells no ids (Kafka before 2.8, librdkafka's built-in one) all stay unknown.
    """

    def __init__(self, kafka: KafkaSettings) -> None:
        self._admin = AdminClient(client_properties.admin(kafka))
        self._cluster_id: str | None = None
        self._known: dict[str, TopicIdentity] = {}
        self._earlier: dict[TopicIdentity, float] = {}
        """Earlier identities, each with the time until which a broker that lags behind may still tell it."""

    @property
    def known(self) -> Mapping[str, TopicIdentity]:
        """The newest identity of each topic."""
        return self._known

    def ask(self, topics: Collection[str]) -> Mapping[str, TopicIdentity]:
        """Ask Kafka about these topics; the identities that are known. It takes seconds at most and raises nothing."""
        if self._can_answer():
            asked = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT_SECS)
            for name, answer in asked.items():
                try:
                    self._learn(name, str(answer.result().topic_id))
                except KafkaException:
                    continue  # it does not exist at the moment, or Kafka is out of reach: asked again soon
        return {name: self._known[name] for name in topics if name in self._known}

    def id_of(self, name: str) -> str | None:
        """The newest id of a topic; None if Kafka does not tell it."""
        identity = self._known.get(name)
        return None if identity is None else identity.topic_id

    async def keep(self, topics: Collection[str]) -> None:
        """Ask again and again until cancelled."""
        while True:
            await in_daemon_thread(self.ask, topics)
            await asyncio.sleep(_PERIOD_SECS)

    def _can_answer(self) -> bool:
        """Whether the cluster has a controller."""
        if self._cluster_id is None:
            try:
                cluster = self._admin.list_topics(timeout=_TIMEOUT_SECS)
            except KafkaException:
                return False
            if has_controller(cluster):
                self._cluster_id = cluster.cluster_id
        return self._cluster_id is not None

    def _learn(self, name: str, topic_id: str) -> None:
        """Learn the id that a broker tells.

        Nothing says which of two ids is newer: a worker that starts may hear of the new topic first, and name the
        deleted one for a while. An earlier id is the present one again when it is told after every broker knows the
        new topic. If it counted sooner, partitions would be read from the beginning each time that brokers disagree.
        """
        if topic_id == NO_TOPIC_ID:
            return
        identity = TopicIdentity(self._cluster_id or "", topic_id.translate(_URL_SAFE))
        known = self._known.get(name)
        if identity == known or time.monotonic() < self._earlier.get(identity, float("-inf")):
            return
        if known is not None:
            self._earlier[known] = time.monotonic() + LATE_BROKERS_SECS
        self._known[name] = identity


@final
class TopicWatch:
    """Notices that a topic was deleted and created again while it is being read."""

    def __init__(self, kafka: KafkaSettings, topic: str, period_secs: float) -> None:
        self.identities = TopicIdentities(kafka)
        self._topic = topic
        self._period_secs = period_secs
        self._next_at = float("-inf")

    def is_due(self) -> bool:
        """Whether the last question is a period ago."""
        return time.monotonic() >= self._next_at

    def was_recreated(self) -> bool:
        """Ask, and say whether the topic is another one than before. It takes seconds at most and raises nothing."""
        self._next_at = time.monotonic() + self._period_secs
        before = self.identities.known.get(self._topic)
        return was_recreated(before, self.identities.ask([self._topic]).get(self._topic))


def topic_id(kafka: KafkaSettings, name: str) -> str | None:
    """Kafka's id of the topic, which tells it from an earlier one of its name; None if Kafka does not tell it."""
    identities = TopicIdentities(kafka)
    identities.ask([name])
    return identities.id_of(name)

"""Places: the records that a position of the events topic may mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, final

from pushrail_stream.core.record import Origin
from pushrail_stream.kafka.topic_ids import LATE_BROKERS_SECS
from tests.simulation.oracle.evidence import Disturbance, Evidence, Written

_NOTICE_SECS: Final = 30.0
"""Longest time in seconds until every worker knows the id of a new topic: late metadata, a question and its period."""
_LATE_NOTICE_SECS: Final = 300.0
"""The same in seconds after a trouble during which a worker cannot ask."""
_MISTAKEN_SECS: Final = LATE_BROKERS_SECS + 5.0
"""Longest time in seconds from the last late answer until a worker that took the deleted topic for the newer one
believes in the new one: it passes over the new id for the first part, and the rest is a question and its period."""
_DEAFNESS: Final = frozenset({"kafka", "paused"})
"""Disturbances during which a worker cannot learn of a new topic."""
_Place = tuple[object, ...]


@final
class Places:
    """The records of the events topic by their positions, in all topics of its name."""

    def __init__(self, evidence: Evidence) -> None:
        self._at: dict[_Place, list[Written]] = defaultdict(list)
        for one in evidence.on(evidence.settings.topics.events):
            self._at[one.origin[:3]].append(one)
        self._created = evidence.created
        self._heard_of = evidence.heard_of
        self._noticed = {
            topic_id: max(_noticed_by(evidence, at), self._mistaken_until(topic_id))
            for topic_id, at in evidence.created.items()
        }

    def is_ambiguous(self, origin: Origin) -> bool:
        """Whether a position without a topic's id has had several records, so that traces of it may be of any."""
        return len(self._at.get(origin[:3], ())) > 1

    def meant_by(self, origin: Origin) -> Sequence[Written]:
        """The records that a position may mean, the most likely one last.

        They are several after a truncation, or when the position tells no topic id.
        Kafka's client does not tell a record's topic. Until a worker has noticed that the topic was created again, it
        takes the new topic's records for those of the earlier topic. It reads them again once it has.
        A broker that hears late of the new topic serves the earlier one. A worker that knows the new topic takes those
        records for the new topic's.
        """
        found = self._at.get(origin[:3], [])
        if origin.topic_id is None:
            return found
        exact = [one for one in found if one.record.topic_id == origin.topic_id]
        return [*(one for one in found if self._is_mistaken_for(one, origin.topic_id)), *exact]

    def stand_ins(self, one: Written, at: float) -> Sequence[Written]:
        """The records of earlier topics that a worker may have read in the place of this one by then."""
        own = one.record.topic_id or ""
        if at > self._heard_of.get(own, float("-inf")) + _NOTICE_SECS:
            return ()
        return [other for other in self._at[one.origin[:3]] if self._is_served_as(other, own) and other.at <= at]

    def _is_mistaken_for(self, one: Written, topic_id: str) -> bool:
        """Whether a worker may take a record for one of another topic."""
        own = one.record.topic_id or ""
        is_later = self._created.get(topic_id, float("inf")) < self._created.get(own, float("-inf"))
        return (is_later and one.at <= self._noticed[own]) or self._is_served_as(one, topic_id)

    def _mistaken_until(self, topic_id: str) -> float:
        """The time until which a worker may name the earlier topic, because it heard of that one last.

        It began while brokers heard of the new topic at different times. Nothing tells it which id is newer.
        """
        heard_at = self._heard_of.get(topic_id, float("-inf"))
        return heard_at + _MISTAKEN_SECS if heard_at > self._created[topic_id] else float("-inf")

    def _is_served_as(self, one: Written, topic_id: str) -> bool:
        """Whether a broker may serve a record to consumers that know a later topic."""
        created_at, heard_at = self._created.get(topic_id, float("-inf")), self._heard_of.get(topic_id, float("-inf"))
        is_earlier = self._created.get(one.record.topic_id or "", float("inf")) < created_at
        return is_earlier and created_at < heard_at and one.at <= heard_at


def _noticed_by(evidence: Evidence, created_at: float) -> float:
    """The time at which every worker knows the id of a topic that was created at this time."""
    if evidence.has_kafka_weather:
        return created_at + _LATE_NOTICE_SECS
    until = created_at + _NOTICE_SECS
    hindrances = [one for one in evidence.disturbances if one.kind in _DEAFNESS and _overlaps(one, created_at, until)]
    return max([until, *(one.until + _LATE_NOTICE_SECS for one in hindrances)])


def _overlaps(one: Disturbance, since: float, until: float) -> bool:
    return one.at <= until and one.until >= since

"""Places: the records that a position of the events topic may mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, final

from pushrail_stream.core.record import Origin
from tests.simulation.oracle.evidence import Disturbance, Evidence, Written

_NOTICE_SECS: Final = 30.0
"""Longest time in seconds until every worker knows the id of a new topic: late metadata, a question and its period."""
_LATE_NOTICE_SECS: Final = 300.0
"""The same in seconds after a trouble during which a worker cannot ask."""
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
        self._noticed = {topic_id: _noticed_by(evidence, at) for topic_id, at in evidence.created.items()}

    def is_ambiguous(self, origin: Origin) -> bool:
        """Whether a position without a topic's id has had several records, so that traces of it may be of any."""
        return len(self._at.get(origin[:3], ())) > 1

    def meant_by(self, origin: Origin) -> Sequence[Written]:
        """The records that a position may mean, the most likely one last.

        They are several after a truncation, or when the position tells no topic id.
        Kafka's client does not tell a record's topic. Until a worker has noticed that the topic was created again, it
        takes the new topic's records for those of the earlier topic. It reads them again once it has.
        """
        found = self._at.get(origin[:3], [])
        if origin.topic_id is None:
            return found
        exact = [one for one in found if one.record.topic_id == origin.topic_id]
        return [*(one for one in found if self._is_mistaken_for(one, origin.topic_id)), *exact]

    def _is_mistaken_for(self, one: Written, topic_id: str) -> bool:
        """Whether a worker may take a record for one of an earlier topic."""
        own = one.record.topic_id or ""
        is_later = self._created.get(topic_id, float("inf")) < self._created.get(own, float("-inf"))
        return is_later and one.at <= self._noticed[own]


def _noticed_by(evidence: Evidence, created_at: float) -> float:
    """The time at which every worker knows the id of a topic that was created at this time."""
    if evidence.has_kafka_weather:
        return created_at + _LATE_NOTICE_SECS
    until = created_at + _NOTICE_SECS
    hindrances = [one for one in evidence.disturbances if one.kind in _DEAFNESS and _overlaps(one, created_at, until)]
    return max([until, *(one.until + _LATE_NOTICE_SECS for one in hindrances)])


def _overlaps(one: Disturbance, since: float, until: float) -> bool:
    return one.at <= until and one.until >= since

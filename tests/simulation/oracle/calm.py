"""Calm: the periods in which nothing but customers can delay a delivery."""

from __future__ import annotations

from typing import Final, final

from pushrail_stream.core.signals import (
    Flooded,
    OffsetsSkipped,
    PartitionRestarted,
    PartitionsAssigned,
    PartitionsRevoked,
    PartitionUnread,
)
from tests.simulation.oracle.evidence import Evidence
from tests.simulation.oracle.periods import Periods

RECOVERY_SECS: Final = 60.0
"""Time after a disturbance, in seconds, in which a backlog of the whole fleet may still be worked off."""
_BEGIN_SECS: Final = 30.0
"""Time in seconds from the beginning of a story in which the first workers join."""


@final
class Calm:
    """Knows the disturbed periods of a story."""

    def __init__(self, evidence: Evidence) -> None:
        busy = [(one.at, one.until) for one in evidence.disturbances]
        busy += [(end.at, end.at) for end in evidence.worker_ends]
        begun = min((one.at for one in evidence.signals), default=0.0)
        busy.append((0.0, begun + _BEGIN_SECS if evidence.signals else 0.0))
        if evidence.has_kafka_weather:
            busy.append((0.0, evidence.healed_at))
        unread: dict[object, float] = {}
        for at, host, signal in evidence.signals:
            match signal:
                case PartitionsAssigned() | PartitionsRevoked() | PartitionRestarted():
                    busy.append((at, at))
                case Flooded():
                    ends = [end.at for end in evidence.worker_ends if end.host == host and end.at >= at]
                    busy.append((at, min(ends, default=evidence.ended_at)))
                case PartitionUnread(partition):
                    unread.setdefault(partition, at - RECOVERY_SECS)
                case OffsetsSkipped(partition) if partition in unread:
                    busy.append((unread.pop(partition), at))
                case _:
                    pass
        busy += [(at, evidence.ended_at) for at in unread.values()]
        self._disturbed = Periods((since, until + RECOVERY_SECS) for since, until in busy)

    def is_calm(self, since: float, until: float) -> bool:
        """Whether no disturbance was in this period, or shortly before it."""
        return not self._disturbed.meet(since, until)

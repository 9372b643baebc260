"""Periods for which the attempts log may lack records. It never gates a delivery, so losses are allowed."""

from __future__ import annotations

from typing import Final, NamedTuple

from pushrail_stream.observe.worker_record import WorkerRecord
from tests.simulation.oracle.evidence import Evidence

_QUEUE_SECS: Final = 40.0
"""Longest time in seconds for which a record waits in a client before it is written, or given up."""


class Period(NamedTuple):
    """A period, and the host that may have lost records; empty: any."""

    since: float
    until: float
    host: str


def lossy_logs(evidence: Evidence) -> list[Period]:
    """The periods around ends without a stop, troubles of Kafka, and losses that workers counted themselves."""
    found = [Period(end.at - _QUEUE_SECS, end.at, end.host) for end in evidence.worker_ends if end.how != "stopped"]
    for one in evidence.disturbances:
        if one.kind in {"kafka", "log"} or one.kind == "paused":
            found.append(Period(one.at - _QUEUE_SECS, one.until + _QUEUE_SECS, one.host))
        elif one.kind == "killed":
            found.append(Period(one.at - _QUEUE_SECS, one.until, one.host))
    for record in evidence.on(evidence.settings.topics.workers):
        state = WorkerRecord.read(record.record.value or b"")
        if state is not None and state.totals.get("attemptsLost", 0) > 0:
            found.append(Period(0.0, evidence.ended_at, record.host))
    topic = evidence.settings.topics.attempts
    gone = [one for one in evidence.written if one.record.topic == topic and one.gone_at is not None]
    return [*found, *(Period(one.at - _QUEUE_SECS, one.at + _QUEUE_SECS, one.host) for one in gone)]

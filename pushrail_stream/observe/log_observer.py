"""Log lines about signals: changes of state at info, trouble at warning, single deliveries at debug."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, final

from pushrail_stream.core import signals
from pushrail_stream.core.bus_status import Swallowed
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.record import Partition
from pushrail_stream.core.signals import Signal
from pushrail_stream.core.text import format_rfc3339
from pushrail_stream.observe.logging import Logger, Sampling

_MAX_IDS: Final = 5
"""Destination ids that a line names; the others are counted."""
_SERVER_ERROR: Final = 500
_REFUSALS: Final = frozenset({401, 403, 429})
"""Statuses of refused requests that are logged as warnings. Other refusals concern only the producer."""
_FLOOD: Final = (
    "consuming has stopped: a release of a producer, or ours, is at fault. Mend it, or set flood_guard.enabled "
    "to false to let them become dead letters; then restart the workers"
)
_UNREAD: Final = (
    "Kafka has records above `position` that the client cannot read; `kafka_trouble` says why. If a batch cannot be "
    "decompressed, `topics skip` steps over it"
)
_RESTARTED: Final[Mapping[signals.RestartReason, str]] = {
    "recreated": "the topic was deleted and created again: it is read from its beginning, and records that were read "
    "before the worker noticed this are delivered again",
    "went_back": "Kafka went back below `position`, as it does after an unclean leader election: records that are "
    "there are delivered, some of them again, and records that the log has lost cannot be read any more",
}
_TRIMMED: Final = (
    "the records from `expected` to below `first` were removed before a worker had read them, by the topic's "
    "retention or by hand: have their producers send them again, and see that retention.ms outlasts any outage"
)
_BACKLOG_TRIMMED: Final = (
    "the destination was behind, and Kafka removed its events from `start` to below `end` before they were read again, "
    "by the topic's retention, by hand, or with the end of a log that was cut off; at least `known` events are lost. "
    "`replay` cannot send them: have their producers send them again, and see that the topic's retention.ms outlasts "
    "delivery.max_age_secs"
)
_BACKLOG_ENDANGERED: Final = (
    "the destination is far behind, and Kafka may soon remove its events: they move to the last retry topic. Where "
    "that fails, `copy_failed` says so. Raise the topic's retention.ms and retention.bytes"
)
_BACKLOG_LOST: Final[Mapping[signals.CursorEnd, str]] = {
    "recreated": "the topic was deleted and created again, and the rest of this destination's backlog went with it",
    "went_back": "the partition's log was cut off, and the rest of this destination's backlog went with it",
}


class _Line(NamedTuple):
    level: Literal["debug", "info", "warning", "error"]
    event: str
    fields: Mapping[str, Any]
    sample_by: str | None = None
    """Lines with this key are sampled; None: each one is written."""


@final
class LogObserver:
    """Writes one line for each signal, except `Consumed`; lines about repeated trouble are sampled."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        # Asked once: no line is put together for a level that is not written.
        self._is_debug = log.is_enabled_for(logging.DEBUG)
        self._sampling = Sampling()

    def __call__(self, signal: Signal) -> None:
        if isinstance(signal, signals.Consumed):
            return
        if self._is_debug or not isinstance(signal, _DEBUG_ONLY):
            self._write(_LINES[type(signal)](signal))
        if isinstance(signal, signals.Attempted) and (fault := signal.own_fault) is not None:
            fields = {"code": fault.code, "message": fault.message}
            self._write(_Line("warning", "our_own_fault", fields, f"ours {fault.code}"))

    def _write(self, line: _Line) -> None:
        more = {} if line.sample_by is None else self._sampling.sample(line.event, line.sample_by)
        if more is not None:
            getattr(self._log, line.level)(line.event, **line.fields, **more)


_DEBUG_ONLY: Final = (signals.Attempted, signals.Skipped, signals.MovedToRetry)
"""They come with every event or call: their lines are put together only at debug."""


def _call_fields(signal: signals.Attempted) -> dict[str, Any]:
    """Everything about a call in one line: the ids to search by, and the outcomes."""
    entries = signal.entries
    outcomes = Counter(type(entry.outcome).__name__.lower() for entry in entries)
    codes = Counter(entry.outcome.code for entry in entries if not isinstance(entry.outcome, Delivered))
    events = [entry.event for entry in entries]
    recorded = [entry.recorded_at_ms for entry in entries if entry.recorded_at_ms is not None]
    return {
        "destination": signal.destination.id,
        "vendor": signal.destination.vendor,
        "customer": signal.destination.customer_external_id,
        "region": signal.destination.bus.region,
        "status": signal.http_status,
        "request_id": signal.request_id,
        "duration_ms": round(signal.duration_secs * 1000, 1),
        "entries": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "flush": signal.flush,
        "outcomes": dict(outcomes),
        "codes": dict(codes),
        "attempt": max(entry.attempt for entry in entries),
        "triggers": sorted({entry.trigger for entry in entries}),
        "oldest_ms": signal.at_ms - min(recorded) if recorded else None,
        "event_types": sorted({event.event_type for event in events}),
        "idempotency_keys": [event.idempotency_key for event in events],
        "correlation_ids": [event.correlation_id for event in events if event.correlation_id is not None],
        "trace_ids": [trace for event in events if (trace := event.trace_id) is not None],
        "origins": [str(entry.origin) for entry in entries],
    }


def _swallowed(destination_id: str, swallowed: Swallowed | None) -> dict[str, Any]:
    """The deliveries that a missing bus swallowed, and the command that sends them again."""
    if swallowed is None:
        return {"delivered_since": 0}
    return {"delivered_since": swallowed.deliveries, "replay": swallowed.replay_command(destination_id)}


def _ids(event: Event | None) -> dict[str, Any]:
    """The fields that identify an event; none when its record could not be decoded."""
    if event is None:
        return {}
    return {
        "customer": event.customer_external_id,
        "idempotency_key": event.idempotency_key,
        "correlation_id": event.correlation_id,
        "trace_id": event.trace_id,
    }


def _first(ids: Sequence[str]) -> list[str]:
    """The ids; the number of those that would fill the line."""
    return list(ids) if len(ids) <= _MAX_IDS else [*ids[:_MAX_IDS], f"and {len(ids) - _MAX_IDS} more"]


def _dead_lettered(signal: signals.DeadLettered) -> _Line:
    letter, where = signal.letter, signal.letter.destination_id or "-"
    fields = {
        "reason": letter.reason, "code": letter.code, "message": letter.message, "destination": where,
        "origin": str(letter.record.origin), **_ids(signal.event),
    }  # fmt: skip
    return _Line("warning", "dead_lettered", fields, f"{letter.reason} {letter.code} {where}")


def _moved_to_retry(signal: signals.MovedToRetry) -> _Line:
    copy = signal.copy
    fields = {
        "topic": signal.topic, "reason": copy.reason, "destination": copy.destination_id,
        "origin": str(copy.record.origin), "attempts": copy.attempts, **_ids(copy.event),
    }  # fmt: skip
    return _Line("debug", "moved_to_retry", fields)


def _suspended(signal: signals.Suspended) -> _Line:
    fields = {"code": signal.code, "message": signal.message, "probe_in_secs": round(signal.probe_in_secs)}
    event = "destination_suspended" if signal.first else "probe_blocked"
    return _Line("warning", event, {"destination": signal.destination.id, **fields})


def _slowed(signal: signals.Slowed) -> _Line:
    where, in_flight, most = signal.destination.id, signal.in_flight, signal.most
    # The first cut and the end of all cuts are never left out because of the steps between them.
    return _Line(
        "info", "destination_slowed", {"destination": where, "in_flight": in_flight, "most": most},
        f"{where} {in_flight < most}",
    )  # fmt: skip


def _bus_missing(signal: signals.BusMissing) -> _Line:
    where, seen_ms = signal.destination.id, signal.bus.last_seen_ms
    seen = None if seen_ms is None else format_rfc3339(seen_ms)
    fields = {"destination": where, "bus": signal.destination.bus.arn, "last_seen": seen}
    return _Line("error", "bus_missing", fields | _swallowed(where, signal.swallowed))


def _bus_found(signal: signals.BusFound) -> _Line:
    where = signal.destination.id
    fields = {"destination": where, "missing_secs": round(signal.missing_secs)}
    return _Line("warning", "bus_found", fields | _swallowed(where, signal.swallowed))


def _copy_failed(signal: signals.CopyFailed) -> _Line:
    origin = str(signal.copy.record.origin)
    fields = {"origin": origin, "problem": signal.problem, "retry_in_secs": signal.retry_in_secs}
    return _Line("warning", "copy_failed", fields, signal.problem)


def _revoked(signal: signals.PartitionsRevoked) -> _Line:
    fields = {"partitions": _counted(signal.partitions), "dropped": signal.dropped}
    return _Line("info", "partitions_lost" if signal.lost else "partitions_revoked", fields)


def _assigned(signal: signals.PartitionsAssigned) -> _Line:
    fields = {"partitions": _counted([partition for partition, _ in signal.partitions])}
    if uncommitted := [partition for partition, offset in signal.partitions if offset is None]:
        fields["uncommitted"] = _counted(uncommitted)
    return _Line("info", "partitions_assigned", fields)


def _counted(partitions: Iterable[Partition]) -> str:
    """Partitions as a count and ranges: a topic may have thousands."""
    topics: dict[str, list[list[int]]] = {}
    count = 0
    for topic, number in sorted(partitions):
        count += 1
        ranges = topics.setdefault(topic, [])
        if ranges and ranges[-1][-1] == number - 1:
            ranges[-1][1:] = [number]
        else:
            ranges.append([number])
    named = [f"{topic} {','.join('-'.join(map(str, one)) for one in ranges)}" for topic, ranges in topics.items()]
    return ": ".join([f"{count} partition{'' if count == 1 else 's'}", *filter(None, [", ".join(named)])])


def _cursor_opened(signal: signals.CursorOpened) -> _Line:
    where = signal.destination_id
    fields = {"destination": where, **_of_partition(signal.partition, since=signal.since, adopted=signal.adopted)}
    return _Line("info", "cursor_opened", fields, where)


def _cursor_trimmed(signal: signals.CursorTrimmed) -> _Line:
    place = _of_partition(
        signal.partition, start=signal.start, end=signal.end, known=signal.known, advice=_BACKLOG_TRIMMED
    )
    return _Line("error", "cursor_trimmed", {"destination": signal.destination_id, **place})


def _cursor_endangered(signal: signals.CursorEndangered) -> _Line:
    place = _of_partition(signal.partition, lowest=signal.lowest, first=signal.first, advice=_BACKLOG_ENDANGERED)
    return _Line("warning", "cursor_endangered", {"destination": signal.destination_id, **place})


def _cursor_closed(signal: signals.CursorClosed) -> _Line:
    where, advice = signal.destination_id, _BACKLOG_LOST.get(signal.why)
    fields = {"destination": where, **_of_partition(signal.partition, why=signal.why)}
    if advice is None:
        return _Line("info", "cursor_closed", fields, f"{where} {signal.why}")
    return _Line("warning", "cursor_closed", {**fields, "advice": advice})


def _request(signal: signals.RequestAnswered) -> _Line:
    fields = {
        "problem": signal.problem, "status": signal.status, "ms": round(signal.secs * 1000, 1), "bytes": signal.size,
        "accepted": signal.accepted, "rejected": signal.rejected, "failed": signal.failed, "vendor": signal.vendor,
        "key": signal.key_id, "trace_id": signal.trace_id,
    }  # fmt: skip
    if signal.status >= _SERVER_ERROR or signal.status in _REFUSALS:
        return _Line("warning", "request_failed", fields, f"{signal.status} {signal.key_id}")
    return _Line("debug", "request_answered", fields)


def _of_partition(partition: Partition, **fields: object) -> dict[str, object]:
    return {"partition": str(partition), **fields}


def _trouble(event: str) -> Callable[[Any], _Line]:
    return lambda signal: _Line("warning", event, {"problem": signal.problem}, signal.problem)


# fmt: off
_LINES: Final[Mapping[type, Callable[[Any], _Line]]] = {
    signals.Attempted: lambda s: _Line("debug", "attempted", _call_fields(s)),
    signals.Skipped: lambda s: _Line(
        "debug", "skipped",
        {"reason": s.reason, "origin": str(s.origin), "destination": s.destination_id or "-", **_ids(s.event)}),
    signals.DeadLettered: _dead_lettered,
    signals.MovedToRetry: _moved_to_retry,
    signals.CopyFailed: _copy_failed,
    signals.Suspended: _suspended,
    signals.Resumed: lambda s: _Line(
        "warning", "destination_resumed",
        {"destination": s.destination.id, "suspended_secs": round(s.suspended_secs), "why": s.why}),
    signals.Slowed: _slowed,
    signals.BusMissing: _bus_missing,
    signals.BusFound: _bus_found,
    signals.Flooded: lambda s: _Line("error", "flood_of_dead_letters", {"advice": _FLOOD, **s.report._asdict()}),
    signals.Membership: lambda s: _Line(
        "info", "group_joined" if s.active else "group_out_of_reach", {"group": s.group}),
    signals.PartitionsAssigned: _assigned,
    signals.PartitionsRevoked: _revoked,
    signals.Backpressure: lambda s: _Line(
        "info", "consuming_paused" if s.on else "consuming_resumed", {"events": s.events, "bytes": s.bytes}),
    signals.CommitFailed: _trouble("commit_failed"),
    signals.KafkaTrouble: _trouble("kafka_trouble"),
    signals.RecordsTrimmed: lambda s: _Line(
        "error", "records_trimmed",
        _of_partition(s.partition, expected=s.expected, first=s.first, advice=_TRIMMED)),
    signals.PartitionUnread: lambda s: _Line(
        "warning", "partition_unread",
        _of_partition(s.partition, position=s.position, secs=round(s.secs), advice=_UNREAD), str(s.partition)),
    signals.OffsetsSkipped: lambda s: _Line(
        "warning", "offsets_skipped", _of_partition(s.partition, first=s.first, end=s.end, reason=s.reason)),
    signals.PartitionRestarted: lambda s: _Line(
        "warning", "partition_restarted", _of_partition(s.partition, position=s.position, advice=_RESTARTED[s.why])),
    signals.CursorOpened: _cursor_opened,
    signals.CursorTrimmed: _cursor_trimmed,
    signals.CursorEndangered: _cursor_endangered,
    signals.CursorClosed: _cursor_closed,
    signals.RequestAnswered: _request,
    signals.ApiKeysChanged: lambda s: _Line(
        "error", "api_keys_refused", {"problem": s.problem, "in_use": s.active}
    ) if s.problem else _Line("info", "api_keys", {"in_use": s.active}),
    signals.DocumentRefused: lambda s: _Line("error", "destination_refused", s._asdict()),
    signals.DocumentCaveat: lambda s: _Line("warning", "destination_caveat", s._asdict()),
    signals.SettingCaveat: lambda s: _Line("warning", "setting_caveat", s._asdict()),
    signals.OwnCredentialsFailed: lambda s: _Line("warning", "own_credentials_failed", s._asdict(), s.code),
    signals.OwnCredentialsFound: lambda _: _Line("info", "own_credentials_found", {}),
    signals.RegistryChanged: lambda s: _Line(
        "info", "destinations",
        {"put": _first(s.put), "removed": _first(s.removed), "in_use": s.good, "refused": s.bad}),
    signals.RegistryTrouble: _trouble("registry_trouble"),
    signals.FleetTrouble: _trouble("fleet_trouble"),
    signals.NoticesLost: lambda s: _Line("warning", "notices_lost", {"records": s.notices}),
}
"""The line about each signal but `Consumed`, which is followed by others about the same event."""
# fmt: on

"""Logs: one line per change of state, JSON for machines, plain for a terminal. The only room that writes them."""

from __future__ import annotations

import logging
import sys
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO, cast, final

import structlog

from pushrail_stream.core.bus_status import Swallowed
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import Delivered
from pushrail_stream.core.signals import (
    ApiKeysChanged,
    Attempted,
    Backpressure,
    BusFound,
    BusMissing,
    CommitFailed,
    Consumed,
    CopyFailed,
    DeadLettered,
    DocumentCaveat,
    DocumentRefused,
    Flooded,
    KafkaTrouble,
    Membership,
    MovedToRetry,
    OffsetsSkipped,
    PartitionRestarted,
    PartitionsAssigned,
    PartitionsRevoked,
    PartitionUnread,
    RecordsTrimmed,
    RegistryChanged,
    RegistryTrouble,
    RequestAnswered,
    RestartReason,
    Resumed,
    SettingCaveat,
    Signal,
    Skipped,
    Slowed,
    Suspended,
)
from pushrail_stream.core.text import format_rfc3339, safe_message
from pushrail_stream.observe.log_stream import LogStream
from pushrail_stream.observe.sampling import Sampling

Logger = structlog.typing.FilteringBoundLogger
LEVELS: Final = ("debug", "info", "warning", "error")
_MANY: Final = 5
_SERVER_ERROR: Final = 500
_TRACE_CHARS: Final = 1_000
_WORTH_SAYING: Final = frozenset({401, 403, 429})
"""Refusals that operators hear of, once in a while; the others are between us and the producer."""
_FLOOD: Final = (
    "consuming has stopped: a release of a producer, or ours, is at fault. Mend it, or set flood_guard.enabled "
    "to false to let them become dead letters; then restart the workers"
)
_UNREAD: Final = (
    "Kafka has records above `position` that the client cannot read; `kafka_trouble` says why. If a batch cannot be "
    "decompressed, `topics skip` steps over it"
)
_ANEW: Final[Mapping[RestartReason, str]] = {
    "recreated": "the topic was deleted and created again: it is read from its beginning, and records that were read "
    "before the worker noticed this are delivered again",
    "went_back": "Kafka went back below `position`, as it does after an unclean leader election: records that are "
    "there are delivered, some of them again, and records that the log has lost cannot be read any more",
}
_TRIMMED: Final = (
    "the records from `expected` to below `first` were removed before a worker had read them, by the topic's "
    "retention or by hand: have their producers send them again, and see that retention.ms outlasts any outage"
)


def open_log(level: str, *, stream: TextIO | None = None, as_json: bool = False, **context: Any) -> Logger:
    """A logger to ``stream`` (standard error): readable on a terminal, one JSON object a line anywhere else.

    A line that cannot be written is counted (`LogStream.lost_lines`); logging raises nothing.
    """
    out: TextIO | None = stream or sys.stderr  # None when the process was started without one
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer()
        if out is not None and not as_json and out.isatty()
        else structlog.processors.JSONRenderer()
    )
    log: Logger = structlog.wrap_logger(
        # Line and line end in one write, because several workers may share the stream.
        structlog.WriteLogger(cast("TextIO", LogStream(out))),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
    )
    return log.bind(**context)


def forward_log(name: str, log: Logger) -> None:
    """Let what a library writes to the standard logger ``name``, from warnings on, appear in ``log``, sampled."""
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [_Forward(logging.WARNING, log, name)], False


@final
class _Forward(logging.Handler):
    def __init__(self, level: int, log: Logger, name: str) -> None:
        super().__init__(level)
        self._log = log
        self._source = name
        self._sampling = Sampling()

    def emit(self, record: logging.LogRecord) -> None:
        more: dict[str, Any] | None = self._sampling.says(record.name, f"{record.levelno} {record.msg}")
        if more is None:
            return
        if record.exc_info:
            more["exception"] = safe_message("".join(traceback.format_exception(*record.exc_info))[-_TRACE_CHARS:])
        self._log.log(record.levelno, self._source, message=safe_message(record.getMessage()), **more)


@final
class LogObserver:
    """Writes signals to the log: state changes at info, trouble at warning, single deliveries at debug."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._is_debug = log.is_enabled_for(logging.DEBUG)
        """Asked once: what a line would say is not put together where nobody reads it."""
        self._sampling = Sampling()

    def __call__(self, signal: Signal) -> None:
        """See one signal."""
        match signal:
            case Attempted():
                self._attempted(signal)
            case Skipped() | MovedToRetry() | DeadLettered():
                self._unsent(signal)
            case Suspended() | Resumed() | Slowed() | BusMissing() | BusFound():
                self._health(signal)
            case DocumentRefused() | DocumentCaveat() | RegistryChanged() | RegistryTrouble():
                self._registry(signal)
            case (
                CopyFailed() | CommitFailed() | KafkaTrouble() | RecordsTrimmed() | PartitionUnread() | OffsetsSkipped()
                | PartitionRestarted()
            ):  # fmt: skip
                self._failed(signal)
            case RequestAnswered() | ApiKeysChanged():
                self._ingest(signal)
            case Consumed():
                pass  # comes per event, and what becomes of it is said
            case _:
                self._state(signal)

    def _unsent(self, signal: Skipped | MovedToRetry | DeadLettered) -> None:
        match signal:
            case Skipped(event, origin, destination_id, _, reason):
                if self._is_debug:
                    self._log.debug(
                        "skipped", reason=reason, origin=str(origin), destination=destination_id or "-", **_ids(event)
                    )
            case MovedToRetry(copy, topic):
                if self._is_debug:
                    self._log.debug(
                        "moved_to_retry", topic=topic, reason=copy.reason, destination=copy.destination_id,
                        origin=str(copy.record.origin), attempts=copy.attempts, **_ids(copy.event),
                    )  # fmt: skip
            case DeadLettered(letter, event):
                where = letter.destination_id or "-"
                self._trouble(
                    f"{letter.reason} {letter.code} {where}",
                    "dead_lettered",
                    reason=letter.reason,
                    code=letter.code,
                    message=letter.message,
                    destination=where,
                    origin=str(letter.record.origin),
                    **_ids(event),
                )

    def _health(self, signal: Suspended | Resumed | Slowed | BusMissing | BusFound) -> None:
        where = signal.destination.id
        match signal:
            case Suspended(_, code, message, probe_in_secs, first):
                self._log.warning(
                    "destination_suspended" if first else "probe_blocked",
                    destination=where, code=code, message=message, probe_in_secs=round(probe_in_secs),
                )  # fmt: skip
            case Resumed(_, suspended_secs):
                self._log.warning("destination_resumed", destination=where, suspended_secs=round(suspended_secs))
            case BusMissing(destination, bus, swallowed):
                seen = None if bus.last_seen_ms is None else format_rfc3339(bus.last_seen_ms)
                self._log.error(
                    "bus_missing", destination=where, bus=destination.bus, last_seen=seen, **_lost(where, swallowed)
                )
            case BusFound(_, missing_secs, swallowed):
                self._log.warning(
                    "bus_found", destination=where, missing_secs=round(missing_secs), **_lost(where, swallowed)
                )
            case Slowed(_, in_flight, most):
                self._log.debug("destination_slowed", destination=where, in_flight=in_flight, most=most)

    def _registry(self, signal: DocumentRefused | DocumentCaveat | RegistryChanged | RegistryTrouble) -> None:
        match signal:
            case DocumentRefused(document, field, problem):
                self._log.error("destination_refused", document=document, field=field, problem=problem)
            case DocumentCaveat(document, field, problem):
                self._log.warning("destination_caveat", document=document, field=field, problem=problem)
            case RegistryChanged(put, removed, good, bad):
                self._log.info("destinations", put=_some(put), removed=_some(removed), in_use=good, refused=bad)
            case RegistryTrouble(problem):
                self._trouble(problem, "registry_trouble", problem=problem)

    def _failed(
        self,
        signal: CopyFailed
        | CommitFailed
        | KafkaTrouble
        | RecordsTrimmed
        | PartitionUnread
        | OffsetsSkipped
        | PartitionRestarted,
    ) -> None:
        match signal:
            case CopyFailed(copy, problem, retry_in_secs):
                origin = str(copy.record.origin)
                self._trouble(problem, "copy_failed", origin=origin, problem=problem, retry_in_secs=retry_in_secs)
            case CommitFailed(problem):
                self._trouble(problem, "commit_failed", problem=problem)
            case KafkaTrouble(problem):
                self._trouble(problem, "kafka_trouble", problem=problem)
            case _:
                self._partition(signal)

    def _partition(self, signal: RecordsTrimmed | PartitionUnread | OffsetsSkipped | PartitionRestarted) -> None:
        match signal:
            case PartitionUnread(partition, position, secs):
                self._trouble(
                    str(partition), "partition_unread",
                    partition=str(partition), position=position, secs=round(secs), advice=_UNREAD,
                )  # fmt: skip
            case OffsetsSkipped(partition, first, end, reason):
                self._log.warning("stepped_over", partition=str(partition), first=first, end=end, reason=reason)
            case PartitionRestarted(partition, why, position):
                self._log.warning(
                    "partition_started_anew",
                    partition=str(partition), position=position, advice=_ANEW[why],
                )  # fmt: skip
            case RecordsTrimmed(partition, expected, first):
                self._log.error(
                    "records_removed_unread",
                    partition=str(partition), expected=expected, first=first, advice=_TRIMMED,
                )  # fmt: skip

    def _ingest(self, signal: RequestAnswered | ApiKeysChanged) -> None:
        match signal:
            case RequestAnswered(status, secs, size, accepted, rejected, failed, vendor, key_id, trace_id, problem):
                fields = {
                    "status": status, "ms": round(secs * 1000, 1), "bytes": size, "accepted": accepted,
                    "rejected": rejected, "failed": failed, "vendor": vendor, "key": key_id, "trace_id": trace_id,
                }  # fmt: skip
                if status >= _SERVER_ERROR or status in _WORTH_SAYING:
                    self._trouble(f"{status} {key_id}", "not_taken", problem=problem, **fields)
                else:
                    self._log.debug("answered", problem=problem, **fields)
            case ApiKeysChanged(active, ""):
                self._log.info("api_keys", in_use=active)
            case ApiKeysChanged(active, problem):
                self._log.error("api_keys_refused", problem=problem, in_use=active)

    def _state(
        self, signal: PartitionsAssigned | PartitionsRevoked | Backpressure | Flooded | Membership | SettingCaveat
    ) -> None:
        match signal:
            case SettingCaveat(setting, problem):
                self._log.warning("setting_caveat", setting=setting, problem=problem)
            case PartitionsAssigned(partitions):
                starts = {str(p): "group's reset policy" if at is None else at for p, at in partitions}
                self._log.info("partitions_assigned", partitions=starts)
            case PartitionsRevoked(partitions, lost, dropped):
                names = [str(p) for p in partitions]
                self._log.info("partitions_lost" if lost else "partitions_revoked", partitions=names, dropped=dropped)
            case Backpressure(on, events, size):
                self._log.info("holding_back" if on else "consuming_again", events=events, bytes=size)
            case Flooded(report):
                self._log.error("flood_of_dead_letters", advice=_FLOOD, **report._asdict())
            case Membership(group, active):
                self._log.info("group_joined" if active else "group_out_of_reach", group=group)

    def _attempted(self, signal: Attempted) -> None:
        if self._is_debug:
            self._log.debug("attempted", **_wide(signal))
        fault = signal.own_fault
        if fault is not None:
            self._trouble(f"ours {fault.code}", "our_own_fault", code=fault.code, message=fault.message)

    def _trouble(self, key: str, event: str, /, **fields: Any) -> None:
        """Warn, but not again and again: lines of the same ``key`` are sampled. A field may have any name."""
        more = self._sampling.says(event, key)
        if more is not None:
            self._log.warning(event, **fields, **more)


def _wide(signal: Attempted) -> dict[str, Any]:
    """Everything about a call in one line: what to search by, and what became of it."""
    entries = signal.entries
    outcomes = Counter(type(entry.outcome).__name__.lower() for entry in entries)
    codes = Counter(entry.outcome.code for entry in entries if not isinstance(entry.outcome, Delivered))
    events = [entry.event for entry in entries]
    recorded = [entry.recorded_at_ms for entry in entries if entry.recorded_at_ms is not None]
    return {
        "destination": signal.destination.id,
        "vendor": signal.destination.vendor,
        "customer": signal.destination.customer_external_id,
        "region": signal.destination.region,
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


def _lost(destination_id: str, swallowed: Swallowed | None) -> dict[str, Any]:
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


def _some(ids: Sequence[str]) -> list[str]:
    """The ids, or how many, where they would fill the line."""
    return list(ids) if len(ids) <= _MANY else [*ids[:_MANY], f"and {len(ids) - _MANY} more"]

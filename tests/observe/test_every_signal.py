"""Every signal passes through every observer: none of them may raise, and the log says what it should."""

from __future__ import annotations

import importlib
import io
import pkgutil
from collections.abc import Callable
from typing import Any, Final, get_args

import pytest
from opentelemetry.sdk.trace import TracerProvider

import pushrail_stream.ingest
import pushrail_stream.observe
from pushrail_stream.core.bus_status import MissingBus, Swallowed
from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Problem, Replay
from pushrail_stream.core.event import valid_traceparent
from pushrail_stream.core.flood_guard import FloodReport
from pushrail_stream.core.outcome import Blocked, Delivered, Rejected, Retryable, Throttled
from pushrail_stream.core.record import Partition
from pushrail_stream.core.retry import DeadLetter, RetryInMemory, RetryOnTopic, Settled, Tier
from pushrail_stream.core.signals import (
    ApiKeysChanged,
    Backpressure,
    BusFound,
    BusMissing,
    CommitFailed,
    Consumed,
    CopyFailed,
    CursorClosed,
    CursorEndangered,
    CursorOpened,
    CursorTrimmed,
    DeadLettered,
    DocumentCaveat,
    DocumentRefused,
    FleetTrouble,
    Flooded,
    KafkaTrouble,
    Membership,
    MovedToRetry,
    NoticesLost,
    OffsetsSkipped,
    OwnCredentialsFailed,
    OwnCredentialsFound,
    PartitionRestarted,
    PartitionsAssigned,
    PartitionsRevoked,
    PartitionUnread,
    RecordsTrimmed,
    RegistryChanged,
    RegistryTrouble,
    RequestAnswered,
    Resumed,
    SettingCaveat,
    Signal,
    Skipped,
    Slowed,
    Suspended,
)
from pushrail_stream.ingest.metrics import IngestMetrics
from pushrail_stream.observe.attempts import AttemptsLog
from pushrail_stream.observe.fan_out import FanOut, OpenFiles
from pushrail_stream.observe.incidents import RecentIncidents
from pushrail_stream.observe.log_observer import LogObserver
from pushrail_stream.observe.logging import open_log
from pushrail_stream.observe.notices import Notices
from pushrail_stream.observe.readiness import Readiness
from pushrail_stream.observe.signal_counts import SignalCounts
from pushrail_stream.observe.tracing import Tracing
from pushrail_stream.ports.pipeline import Observer
from tests.support.builders import destination
from tests.support.records import record
from tests.support.signals import AT_MS, attempted, changed, event_of, letter, lines
from tests.support.stats import stats_of

TRACED: Final = valid_traceparent(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
EVENT: Final = event_of(record(7))._replace(traceparent=TRACED)
PLACE: Final = record(7).origin
PARTITION: Final = Partition("pushrail.events", 3)
BUS: Final = destination()
TIER: Final = Tier("pushrail.retry.10s", 10)
REPLAY: Final = Replay("replay_1", 2)
COPY: Final = Copy(
    record=record(7), reason="retryable", failed_at_ms=AT_MS, problem=Problem("Code", "no", "request"), tier=TIER,
    attempts=3, destination_id=BUS.id, first_attempt_ms=AT_MS, replay=REPLAY, event=EVENT,
)  # fmt: skip
ATTEMPT: Final = attempted(
    (Delivered("id"), Settled()),
    (Retryable("ServiceUnavailable", "no"), RetryInMemory(0.2, "retryable")),
    (Throttled("ThrottlingException", "slow"), RetryOnTopic(TIER, "throttled")),
    (Blocked("AccessDenied", "no"), DeadLetter("blocked", "AccessDenied", "no")),
    (Rejected("MalformedDetail", "no"), DeadLetter("rejected", "MalformedDetail", "no")),
)
OUR_ATTEMPT: Final = attempted(
    (Retryable("BaseCredentialsMissing", "none", is_our_fault=True), RetryInMemory(1, "retryable"))
)


def answered(status: int, problem: str = "") -> RequestAnswered:
    return RequestAnswered(
        status, 0.01, 100, 1, 2, 3, "acme", "k4ab2cdefg", "0af7651916cd43dd8448eb211c80319c", problem
    )


TABLE: Final[list[tuple[Signal, str | None]]] = [
    (Consumed(EVENT, PLACE, 2, AT_MS - 40, AT_MS), None),
    (changed(ATTEMPT, event=EVENT), "attempted"),
    (OUR_ATTEMPT._replace(http_status=None, request_id=None), "our_own_fault"),
    (Skipped(EVENT, PLACE, None, None, "no_destination", "live", AT_MS), "skipped"),
    (Skipped(EVENT, PLACE, BUS.id, BUS.bus.arn, "disabled", "replay", AT_MS, "replay_1"), "skipped"),
    (DeadLettered(letter("blocked", "AccessDenied", "no", attempts=1, to=BUS.id), EVENT), "dead_lettered"),
    (DeadLettered(letter("undecodable", "payload", "is missing"), None), "dead_lettered"),
    (MovedToRetry(COPY, TIER.topic), "moved_to_retry"),
    (CopyFailed(COPY, "no leader", 1.0), "copy_failed"),
    (CopyFailed(letter("rejected", "Code", "no"), "no leader", 1.0), "copy_failed"),
    (Suspended(BUS, "AccessDenied", "no", 30.0, first=True), "destination_suspended"),
    (Suspended(BUS, "AccessDenied", "no", 60.0, first=False), "probe_blocked"),
    (Resumed(BUS, 31.0), "destination_resumed"),
    (BusMissing(BUS, MissingBus(2_000, None), None), "bus_missing"),
    (BusFound(BUS, 12.0, Swallowed(3, 1_500, 2_001)), "bus_found"),
    (Flooded(FloodReport(10, 9, 8, 7, 60)), "flood_of_dead_letters"),
    (Slowed(BUS, 4, 8), "destination_slowed"),
    (Membership("pushrail-stream", active=True), "group_joined"),
    (Membership("pushrail-stream", active=False), "group_out_of_reach"),
    (PartitionsAssigned(((PARTITION, 17), (PARTITION, None))), "partitions_assigned"),
    (PartitionsRevoked((PARTITION,), lost=False, dropped=2), "partitions_revoked"),
    (PartitionsRevoked((PARTITION,), lost=True, dropped=2), "partitions_lost"),
    (DocumentRefused("a.json", "region", "is missing"), "destination_refused"),
    (DocumentCaveat("a.json", "auth", "is not sealed"), "destination_caveat"),
    (RegistryChanged(tuple("abcdefg"), ("h",), 7, 1), "destinations"),
    (RegistryTrouble("no such folder"), "registry_trouble"),
    (FleetTrouble("topic pushrail.workers does not exist"), "fleet_trouble"),
    (NoticesLost(3), "notices_lost"),
    (answered(202), "request_answered"),
    (answered(422, "eventType: is missing"), "request_answered"),
    (answered(401, "give an API key"), "request_failed"),
    (answered(503, "Kafka did not acknowledge"), "request_failed"),
    (answered(400)._replace(vendor=None, key_id=None, trace_id=None), "request_answered"),
    (ApiKeysChanged(3, ""), "api_keys"),
    (ApiKeysChanged(3, "is not JSON"), "api_keys_refused"),
    (Backpressure(on=True, events=10, bytes=10), "consuming_paused"),
    (Backpressure(on=False, events=10, bytes=10), "consuming_resumed"),
    (RecordsTrimmed(PARTITION, 17, 30), "records_trimmed"),
    (SettingCaveat("vendor", "is not set"), "setting_caveat"),
    (PartitionUnread(PARTITION, 17, 61.0), "partition_unread"),
    (OffsetsSkipped(PARTITION, 17, 30, "too large"), "offsets_skipped"),
    (PartitionRestarted(PARTITION, "recreated", 17), "partition_restarted"),
    (CursorOpened(PARTITION, BUS.id, 17, 250), "cursor_opened"),
    (CursorTrimmed(PARTITION, BUS.id, 17, 30, 4), "cursor_trimmed"),
    (CursorEndangered(PARTITION, BUS.id, 17, 11), "cursor_endangered"),
    (CursorClosed(PARTITION, BUS.id, "caught_up"), "cursor_closed"),
    (CursorClosed(PARTITION, BUS.id, "recreated"), "cursor_closed"),
    (CommitFailed("no coordinator"), "commit_failed"),
    (OwnCredentialsFailed("BaseCredentialsMissing", "none"), "own_credentials_failed"),
    (OwnCredentialsFound(), "own_credentials_found"),
    (KafkaTrouble("1/3 brokers are down"), "kafka_trouble"),
]
"""Signals, at least one of each kind, and the last line that the log writes about each (None: nothing)."""


def _write(key: bytes, *values: bytes) -> None:
    assert isinstance(key, bytes)
    assert values
    assert all(isinstance(value, bytes) for value in values)


def _log(level: str) -> Observer:
    return LogObserver(open_log(level, stream=io.StringIO()))


OBSERVERS: Final[dict[type, Callable[[], Observer]]] = {
    LogObserver: lambda: _log("debug"),
    SignalCounts: SignalCounts,
    AttemptsLog: lambda: AttemptsLog(_write),
    Notices: lambda: Notices(_write, "group", "worker", lambda: AT_MS, lambda _id: None),
    Readiness: lambda: Readiness(["pushrail-stream"], stats_of()),
    RecentIncidents: lambda: RecentIncidents(lambda: AT_MS),
    Tracing: lambda: Tracing(TracerProvider().get_tracer("test")),
    IngestMetrics: IngestMetrics,
    OpenFiles: lambda: OpenFiles(_log("info"), limit=1, max_in_flight=8),
    FanOut: lambda: FanOut([_log("info")], open_log("info", stream=io.StringIO())),
}


def test_the_table_has_every_signal() -> None:
    assert {type(signal) for signal, _ in TABLE} == set(get_args(Signal))


def test_the_table_has_every_observer() -> None:
    modules = [
        importlib.import_module(found.name)
        for room in (pushrail_stream.observe, pushrail_stream.ingest)
        for found in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
    ]
    observers = {
        kind
        for module in modules
        for kind in vars(module).values()
        if isinstance(kind, type) and kind.__module__ == module.__name__ and _sees_signals(kind)
    }
    assert set(OBSERVERS) == observers


def _sees_signals(kind: Any) -> bool:
    call = vars(kind).get("__call__")
    return call is not None and call.__annotations__.get("signal") == "Signal"


@pytest.mark.parametrize("observer", OBSERVERS.values(), ids=lambda make: type(make()).__name__)
@pytest.mark.parametrize("signal", [signal for signal, _ in TABLE], ids=lambda signal: type(signal).__name__)
def test_every_observer_accepts_every_signal(observer: Callable[[], Observer], signal: Signal) -> None:
    observer()(signal)


@pytest.mark.parametrize(("signal", "event"), TABLE, ids=lambda part: type(part).__name__)
def test_every_signal_has_its_log_event(signal: Signal, event: str | None) -> None:
    stream = io.StringIO()
    LogObserver(open_log("debug", stream=stream))(signal)
    said = [line["event"] for line in lines(stream)]
    assert said[-1:] == ([] if event is None else [event])


@pytest.mark.parametrize("observer", OBSERVERS.values(), ids=lambda make: type(make()).__name__)
def test_observers_that_take_all_are_readable(observer: Callable[[], Observer]) -> None:
    seen = observer()
    for signal, _ in TABLE:
        seen(signal)
    for ask in ("collect", "reasons", "newest_first"):
        if hasattr(seen, ask):
            assert list(getattr(seen, ask)()) is not None

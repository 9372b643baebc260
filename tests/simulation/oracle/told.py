"""Made-up stories for the tests of the oracle: a good one in a few lines, which a test then spoils."""

from __future__ import annotations

import json
from typing import Any, Final

from pushrail_stream.core.commit import Committable, encode_metadata
from pushrail_stream.core.cursor_state import CursorState, encode_cursors
from pushrail_stream.core.headers import DeliveryHeaders, connect_headers, encode_headers
from pushrail_stream.core.record import Headers, Origin, Partition, Record, TopicIdentity
from pushrail_stream.core.signals import PartitionsAssigned
from pushrail_stream.settings.model import Settings
from tests.simulation.oracle.deliveries import Deliveries
from tests.simulation.oracle.evidence import Call, Commit, DocumentEdit, Entry, Evidence, SignalSeen, Written

EVENTS: Final = "pushrail.events"
TIER: Final = "pushrail.retry.10s"
DLQ: Final = "pushrail.dlq"
WORKER: Final = "worker-1"
BUS: Final = "arn:aws:events:us-east-1:123456789012:event-bus/one"
ROLE: Final = "arn:aws:iam::123456789012:role/Writer"
ONE: Final = "dst_one"
CUSTOMER: Final = "acct_one"
EPOCH_MS: Final = 1_790_000_000_000
_IDS: Final = {EVENTS: "id-of-events", TIER: "id-of-tier", DLQ: "id-of-dlq"}


class Told:
    """A story as its evidence. Times are virtual seconds."""

    def __init__(self, **settings: Any) -> None:
        self.evidence = Evidence(Settings(vendor="acme", **settings), EPOCH_MS / 1000)
        self.evidence.ended_at = 10_000.0
        self._ends: dict[tuple[str, str | None], int] = {}
        self._number = 0

    @property
    def story(self) -> Deliveries:
        """The story so far, with its indexes."""
        return Deliveries(self.evidence)

    def document(self, at: float = 0.0, content: bytes | None = b"", name: str = ONE, **changes: Any) -> None:
        """A document is written; ``content`` takes the place of a good one, and None deletes it."""
        value: dict[str, Any] = {
            "id": name,
            "vendor": "acme",
            "customerExternalId": CUSTOMER,
            "type": "EVENTBRIDGE",
            "busArn": BUS,
            "region": "us-east-1",
            "auth": {"mode": "ASSUME_ROLE", "roleArn": ROLE, "externalId": "external-1"},
            **changes,
        }
        edited = json.dumps(value).encode() if content == b"" else content
        self.evidence.edits.append(DocumentEdit(at, name, edited))

    def write(self, at: float, topic: str, value: bytes, headers: Headers = (), host: str = "", **more: Any) -> Written:
        """A record is written. ``more``: other fields of `Written`, and ``topic_id``."""
        topic_id = more.pop("topic_id", _IDS.get(topic, f"id-of-{topic}"))
        offset = self._ends.get((topic, topic_id), 0)
        self._ends[topic, topic_id] = offset + 1
        key = more.pop("key", CUSTOMER.encode())
        record = Record(topic, 0, offset, key, value, headers, EPOCH_MS + round(1000 * at), topic_id)
        one = Written(at, record, host, more.pop("acknowledged_at", at), **more)
        self.evidence.written.append(one)
        return one

    def event(self, at: float, number: int = 0, *, value: bytes | None = None, **more: Any) -> Written:
        """An event is produced. Events of the same number have the same bytes."""
        return self.write(at, EVENTS, event_value(number) if value is None else value, **more)

    def copy(
        self, at: float, event: Written, reason: str = "retryable", destination: str | None = ONE, **more: Any
    ) -> Written:
        """A worker writes a copy: to the DLQ when the reason is one of a dead letter. ``more``: headers."""
        is_dead = reason not in {"retryable", "throttled", "held"}
        host, acknowledged = more.pop("host", WORKER), more.pop("acknowledged_at", at)
        origin: Origin = more.pop("origin", event.origin)
        failed_at_ms: int = more.pop("failed_at_ms", EPOCH_MS + round(1000 * at))
        attempts: int = more.pop("attempts", 1)
        headers = DeliveryHeaders(
            origin=origin,
            attempts=attempts,
            reason=reason,
            failed_at_ms=failed_at_ms,
            destination=destination,
            **more,
        )
        encoded = encode_headers(headers, event.record.headers)
        if is_dead:
            encoded = (*encoded, *connect_headers(origin, reason))
        value = event.record.value or b""
        return self.write(at, DLQ if is_dead else TIER, value, encoded, host, acknowledged_at=acknowledged)

    def call(self, at: float, *events: Written, **more: Any) -> Call:
        """A worker calls PutEvents, and the bus takes all entries."""
        self._number += 1
        entries = tuple(
            Entry(one.record.value or b"", resources_of(one), f"event-id-{self._number}-{index}")
            for index, one in enumerate(events)
        )
        fields: dict[str, Any] = {
            "host": WORKER, "api": "PutEvents", "target": BUS, "request_id": f"request-{self._number}", "status": 200,
            "entries": entries, "answered_at": at + 0.1, **more,
        }  # fmt: skip
        call = Call(at, **fields)
        self.evidence.calls.append(call)
        return call

    def refused(self, at: float, *events: Written, fault: str = "customer", code: str = "AccessDenied") -> Call:
        """A worker calls PutEvents, and is refused."""
        call = self.call(at, *events, status=400, fault=fault)
        call.entries = tuple(one._replace(event_id=None, code=code, fault=None) for one in call.entries)
        return call

    def commit(self, at: float, offset: int, topic: str = EVENTS, settled: tuple[int, ...] = (), **more: Any) -> None:
        """A worker commits. ``cursors``: those that the commit names."""
        topic_id = more.pop("topic_id", _IDS[topic])
        metadata = encode_metadata(
            offset, list(settled), TopicIdentity("cluster", topic_id), cursors=encode_cursors(more.pop("cursors", []))
        )
        group = "pushrail-stream" if topic == EVENTS else "pushrail-stream.retry"
        fields = {"host": WORKER, **more}
        self.evidence.commits.append(
            Commit(at, group, Partition(topic, 0), topic_id, Committable(offset, metadata), **fields)
        )

    def cursor(self, since: int, following: int, to: int | None = None, *still: int, name: str = ONE) -> CursorState:
        """A cursor as a commit names it. ``still``: the offsets below ``following`` that it still delivers."""
        return CursorState(
            destination_id=name, since=since, next=following, to=to, oldest_ms=EPOCH_MS, opened_ms=EPOCH_MS, open=still
        )

    def assign(self, at: float, host: str = "worker-2", topic: str = EVENTS) -> None:
        """A worker gets the partition of a topic."""
        signal = PartitionsAssigned(((Partition(topic, 0), None),))
        self.evidence.signals.append(SignalSeen(at, host, signal))

    def attempt(self, at: float, /, event: Written, call: Call | None = None, **fields: Any) -> Written:
        """A worker writes an attempts record: of a delivered entry when there is a call."""
        self._number += 1
        origin = event.origin
        said: dict[str, Any] = {
            "attemptId": f"attempt-{self._number}",
            "vendor": "acme",
            "customerExternalId": CUSTOMER,
            "destinationId": ONE,
            "eventType": "order.completed",
            "idempotencyKey": resources_of(event)[1],
            "correlationId": None,
            "origin": {
                "topic": origin.topic,
                "partition": origin.partition,
                "offset": origin.offset,
                "topicId": origin.topic_id,
            },
        }
        if call is not None:
            index = next(i for i, entry in enumerate(call.entries) if entry.detail == event.record.value)
            said |= {
                "status": "delivered", "attempt": 1, "requestId": call.request_id, "batchIndex": index,
                "batchSize": len(call.entries), "busArn": call.target,
                "eventBridgeEventId": call.entries[index].event_id,
            }  # fmt: skip
        return self.write(at, "pushrail.attempts", json.dumps(said | fields).encode(), host=WORKER, key=ONE.encode())


def event_value(number: int, **changes: Any) -> bytes:
    """A canonical event."""
    fields = {
        "eventType": "order.completed",
        "occurredAt": "2026-05-26T14:21:08.493Z",
        "source": "billing",
        "customerExternalId": CUSTOMER,
        "idempotencyKey": f"key-{number}",
        "payload": {},
        **changes,
    }
    return json.dumps(fields).encode()


def resources_of(event: Written) -> tuple[str, str]:
    """The resources of an event's entry."""
    fields = json.loads(event.record.value or b"{}")
    return fields.get("customerExternalId", ""), fields.get("idempotencyKey", "")


def delivered(**settings: Any) -> tuple[Told, Written]:
    """A good story of one event: written, delivered, committed and recorded."""
    told = Told(**settings)
    told.document()
    event = told.event(1_000.0)
    call = told.call(1_001.0, event)
    told.commit(1_002.0, 1)
    told.attempt(1_002.5, event, call)
    return told, event

"""The attempts log: one record per event and attempt, and one for every event that is not sent.

CONTRACTS.md, "The attempt record", lists the fields.
"""

from __future__ import annotations

import uuid
from itertools import count
from typing import Any, Final, Protocol, final

import orjson

from pushrail_stream.core.copy import Copy
from pushrail_stream.core.delivery import Trigger
from pushrail_stream.core.event import Event
from pushrail_stream.core.identity import identify
from pushrail_stream.core.outcome import Delivered, NotDelivered
from pushrail_stream.core.record import Origin, Record
from pushrail_stream.core.retry import DeadLetter, Decision, RetryInMemory, RetryOnTopic
from pushrail_stream.core.signals import Attempted, DeadLettered, Signal, Skipped
from pushrail_stream.core.text import format_rfc3339

_ID_DIGITS: Final = 16
"""Hexadecimal digits of the random part of a worker's ids. They have 60 random bits, because one digit is the UUID's
version. Of a million starts, two have the same part with a probability of 1 in 2 million."""


class Write(Protocol):
    """Writes records."""

    def __call__(self, key: bytes, *values: bytes) -> None:
        """Write a record of this key for each of the values."""


@final
class AttemptsLog:
    """Turns signals into attempt records, keyed by destination id, or by customer if there is no destination."""

    def __init__(self, write: Write) -> None:
        """``write`` never waits and never raises."""
        self._write = write
        # The random part differs in each worker and after each start, the number in each call of this one.
        self._ids = map(f"{uuid.uuid4().hex[:_ID_DIGITS]}-{{:x}}".format, count())

    def __call__(self, signal: Signal) -> None:
        match signal:
            case Attempted():
                self._attempted(signal)
            case Skipped(event, origin, destination_id, bus, reason, trigger, at_ms, replay_id):
                known = {} if destination_id is None else {"destinationId": destination_id, "busArn": bus}
                record = _event_part(event, origin) | known | self._unsent_part(at_ms, trigger)
                record |= {"status": "skipped", "reason": reason}
                if replay_id is not None:
                    record["replayId"] = replay_id
                self._append(destination_id or event.customer_external_id, record)
            case DeadLettered(letter, event) if not letter.reported:
                record = _dead_part(letter, event) | self._unsent_part(letter.failed_at_ms, letter.trigger)
                self._append(letter.destination_id or record.get("customerExternalId", ""), record)
            case _:
                pass

    def _attempted(self, signal: Attempted) -> None:
        destination = signal.destination
        # One id per call and position: an attempt record is found from the call, and the call from the record.
        call_id = next(self._ids)
        call = {
            "at": format_rfc3339(signal.at_ms),
            "durationMs": round(signal.duration_secs * 1000, 3),
            "destinationId": destination.id,
            "busArn": destination.bus.arn,
            "vendor": destination.vendor,
            "customerExternalId": destination.customer_external_id,
            "httpStatus": signal.http_status,
            "requestId": signal.request_id,
            "batchSize": len(signal.deliveries),
        }
        # The call's part is the same in each record: it is serialised once and joined, object to object.
        head = orjson.dumps(call)[:-1] + b","
        records = list[bytes]()
        for index, delivery in enumerate(signal.deliveries):
            event = delivery.event
            record = {
                "attemptId": f"{call_id}-{index}",
                "eventType": event.event_type,
                "idempotencyKey": event.idempotency_key,
                "correlationId": event.correlation_id,
                "origin": _origin_part(delivery.record),
                "attempt": signal.attempts[index],
                "trigger": delivery.trigger,
                "batchIndex": index,
                "entryBytes": delivery.size,
            }
            if delivery.replay is not None:
                record["replayId"] = delivery.replay.id
            outcome = signal.outcomes[index]
            if isinstance(outcome, Delivered):
                record["status"] = "delivered"
                record["eventBridgeEventId"] = outcome.event_id
            else:
                record |= _failed_part(outcome, signal.decisions[index], signal)
            records.append(head + orjson.dumps(record)[1:])
        self._write(destination.id.encode(), *records)

    def _unsent_part(self, at_ms: int, trigger: Trigger) -> dict[str, Any]:
        return {"attemptId": next(self._ids), "at": format_rfc3339(at_ms), "trigger": trigger, "attempt": 0}

    def _append(self, key: str, record: dict[str, Any]) -> None:
        self._write(key.encode(), orjson.dumps(record))


def _event_part(event: Event, origin: Origin) -> dict[str, Any]:
    return {
        "vendor": event.vendor,
        "customerExternalId": event.customer_external_id,
        "eventType": event.event_type,
        "idempotencyKey": event.idempotency_key,
        "correlationId": event.correlation_id,
        "origin": _origin_part(origin),
    }


def _readable_part(malformed: Record) -> dict[str, Any]:
    """The fields that can be read of a record that is no canonical event."""
    event_type, customer, key, correlation_id = identify(malformed.value)
    read = {
        "customerExternalId": customer,
        "eventType": event_type,
        "idempotencyKey": key,
        "correlationId": correlation_id,
    }
    return {name: text for name, text in read.items() if text is not None} | {"origin": _origin_part(malformed.origin)}


def _origin_part(origin: Origin | Record) -> dict[str, Any]:
    if origin.topic_id is None:
        return {"topic": origin.topic, "partition": origin.partition, "offset": origin.offset}
    return {
        "topic": origin.topic, "partition": origin.partition, "offset": origin.offset, "topicId": origin.topic_id,
    }  # fmt: skip


def _failed_part(outcome: NotDelivered, decision: Decision, signal: Attempted) -> dict[str, Any]:
    error = {"code": outcome.code, "message": outcome.message}
    match decision:
        case DeadLetter(reason):
            return error | {"status": "dead_lettered", "reason": reason}
        case RetryOnTopic(_, reason) | RetryInMemory(_, reason) as retry:
            delay_secs = retry.tier.delay_secs if isinstance(retry, RetryOnTopic) else retry.delay_secs
            next_ms = signal.at_ms + round((signal.duration_secs + delay_secs) * 1000)
            return error | {"status": "retrying", "reason": reason, "nextAttemptAt": format_rfc3339(next_ms)}
        case _:
            raise AssertionError("only a delivered entry settles by an attempt")


def _dead_part(letter: Copy, event: Event | None) -> dict[str, Any]:
    origin = letter.record.origin
    record = _readable_part(letter.record) if event is None else _event_part(event, origin)
    if letter.replay is not None:
        record["replayId"] = letter.replay.id
    if letter.bus is not None:
        record["busArn"] = letter.bus
    return record | {
        "destinationId": letter.destination_id,
        "status": "dead_lettered",
        "reason": letter.reason,
        "code": letter.code,
        "message": letter.message,
    }

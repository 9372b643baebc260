"""Two kinds of buses for the stories: EventBridge as it is, and a small one that shares none of its rules.

A story scripts the replies of either in EventBridge's words; the small bus translates them into codes of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Final, Protocol, final

import pytest

from pushrail_stream.core.batch import Batch, CallLimits
from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.core.outcome import (
    Blocked,
    Delivered,
    Outcome,
    Refresh,
    Rejected,
    Reply,
    Retryable,
    Split,
    Throttled,
)
from pushrail_stream.eventbridge.entry import RegionLimits, entry_size
from pushrail_stream.eventbridge.error_codes import Answered, CallReply, EntryResult, interpret, is_our_fault
from pushrail_stream.settings.eventbridge import AssumeRole


class Flavour(Protocol):
    """The rules of one kind of bus: a `ports.pipeline.Bus` without its calls."""

    MAX_ENTRIES: ClassVar[int]
    """Entries in one call."""
    BYTES_PER_BYTE: ClassVar[int]
    """Bytes that the bus counts for one byte of the event."""

    def limits(self, destination: Destination) -> CallLimits: ...

    def size(self, event: Event, destination: Destination) -> int: ...

    def is_our_fault(self, code: str) -> bool: ...

    def reply(self, native: CallReply, batch: Batch, *, refreshed: bool, renew: Callable[[], bool]) -> Reply: ...

    def code(self, eventbridge: str) -> str:
        """The code with which this bus says what EventBridge says with that one."""


@final
class EventBridgeFlavour:
    """The product's own rules for EventBridge."""

    MAX_ENTRIES: ClassVar[int] = 10
    BYTES_PER_BYTE: ClassVar[int] = 1

    def __init__(self) -> None:
        self._limits = RegionLimits()

    def limits(self, destination: Destination) -> CallLimits:
        return self._limits.of(destination)

    def size(self, event: Event, destination: Destination) -> int:
        return entry_size(event, destination)

    def is_our_fault(self, code: str) -> bool:
        return is_our_fault(code)

    def reply(self, native: CallReply, batch: Batch, *, refreshed: bool, renew: Callable[[], bool]) -> Reply:
        assumed_role = isinstance(batch.destination.bus.auth, AssumeRole)
        return interpret(
            native, batch, assumed_role=assumed_role, refreshed=refreshed, renew=renew, limits=self._limits
        )

    def code(self, eventbridge: str) -> str:
        return eventbridge


_SMALL_CODES: Final[Mapping[str, str]] = {
    "InternalFailure": "HICCUP",
    "ServiceUnavailable": "CLOSED",
    "ThrottlingException": "SLOWER",
    "MalformedDetail": "UNREADABLE",
    "NotAuthorizedForSourceException": "STRANGER",
    "AccessDeniedException": "GO-AWAY",
    "ValidationException": "BAD-CALL",
    "ValidationError": "BAD-CALL",
    "SerializationException": "BAD-CALL",
    "413": "BAD-CALL",
    "503": "CLOSED",
    "ExpiredTokenException": "WHO-ARE-YOU",
    "RequestExpired": "YOUR-CLOCK",
}


@final
class SmallFlavour:
    """Takes three entries a call, counts a byte twice and knows codes of its own."""

    MAX_ENTRIES: ClassVar[int] = 3
    BYTES_PER_BYTE: ClassVar[int] = 2
    _LIMITS: Final = CallLimits(3, 1_000_000)

    def limits(self, destination: Destination) -> CallLimits:
        del destination
        return self._LIMITS

    def size(self, event: Event, destination: Destination) -> int:
        del destination
        return self.BYTES_PER_BYTE * len(event.value)

    def is_our_fault(self, code: str) -> bool:
        return code == "YOUR-CLOCK"

    def code(self, eventbridge: str) -> str:
        return _SMALL_CODES[eventbridge]

    def reply(self, native: CallReply, batch: Batch, *, refreshed: bool, renew: Callable[[], bool]) -> Reply:
        entries = len(batch.deliveries)
        if isinstance(native, Answered):
            return Reply(tuple(self._outcome(result) for result in native.entries), "answered", 200, "small-200")
        status, request_id = native.http_status, native.request_id
        code, message = self.code(native.code), native.message
        if code == "BAD-CALL":
            refused = Split(code, message) if entries > 1 else (Rejected(code, message),)
            return Reply(refused, "invalid", status, request_id)
        if code == "WHO-ARE-YOU" and not refreshed and renew():
            return Reply(Refresh(code, message), "failed", status, request_id)
        return Reply((self._failure(code, message),) * entries, "failed", status, request_id)

    def _outcome(self, result: Delivered | EntryResult) -> Outcome:
        if isinstance(result, Delivered):
            return result
        if result.code is None:
            return Delivered(result.event_id or "")
        return self._failure(self.code(result.code), result.message or "")

    @staticmethod
    def _failure(code: str, message: str) -> Outcome:
        match code:
            case "SLOWER":
                return Throttled(code, message)
            case "UNREADABLE":
                return Rejected(code, message)
            case "STRANGER" | "GO-AWAY" | "WHO-ARE-YOU":
                return Blocked(code, message)
            case _:
                return Retryable(code, message, is_our_fault=code == "YOUR-CLOCK")


every_flavour = pytest.mark.parametrize("flavour", [EventBridgeFlavour, SmallFlavour])
"""Runs a story on each kind of bus."""

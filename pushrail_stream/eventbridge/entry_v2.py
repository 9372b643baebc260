"""Entries for a bus of eventbridgev2, and the text by which it knows an entry that comes again.

Rendering is deterministic, as it is for classic buses.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final, TypedDict

from cbor2 import CBORTag

from pushrail_stream.core.destination import Destination
from pushrail_stream.core.event import Event
from pushrail_stream.settings.cloud_event import cloud_event

_EPOCH: Final = 1
"""CBOR's tag of a time in seconds (RFC 8949, 3.4.2), as Smithy's protocol RPC v2 CBOR writes timestamps."""
_MAX_DEDUPLICATION_BYTES: Final = 128
"""Bytes of the longest idempotency key that is sent as it is. AWS takes 128 characters: no way of counting them gives
more than there are bytes."""


class SystemMetadata(TypedDict):
    """PutEventsSystemMetadata."""

    DeduplicationId: str


class EntryV2(TypedDict):
    """PutEvents request entry of eventbridgev2. The call names the bus; trace headers do not exist."""

    Time: CBORTag
    Source: str
    Resources: list[str]
    DetailType: str
    Detail: str
    SystemMetadata: SystemMetadata


def render(event: Event, destination: Destination) -> EntryV2:
    """The entry of this event for this destination; a canonical ``Detail`` is the produced JSON, byte for byte."""
    return {
        "Time": CBORTag(_EPOCH, event.occurred_at_ms // 1000),
        "Source": destination.source,
        "Resources": [event.customer_external_id, event.idempotency_key],
        "DetailType": event.event_type,
        "Detail": (event.value if destination.detail_format == "canonical" else cloud_event(event)).decode(),
        "SystemMetadata": {"DeduplicationId": deduplication_id(event.idempotency_key)},
    }


def deduplication_id(idempotency_key: str) -> str:
    """The key itself, or its SHA-256 where AWS would refuse the key: it is too long, or has nothing but spaces."""
    encoded = idempotency_key.encode()
    if len(encoded) <= _MAX_DEDUPLICATION_BYTES and not idempotency_key.isspace():
        return idempotency_key
    return sha256(encoded).hexdigest()

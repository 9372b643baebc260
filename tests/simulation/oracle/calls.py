"""The calls of the simulated AWS, as evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.simulation.aws import records
from tests.simulation.oracle.cloud_events import CloudEvents
from tests.simulation.oracle.evidence import Call, Cause, Entry

_CAUSES: Final[Mapping[records.Blame, Cause | None]] = {
    "": None,
    "event": "producer",
    "customer": "customer",
    "ours": "ours",
    "aws": "moment",
}
"""The oracle's words for whose fault a failure is."""


def calls_of(calls: Iterable[records.Call], cloud_events: CloudEvents) -> list[Call]:
    """All calls, in order."""
    return [_call(call, cloud_events) for call in calls]


def _call(call: records.Call, cloud_events: CloudEvents) -> Call:
    entries = tuple(_entry(one, cloud_events) for one in call.entries)
    bus = call.entries[0].bus if call.entries else call.bus
    return Call(
        at=call.at,
        host=call.host,
        api=call.api,
        target=call.role if call.api == "AssumeRole" else bus,
        request_id=call.request_id,
        status=call.status or None,
        entries=entries,
        answered_at=call.answered_at,
        fault=_CAUSES[call.blame],
        code=call.code,
        is_garbled="garbled" in call.fault,
        access_key=call.access_key,
    )


def _entry(one: records.EntryTruth, cloud_events: CloudEvents) -> Entry:
    value, is_cloud_event = cloud_events.value_of(one.detail.encode())
    result = one.event_id or None, one.code, _CAUSES[one.blame], one.is_repeat
    return Entry(value, one.resources, *result, is_cloud_event)

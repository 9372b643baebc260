"""The calls of the simulated AWS, as evidence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.simulation.aws import records
from tests.simulation.oracle.evidence import Call, Cause, Entry

_CAUSES: Final[Mapping[records.Blame, Cause | None]] = {
    "": None,
    "event": "producer",
    "customer": "customer",
    "ours": "ours",
    "aws": "moment",
}
"""The oracle's words for whose fault a failure is."""


def calls_of(calls: Iterable[records.Call], arrivals: Iterable[records.Arrival]) -> list[Call]:
    """All calls, in order. The texts of entries are those that arrived: nobody else has kept them."""
    taken = {(arrival.call, arrival.place): arrival for arrival in arrivals}
    return [_call(call, taken) for call in calls]


def _call(call: records.Call, taken: Mapping[tuple[int, int], records.Arrival]) -> Call:
    entries = tuple(_entry(one, taken.get((call.number, place))) for place, one in enumerate(call.entries))
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
    )


def _entry(one: records.EntryTruth, arrival: records.Arrival | None) -> Entry:
    detail = b"" if arrival is None else arrival.detail.encode()
    resources = ("", one.idempotency_key) if arrival is None else arrival.resources
    return Entry(detail, resources, one.event_id or None, one.code, _CAUSES[one.blame])

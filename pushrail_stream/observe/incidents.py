"""Recent incidents for the status page: the newest of each kind, so that frequent ones do not displace the others.

A caveat about a setting holds while the process runs: it is kept, and shown first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, final

from pushrail_stream.core import signals
from pushrail_stream.core.bus_status import explain
from pushrail_stream.core.record import Origin, Partition
from pushrail_stream.core.signals import Signal
from pushrail_stream.core.text import safe_message

_MAX_INCIDENTS: Final = 30
"""Incidents that are kept: the status page shows them all."""


class Incident(NamedTuple):
    """Something that went wrong, for people."""

    at_ms: int
    what: str
    where: str
    """Destination, document or partition; "" if there is none."""
    code: str
    message: str


_Told = tuple[str, str, str, str]
"""An incident without its time: what, where, code and message."""


@final
class RecentIncidents:
    """Keeps the last incidents that differ in more than their time and message."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._caveats: dict[str, Incident] = {}
        """By setting, so there are at most as many as there are settings."""
        self._kept: OrderedDict[tuple[str, str, str], Incident] = OrderedDict()

    def __call__(self, signal: Signal) -> None:
        if isinstance(signal, signals.SettingCaveat):
            self._caveats[signal.setting] = self._now("setting", signal.setting, "", signal.problem)
        elif (tell := _INCIDENTS.get(type(signal))) is not None and (told := tell(signal)) is not None:
            what, where, code, message = told
            key = what, where, code
            self._kept.pop(key, None)
            self._kept[key] = self._now(what, where, code, message)
            if len(self._kept) > _MAX_INCIDENTS:
                self._kept.popitem(last=False)

    def newest_first(self) -> list[Incident]:
        """The caveats, then the other incidents."""
        return [*self._caveats.values(), *reversed(self._kept.values())]

    def _now(self, what: str, where: str, code: str, message: str) -> Incident:
        return Incident(self._now_ms(), what, where, code, safe_message(message))


def _attempted(signal: signals.Attempted) -> _Told | None:
    fault = signal.own_fault
    return None if fault is None else ("our own fault", "", fault.code, fault.message)


def _dead_lettered(signal: signals.DeadLettered) -> _Told:
    letter = signal.letter
    what = f"dead letter: {letter.reason}"
    if letter.destination_id is None:
        return _of_record(letter.record.origin, what, letter.code, letter.message)
    return what, letter.destination_id, letter.code, letter.message


def _bus_missing(signal: signals.BusMissing) -> _Told:
    destination = signal.destination
    told = explain(destination.id, signal.bus, signal.swallowed)
    return "bus missing", destination.id, "", f"{destination.bus.arn}: {told}"


def _of_record(origin: Origin, what: str, code: str, message: str) -> _Told:
    """A thousand records of one partition are one incident, which names the newest."""
    return what, str(Partition(origin.topic, origin.partition)), code, f"{message} (offset {origin.offset})"


def _cursor_opened(signal: signals.CursorOpened) -> _Told:
    """Thousands of destinations of one region fall behind together: they are one incident, which names the newest."""
    return "fell behind", "", "", f"{signal.destination_id} on {signal.partition} (offset {signal.since})"


def _cursor_trimmed(signal: signals.CursorTrimmed) -> _Told:
    removed = f"removed from {signal.partition}: {signal.start} to below {signal.end}, events of it: {signal.known}"
    return "backlog trimmed", signal.destination_id, "", f"{removed} or more"


def _cursor_endangered(signal: signals.CursorEndangered) -> _Told:
    place = f"{signal.partition}: behind at {signal.lowest}, and Kafka keeps from {signal.first} on"
    return "backlog endangered", signal.destination_id, "", place


def _cursor_closed(signal: signals.CursorClosed) -> _Told | None:
    if signal.why not in {"recreated", "went_back"}:
        return None
    return "backlog lost", signal.destination_id, signal.why, f"with a part of {signal.partition}"


_INCIDENTS: Final[Mapping[type, Callable[[Any], _Told | None]]] = {
    signals.Attempted: _attempted,
    signals.DeadLettered: _dead_lettered,
    signals.Suspended: lambda s: ("suspended", s.destination.id, s.code, s.message),
    signals.BusMissing: _bus_missing,
    signals.OwnCredentialsFailed: lambda s: ("own credentials", "", s.code, s.message),
    signals.DocumentRefused: lambda s: ("document refused", s.document, s.field, s.problem),
    signals.CopyFailed: lambda s: _of_record(s.copy.record.origin, "copy not written", "", s.problem),
    signals.CommitFailed: lambda s: ("commit refused", "", "", s.problem),
    signals.KafkaTrouble: lambda s: ("Kafka", "", "", s.problem),
    signals.RegistryTrouble: lambda s: ("registry", "", "", s.problem),
    signals.FleetTrouble: lambda s: ("fleet", "", "", s.problem),
    signals.NoticesLost: lambda s: ("notices lost", "", "", f"{s.notices} since the start"),
    signals.RecordsTrimmed: lambda s: (
        "records trimmed",
        str(s.partition),
        "",
        f"from {s.expected} to below {s.first}",
    ),
    signals.PartitionUnread: lambda s: ("nothing is read", str(s.partition), "", f"at {s.position} for {s.secs:.0f} s"),
    signals.PartitionRestarted: lambda s: (
        "partition restarted",
        str(s.partition),
        s.why,
        f"its position was {s.position}",
    ),
    signals.CursorOpened: _cursor_opened,
    signals.CursorTrimmed: _cursor_trimmed,
    signals.CursorEndangered: _cursor_endangered,
    signals.CursorClosed: _cursor_closed,
    signals.Flooded: lambda _: ("stopped", "", "", "a flood of dead letters"),
}
"""The incident that each signal tells of."""

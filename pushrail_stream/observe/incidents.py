"""RecentIncidents incidents for the status page: the newest of each kind, however many there were.

A caveat about a setting holds for as long as the process runs: it is kept, and shown first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, final

from pushrail_stream.core.bus_status import explain
from pushrail_stream.core.record import Origin, Partition
from pushrail_stream.core.signals import (
    Attempted,
    BusMissing,
    CommitFailed,
    CopyFailed,
    DeadLettered,
    DocumentRefused,
    Flooded,
    KafkaTrouble,
    PartitionRestarted,
    PartitionUnread,
    RecordsTrimmed,
    RegistryTrouble,
    SettingCaveat,
    Signal,
    Suspended,
)
from pushrail_stream.core.text import safe_message
from pushrail_stream.ports.pipeline import Incident

_KEPT: Final = 30


@final
class RecentIncidents:
    """Sees every signal; keeps the last few incidents that differ in more than their time."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._caveats: dict[str, Incident] = {}
        """By setting, so there are at most as many as there are settings."""
        self._kept: OrderedDict[tuple[str, str, str], Incident] = OrderedDict()

    def __call__(self, signal: Signal) -> None:
        """See one signal."""
        if isinstance(signal, Attempted):  # first, for these come by the thousand
            if signal.own_fault is not None:
                self._keep("our own fault", "", signal.own_fault.code, signal.own_fault.message)
            return
        match signal:
            case DeadLettered(letter):
                what = f"dead letter: {letter.reason}"
                if letter.destination_id is None:
                    self._keep_of(letter.record.origin, what, letter.code, letter.message)
                else:
                    self._keep(what, letter.destination_id, letter.code, letter.message)
            case Suspended(destination, code, message):
                self._keep("suspended", destination.id, code, message)
            case BusMissing(destination, bus, swallowed):
                told = explain(destination.id, bus, swallowed)
                self._keep("bus missing", destination.id, "", f"{destination.bus}: {told}")
            case DocumentRefused(document, field, problem):
                self._keep("document refused", document, field, problem)
            case _:
                self._ours(signal)

    def _ours(self, signal: Signal) -> None:
        match signal:
            case CopyFailed(copy, problem):
                self._keep_of(copy.record.origin, "copy not written", "", problem)
            case CommitFailed(problem):
                self._keep("commit refused", "", "", problem)
            case KafkaTrouble(problem):
                self._keep("Kafka", "", "", problem)
            case RegistryTrouble(problem):
                self._keep("registry", "", "", problem)
            case RecordsTrimmed() | PartitionUnread() | PartitionRestarted():
                self._partition(signal)
            case Flooded():
                self._keep("stopped", "", "", "a flood of dead letters")
            case SettingCaveat(setting, problem):
                self._caveats[setting] = Incident(self._now_ms(), "setting", setting, "", safe_message(problem))
            case _:
                pass

    def _partition(self, signal: RecordsTrimmed | PartitionUnread | PartitionRestarted) -> None:
        where = str(signal.partition)
        match signal:
            case RecordsTrimmed(_, expected, first):
                self._keep("records removed unread", where, "", f"from {expected} to below {first}")
            case PartitionUnread(_, position, secs):
                self._keep("nothing is read", where, "", f"at {position} for {secs:.0f} s")
            case PartitionRestarted(_, why, position):
                self._keep("partition started anew", where, why, f"its position was {position}")

    def newest_first(self) -> list[Incident]:
        """The caveats, then what is kept."""
        return [*self._caveats.values(), *reversed(self._kept.values())]

    def _keep_of(self, origin: Origin, what: str, code: str, message: str) -> None:
        """Of a record: a thousand such of one partition are one incident, which names the newest."""
        partition = str(Partition(origin.topic, origin.partition))
        self._keep(what, partition, code, f"{message} (offset {origin.offset})")

    def _keep(self, what: str, where: str, code: str, message: str) -> None:
        key = (what, where, code)
        self._kept.pop(key, None)
        self._kept[key] = Incident(self._now_ms(), what, where, code, safe_message(message))
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

"""The verdict: a line for each event that was lost, given up without a reason, or delivered to a wrong place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.commits import Position
from tests.chaos.copies import Copy
from tests.chaos.duplicates import Audit
from tests.chaos.world import Place, World

SHOWN: Final = 20
_OF_KIND: Final = {"malformed": "rejected", "undecodable": "undecodable", "oversize": "oversize"}


@dataclass
class Problems:
    """The problems by kind: the first lines of each for people, all of them for a file."""

    by_kind: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, lines: Iterable[str]) -> None:
        """Add lines; none is no problem."""
        found = list(lines)
        if found:
            self.by_kind.setdefault(kind, []).extend(found)

    def shown(self, most: int | None = SHOWN) -> list[str]:
        """Lines to print, under titles that say how many there are."""
        lines: list[str] = []
        for kind, found in self.by_kind.items():
            lines += [f"{kind}: {len(found)}", *(f"  {line}" for line in found[:most])]
            if most is not None and len(found) > most:
                lines.append(f"  ... and {len(found) - most} more")
        return lines


@dataclass
class Letters:
    """The deliveries that the DLQ holds, and the records that it must not hold."""

    world: World
    suspensions: Sequence[tuple[float, float]]
    """From when to when (epoch seconds) deliveries to the denied destinations may be given up without a call."""
    denied_ids: frozenset[str]
    malformed_ids: frozenset[str]
    events_topic: str
    deliveries: set[tuple[int, int]] = field(default_factory=set)
    """Number and slot; an undecodable record is of slot 0."""
    reasons: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def take(self, letter: Copy) -> None:
        """Look at one."""
        self.reasons[letter.reason] += 1
        why_not = self._fault(letter)
        if why_not is not None:
            where = letter.place.id if letter.place is not None else "no destination"
            said = f"{letter.reason} ({letter.headers.get('pushrail-error-code')}) at {letter.at:.3f}"
            self.problems.append(f"event {letter.number} for {where}, {said}: {why_not}")
        if letter.number is not None:
            self.deliveries.add((letter.number, letter.place.slot if letter.place is not None else 0))

    def _fault(self, letter: Copy) -> str | None:
        number = letter.number
        if number is None or number >= self.world.events:
            return "nobody produced it"
        if letter.value != self.world.value(number) or letter.key != self.world.key(number).encode():
            return "it is not what was produced"
        if not letter.headers.get("pushrail-origin", "").startswith(f"{self.events_topic}/"):
            return "its origin is not on the events topic"
        return self._unexplained(letter, number)

    def _unexplained(self, letter: Copy, number: int) -> str | None:
        kind, reason, place = self.world.planted.get(number), letter.reason, letter.place
        if kind is not None:
            expected = _OF_KIND[kind]
            if reason != expected:
                return f"a planted {kind} event is to be {expected}"
            if kind == "malformed" and letter.request_id not in self.malformed_ids:
                return "the bus refused no entry in that call"
            return None if (place is None) == (kind == "undecodable") else "wrong destination"
        if place not in self.world.denied or reason not in {"blocked", "suspended"}:
            return "nothing that was done to it explains that"
        if reason == "suspended":
            may_be = any(start <= letter.at <= end for start, end in self.suspensions)
            return None if may_be else "nothing had been refused yet, or it must have been resumed"
        if letter.request_id not in self.denied_ids:
            return "the bus refused no such call"
        return None


def find_lost(audit: Audit, letters: Letters) -> tuple[int, int, list[str]]:
    """Deliveries that arrived, those that are only in the DLQ, and a line for each that is nowhere."""
    world, delivered, dead, lost = letters.world, 0, 0, list[str]()
    for number in range(world.events):
        for slot in world.wanted_by(number) or (0,):
            if audit.received[2 * number + slot]:
                delivered += 1
            elif (number, slot) in letters.deliveries:
                dead += 1
            else:
                where = Place(world.customer_of[number], slot).id
                lost.append(f"event {number} to {where} ({world.planted.get(number, 'ordinary')})")
    return delivered, dead, lost


def find_uncalled_for(audit: Audit, world: World) -> list[str]:
    """Arrivals that must not be: of events the bus refuses or cannot be sent, or that the destination filters out."""
    lines = [
        f"event {number} is {kind} and yet was taken by a bus"
        for number, kind in world.planted.items()
        if audit.received[2 * number] or audit.received[2 * number + 1]
    ]
    lines += [
        f"event {number} arrived at a destination that does not want it"
        for number in range(world.events)
        if audit.received[2 * number + 1] and 1 not in world.wanted_by(number)
    ]
    return lines


def find_unproven(
    missing: Iterable[Mapping[str, Any]], audit: Audit, world: World, position: Callable[[int], Position]
) -> list[str]:
    """A line for each inexcusable delivery among those without a trace in `pushrail-stream check`.

    A killed worker takes unwritten attempt records with it. Kafka then knows nothing of deliveries that it made, or
    skipped by a filter. The bus and the world know them.
    """
    by_origin: dict[str, list[str | None]] = {}
    for delivery in missing:
        by_origin.setdefault(delivery["origin"], []).append(delivery["destination"])
    # Numbers are looked up once for all that is missing: there may be a million of them.
    numbers = {
        origin: number
        for number in (range(world.events) if by_origin else ())
        if (origin := "/".join(map(str, position(number)))) in by_origin
    }
    unproven = []
    for origin, destinations in by_origin.items():
        number = numbers.get(origin)
        for destination in destinations:
            slot = None if destination is None else Place.of(destination).slot
            if number is None or slot is None:
                unproven.append(f"{origin} to {destination or 'nobody'}: nobody produced it, or it has no destination")
            elif slot in world.wanted_by(number) and not audit.received[2 * number + slot]:
                unproven.append(f"event {number} ({origin}) to {destination}: it did not arrive")
    return unproven

"""Documents over time: the destinations that an event may have had, and those that it had for certain.

A worker learns of a change some time after it was written, and keeps the last good version of a document that it cannot
use. So each question has a period, and two answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, Final, NamedTuple, final

import orjson

from pushrail_stream.core.destination import DetailFormat, RetryBounds, Secret
from pushrail_stream.core.event import Event
from pushrail_stream.registry.documents import Parsed, parse_document
from tests.simulation.oracle.evidence import DocumentEdit

STALE_SECS: Final = 300.0
"""Longest time for which a worker may act on an older version of a document: an outage of Kafka, and a rest."""
Owner = tuple[str, str]
"""Vendor and customer."""


class Version(NamedTuple):
    """One readable version of a document."""

    destination: str
    owner: Owner
    is_enabled: bool
    """Whether it is neither disabled nor paused."""
    event_types: tuple[str, ...]
    bus: str
    role: str = ""
    """The ARN of the role to assume; empty with a key pair."""
    access_key: str = ""
    """The id of the key pair; empty with a role."""
    is_usable: bool = True
    """Whether the document keeps the rules. Otherwise its destination has no credentials: events are blocked."""
    max_in_flight: int | None = None
    per_second: float | None = None
    detail_format: DetailFormat = "canonical"
    retry: RetryBounds = RetryBounds()

    skips_as: str = ""
    """``disabled`` or ``paused``: the reason for which its deliveries are skipped; empty when they are made."""
    above: int | None = None
    """Its filter asks for events with an amount above this number; None: it has no filter."""

    def wants(self, event: Event) -> bool:
        """Whether it asks for this event."""
        types, name = self.event_types, event.event_type
        if types and not any(name.startswith(one[:-1]) if one.endswith("*") else name == one for one in types):
            return False
        return self.above is None or json.loads(event.value)["payload"].get("amount", 0) > self.above

    def takes(self, event: Event) -> bool:
        """Whether a delivery to it is made."""
        return self.is_enabled and self.wants(event)


class Reader(NamedTuple):
    """A worker that reads documents."""

    begun_at: float = float("inf")
    """The time at which it had read all documents for the first time."""
    stale_secs: float = STALE_SECS
    """The longest time for which it may act on an older version."""


_ANY: Final = Reader()
"""A worker that may have begun at any time."""


class _State(NamedTuple):
    since: float
    versions: tuple[Version | None, ...]
    """The versions that may be in force; None: no document."""
    is_bad: bool = False
    """Whether the document cannot be read, so that a worker keeps the version that it had before."""
    until: float = float("inf")
    """The time from which the next state is in force."""


@final
class Documents:
    """The documents of a story."""

    def __init__(self, edits: Iterable[DocumentEdit], begun_at: float = float("-inf")) -> None:
        """``begun_at``: the time at which the first worker began. No worker has seen what was replaced before."""
        self._states: dict[str, list[_State]] = {}
        for edit in edits:
            states = self._states.setdefault(edit.name, [_State(float("-inf"), (None,))])
            version = None if edit.content is None else read_version(edit.content)
            if edit.content is None or version is not None:
                states.append(_State(edit.at, (version,)))
            else:
                states.append(_State(edit.at, (*states[-1].versions, None), is_bad=True))
        for states in self._states.values():
            while len(states) > 1 and states[1].since <= begun_at:
                del states[0]
            states[0] = states[0]._replace(since=float("-inf"))
            states[:-1] = [before._replace(until=after.since) for before, after in pairwise(states)]
        self._names_of = self._by_owner()
        """By owner the documents of which a version is the owner's."""
        self._groups = self._group_by_bus()
        self._of_bus = {version.bus: self.group(version.destination) for version in self.versions()}
        self._behind: dict[str, set[str]] = {}
        for version in self.versions():
            for target in filter(None, (version.bus, version.role)):
                self._behind.setdefault(target, set()).add(self.group(version.destination))
        self._members: dict[str, set[str]] = {}
        for version in self.versions():
            self._members.setdefault(self.group(version.destination), set()).add(version.destination)

    def possible(self, owner: Owner, since: float, until: float, reader: Reader = _ANY) -> list[Version]:
        """Every version that a worker may have used for this owner's events in a period."""
        return [
            version
            for name in self._names_of.get(owner, ())
            for version in self._versions(name, since - reader.stale_secs, until)
            if version is not None and version.owner == owner
        ]

    def certain(self, owner: Owner, since: float, until: float, reader: Reader = _ANY) -> dict[str, list[Version]]:
        """The destinations that this worker, or every one, knew in this period, with their versions."""
        found: dict[str, list[Version]] = {}
        for name in self._names_of.get(owner, ()):
            versions = self._versions(name, since - reader.stale_secs, until, reader)
            good = [version for version in versions if version is not None and version.owner == owner]
            if good and len(good) == len(versions) and len({version.destination for version in good}) == 1:
                found[good[0].destination] = good
        return found

    def group(self, destination: str) -> str:
        """One name for all destinations that ever shared a bus with this one."""
        return self._groups.get(destination, destination)

    def group_of_bus(self, bus: str) -> str | None:
        """The group that writes to this bus; None when no document ever named it."""
        return self._of_bus.get(bus)

    def groups_behind(self, target: str) -> set[str]:
        """The groups that call this bus, or sign in to this role."""
        return self._behind.get(target, set())

    def access_keys(self, group: str, since: float, until: float) -> set[str]:
        """The ids of the key pairs with which a group may be called in a period."""
        versions = [one for name in self._states for one in self._versions(name, since, until)]
        return {one.access_key for one in versions if one is not None and self.group(one.destination) == group}

    def certain_roles(self, at: float, reader: Reader) -> set[str]:
        """The roles that this worker certainly knew of enabled destinations at a time."""
        found: set[str] = set()
        for name in self._states:
            versions = self._versions(name, at - reader.stale_secs, at, reader)
            roles = {one.role if one is not None and one.is_enabled and one.is_usable else "" for one in versions}
            found |= roles if len(roles) == 1 else set()
        return found - {""}

    def partings(self, bus: str) -> list[float]:
        """The times at which an enabled document of the bus's owner ceased to name this bus."""
        found = []
        for states in self._states.values():
            for before, after in pairwise(states):
                users = {one.owner for one in before.versions if one is not None and one.is_enabled and one.bus == bus}
                still = {one.owner for one in after.versions if one is not None and one.is_enabled and one.bus == bus}
                found += [after.since] * bool(users - still)
        return found

    def call_limits(self, group: str, default: int) -> list[int]:
        """The most calls in flight that documents ever allowed each destination of a group."""
        found: dict[str, int] = {}
        for one in self._of_group(group):
            found[one.destination] = max(found.get(one.destination, 0), one.max_in_flight or default)
        return list(found.values())

    def call_limit(self, destination: str, default: int) -> int:
        """The most calls in flight that a document ever allowed this destination."""
        found = (one.max_in_flight or default for one in self.versions() if one.destination == destination)
        return max(found, default=default)

    def retry_bounds(self, destination: str | None, max_age_secs: float) -> RetryBounds:
        """The narrowest bounds that documents ever gave this destination. ``max_age_secs``: that for all."""
        found = [one.retry for one in self.versions() if one.destination == destination]
        age_secs = min((one.max_age_secs for one in found), default=max_age_secs)
        return RetryBounds(min(age_secs, max_age_secs), min((one.max_attempts for one in found), default=math.inf))

    def rate_limit(self, group: str, since: float = float("-inf")) -> float | None:
        """The most calls a second that documents may have allowed a group from a time on; None: one had no limit."""
        versions = [one for name in self._states for one in self._versions(name, since - STALE_SECS, float("inf"))]
        rates: dict[str, float] = {}
        for one in (one for one in versions if one is not None and self.group(one.destination) == group):
            if one.per_second is None:
                return None
            rates[one.destination] = max(rates.get(one.destination, 0.0), one.per_second)
        return sum(rates.values()) if rates else None

    def _of_group(self, group: str) -> list[Version]:
        return [one for one in self.versions() if self.group(one.destination) == group]

    def was_unusable(self, destination: str, at: float, reader: Reader = _ANY) -> bool:
        """Whether this worker, or any, may have known this destination without credentials at this time.

        A worker keeps the last good version that it has read, so a later bad edit changes nothing for it.
        """
        begun, stale_secs = reader
        for name, states in self._states.items():
            if not any(
                one is not None and one.destination == destination for state in states for one in state.versions
            ):
                continue
            had_good = any(one is not None and one.is_usable for one in self._versions(name, begun, begun))
            had_good = had_good and all(
                one is not None and one.is_usable for one in self._versions(name, begun - stale_secs, begun)
            )
            bad = [one for one in self._versions(name, at - stale_secs, at) if one is None or not one.is_usable]
            if bad and not (had_good and all(one is not None for one in bad)):
                return True
        return False

    def members(self, group: str) -> set[str]:
        """The destinations of a group."""
        return self._members.get(group, set())

    def versions(self) -> Iterator[Version]:
        """All versions that ever were."""
        for states in self._states.values():
            for state in states:
                yield from (version for version in state.versions if version is not None)

    def _versions(self, name: str, since: float, until: float, reader: Reader = _ANY) -> list[Version | None]:
        """The versions of a document that may have been in force in a period."""
        found: list[Version | None] = []
        states = self._states[name]
        for index, state in enumerate(states):
            if state.since > until or state.until <= since:
                continue
            if state.is_bad and self._has_read(states[:index], state.since, reader):
                found += [one for one in state.versions if one is not None]
            else:
                found += state.versions
        return found

    def _has_read(self, earlier: list[_State], at: float, reader: Reader) -> bool:
        """Whether the worker has certainly read one of the versions before, so that a bad edit leaves it in force."""
        last = next((state for state in reversed(earlier) if not state.is_bad), None)
        is_good = last is not None and None not in last.versions
        return is_good and last is not None and max(last.since, reader.begun_at) + reader.stale_secs < at

    def _by_owner(self) -> dict[Owner, list[str]]:
        found: dict[Owner, list[str]] = {}
        for name, states in self._states.items():
            for owner in dict.fromkeys(one.owner for state in states for one in state.versions if one is not None):
                found.setdefault(owner, []).append(name)
        return found

    def _group_by_bus(self) -> dict[str, str]:
        groups: dict[str, str] = {}
        of_bus: dict[str, str] = {}
        for version in self.versions():
            mine = groups.setdefault(version.destination, version.destination)
            other = of_bus.setdefault(version.bus, mine)
            if other != mine:
                groups = {name: other if group == mine else group for name, group in groups.items()}
                of_bus = {bus: other if group == mine else group for bus, group in of_bus.items()}
        return groups


def _least_amount(pattern: Any) -> int | None:
    match pattern:
        case {"detail": {"payload": {"amount": [{"numeric": [">", int(above)]}]}}}:
            return above
        case {"detail": {"data": {"amount": [{"numeric": [">", int(above)]}]}}}:
            return above
        case _:
            return None


def read_version(content: bytes) -> Version | None:
    """The version in a document; None when it names no destination."""
    try:
        value: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    match value:
        case {"id": str(name), "vendor": str(vendor), "customerExternalId": str(customer), "busArn": str(bus)}:
            types, auth = value.get("eventTypes") or (), value.get("auth")
            role, access_key = (
                (auth.get("roleArn", ""), auth.get("accessKeyId", "")) if isinstance(auth, dict) else ("", "")
            )
            parsed = parse_document(
                content, environ=_AnyVariable(), default_max_in_flight=1, unseal=lambda _token, _place: Secret("opened")
            )
            limits = value.get("limits") or {}
            skips_as = (
                "disabled" if value.get("enabled", True) is not True else "paused" * (value.get("paused") is True)
            )
            return Version(
                name,
                (vendor, customer),
                not skips_as,
                tuple(types),
                bus,
                role,
                access_key,
                isinstance(parsed, Parsed),
                limits.get("maxInFlight"),
                limits.get("maxRequestsPerSecond"),
                value.get("detailFormat", "canonical"),
                parsed.destination.retry if isinstance(parsed, Parsed) else RetryBounds(),
                skips_as,
                _least_amount(value.get("filter")),
            )
        case _:
            return None


class _AnyVariable(dict[str, str]):
    """An environment that has every variable."""

    def __missing__(self, name: str) -> str:
        return name

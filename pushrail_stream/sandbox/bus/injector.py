"""Decides, rule by rule, the faults of a call; holds the triggers' counters, token buckets and random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from random import Random
from typing import NamedTuple

from pushrail_stream.sandbox.bus.faults import (
    Always,
    CallEffect,
    EntryError,
    Latency,
    Match,
    Probability,
    RateAbove,
    Rule,
    Sequence,
    Times,
)


class EntryView(NamedTuple):
    """The parts of an entry that a rule may match; outside PutEvents only the bus is filled."""

    bus: str
    event_type: str
    detail: str


class CallView(NamedTuple):
    """The parts of a call that a rule may match; ``entries`` is empty where no bus is concerned."""

    operation: str
    access_key: str
    role: str
    entries: tuple[EntryView, ...] = ()


class Fault(NamedTuple):
    """The faults of one call: an effect, and a reply that comes ``delay_secs`` later. ``label`` names the rules."""

    delay_secs: float
    effect: CallEffect | None
    label: str | None


class _Armed:
    """A rule with the state of its trigger."""

    def __init__(self, rule: Rule, now: float) -> None:
        self.rule = rule
        self._seen = 0
        self._filled_at = now
        when = rule.when
        self._burst = (when.burst or max(1.0, when.rate_per_second)) if isinstance(when, RateAbove) else 0.0
        self._tokens = self._burst

    def fires(self, now: float, rng: Random) -> bool:
        """Count one match and tell whether it fires."""
        self._seen += 1
        match self.rule.when:
            case Always():
                return True
            case Probability(probability=probability):
                return rng.random() < probability
            case Sequence(first=first, last=last):
                return first <= self._seen <= last
            case Times(times=times):
                return self._seen <= times
            case RateAbove(rate_per_second=rate):
                return self._is_above(rate, now)

    def _is_above(self, rate: float, now: float) -> bool:
        # A clock that was set back must not drain the bucket.
        elapsed = max(0.0, now - self._filled_at)
        self._filled_at = now
        self._tokens = min(self._burst, self._tokens + elapsed * rate)
        if self._tokens < 1.0:
            return True
        self._tokens -= 1.0
        return False


class Injector:
    """The plan in force. A new plan resets every trigger."""

    def __init__(self, clock: Callable[[], float], rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._for_calls: list[_Armed] = []
        self._for_entries: list[tuple[_Armed, EntryError]] = []
        self.rules: list[Rule] = []

    def set_plan(self, rules: Iterable[Rule]) -> None:
        """Put these rules in force from the next call on."""
        self.rules = list(rules)
        armed = [_Armed(rule, self._clock()) for rule in self.rules]
        self._for_calls = [one for one in armed if not isinstance(one.rule.effect, EntryError)]
        self._for_entries = [(one, one.rule.effect) for one in armed if isinstance(one.rule.effect, EntryError)]

    def fault_of_call(self, call: CallView) -> Fault:
        """Decide about a whole call."""
        delay, effect, labels = 0.0, None, []
        for armed in self._for_calls:
            found = armed.rule.effect
            if effect is not None and not isinstance(found, Latency):
                continue
            if not _call_matches(armed.rule.match, call) or not armed.fires(self._clock(), self._rng):
                continue
            labels.append(armed.rule.label)
            if isinstance(found, Latency):
                delay += found.secs
            elif not isinstance(found, EntryError):
                effect = found
        return Fault(delay, effect, "+".join(labels) or None)

    def fault_of_entry(self, call: CallView, entry: EntryView) -> tuple[EntryError, str] | None:
        """Decide about one entry of a call that is carried out: the error and the rule's label."""
        for armed, effect in self._for_entries:
            match = armed.rule.match
            if _caller_matches(match, call) and _entry_matches(match, entry) and armed.fires(self._clock(), self._rng):
                return effect, armed.rule.label
        return None


def _call_matches(match: Match, call: CallView) -> bool:
    if not _caller_matches(match, call):
        return False
    if match.bus is None and match.event_type is None and not match.detail_contains:
        return True
    return any(_entry_matches(match, entry) for entry in call.entries)


def _caller_matches(match: Match, call: CallView) -> bool:
    return (
        match.operation in {None, call.operation}
        and match.access_key in {None, call.access_key}
        and _matches_glob(match.role, call.role)
    )


def _entry_matches(match: Match, entry: EntryView) -> bool:
    return (
        _matches_glob(match.bus, entry.bus)
        and _matches_glob(match.event_type, entry.event_type)
        and (not match.detail_contains or any(part in entry.detail for part in match.detail_contains))
    )


def _matches_glob(pattern: str | None, text: str) -> bool:
    return pattern is None or pattern == text or fnmatchcase(text, pattern)

"""Decides, rule by rule, whether a fault strikes: the triggers' counters, token buckets and seeded dice live here."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random


class EntryView(NamedTuple):
    """What a rule may look at in one entry; outside PutEvents only the bus is filled."""

    bus: str
    event_type: str
    detail: str


class Subject(NamedTuple):
    """One call as the rules see it; ``entries`` is empty where no bus is concerned."""

    operation: str
    access_key: str
    role: str
    entries: tuple[EntryView, ...]


class Strike(NamedTuple):
    """What happens to a call: ``effect``, and a reply late by ``delay_secs``; ``label`` names the rules."""

    delay_secs: float = 0.0
    effect: CallEffect | None = None
    label: str | None = None


NO_STRIKE = Strike()


def _glob(pattern: str | None, text: str) -> bool:
    return pattern is None or pattern == text or fnmatchcase(text, pattern)


def _caller_matches(match: Match, subject: Subject) -> bool:
    return (
        match.operation in {None, subject.operation}
        and match.access_key in {None, subject.access_key}
        and _glob(match.role, subject.role)
    )


def _entry_matches(match: Match, entry: EntryView) -> bool:
    return (
        _glob(match.bus, entry.bus)
        and _glob(match.event_type, entry.event_type)
        and (not match.detail_contains or any(part in entry.detail for part in match.detail_contains))
    )


def _call_matches(match: Match, subject: Subject) -> bool:
    if not _caller_matches(match, subject):
        return False
    if match.bus is None and match.event_type is None and not match.detail_contains:
        return True
    return any(_entry_matches(match, entry) for entry in subject.entries)


class _Armed:
    """A rule with the state of its trigger."""

    def __init__(self, rule: Rule, now: float) -> None:
        self.rule = rule
        self._seen = 0
        self._filled_at = now
        self._tokens = self._burst

    @property
    def _burst(self) -> float:
        when = self.rule.when
        return (when.burst or max(1.0, when.rate_per_second)) if isinstance(when, RateAbove) else 0.0

    def fires(self, now: float, dice: Random) -> bool:
        """Count one match and tell whether it fires."""
        self._seen += 1
        match self.rule.when:
            case Always():
                return True
            case Probability(probability=probability):
                return dice.random() < probability
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
    """The plan in force. Replacing the plan starts every trigger anew."""

    def __init__(self, clock: Callable[[], float], dice: Random) -> None:
        self._clock = clock
        self._dice = dice
        self._for_calls: list[_Armed] = []
        self._for_entries: list[_Armed] = []
        self.rules: list[Rule] = []

    def set_plan(self, rules: Iterable[Rule]) -> None:
        """Put these rules in force from the next call on."""
        now = self._clock()
        self.rules = list(rules)
        armed = [_Armed(rule, now) for rule in self.rules]
        self._for_calls = [one for one in armed if not isinstance(one.rule.effect, EntryError)]
        self._for_entries = [one for one in armed if isinstance(one.rule.effect, EntryError)]

    @property
    def is_idle(self) -> bool:
        """Whether no rule is in force, so that nothing need be prepared for matching."""
        return not self.rules

    def strike_call(self, subject: Subject) -> Strike:
        """Decide about a whole call."""
        delay, effect, labels = 0.0, None, []
        for armed in self._for_calls:
            found = armed.rule.effect
            if effect is not None and not isinstance(found, Latency):
                continue
            if not _call_matches(armed.rule.match, subject) or not armed.fires(self._clock(), self._dice):
                continue
            labels.append(armed.rule.label)
            if isinstance(found, Latency):
                delay += found.secs
            elif not isinstance(found, EntryError):
                effect = found
        return Strike(delay, effect, "+".join(labels)) if labels else NO_STRIKE

    def strike_entry(self, subject: Subject, entry: EntryView) -> tuple[EntryError, str] | None:
        """Decide about one entry of a call that is carried out: the error and the rule's label."""
        for armed in self._for_entries:
            match = armed.rule.match
            effect = armed.rule.effect
            if not isinstance(effect, EntryError) or not _caller_matches(match, subject):
                continue
            if _entry_matches(match, entry) and armed.fires(self._clock(), self._dice):
                return effect, armed.rule.label
        return None

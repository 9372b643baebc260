"""The story of one event: for each of its destinations every attempt, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from pushrail_stream.core.identity import Identity
from pushrail_stream.core.record import Origin
from pushrail_stream.core.text import format_rfc3339, parse_rfc3339
from pushrail_stream.operations.attempt_search import MOST_SEARCHED, means
from pushrail_stream.operations.attempts import Attempt, AttemptFilter
from pushrail_stream.operations.dead_letters import DeadLetterRecord, all_dead_letters, read_waiting
from pushrail_stream.operations.replay_selection import HOPELESS
from pushrail_stream.operations.replayed import Replays
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings

State = Literal["delivered", "skipped", "waiting", "due", "dead_lettered", "replayed"]
"""``waiting``: the time of the next attempt is known. ``due``: it has passed, so a worker makes it, or none runs.
``replayed``: a dead letter that was replayed, without a trace of it yet."""
_NO_REPLAY: Final = frozenset({"undecodable", "foreign"})
"""Reasons of dead letters that a replay leaves out, because they can only fail again."""


class Next(NamedTuple):
    """The state of a delivery, and its next step."""

    state: State
    at: Origin | None = None
    """The record on a retry topic or the DLQ; None where there is none, or none was found."""
    when_ms: int | None = None
    """Epoch milliseconds of the next attempt, or of the replay."""
    attempt: int | None = None
    """Number of the next attempt."""
    replay: str | None = None
    command: str | None = None
    """The command that sends a dead letter again, or shows one that cannot be sent."""


@dataclass
class Part:
    """The part of one destination; None: of the event as a whole."""

    destination: str | None
    attempts: list[Attempt] = field(default_factory=list)
    """In order of time."""
    waiting: DeadLetterRecord | None = None
    """The copy on a retry topic, the last one if there are several."""
    letter: DeadLetterRecord | None = None
    """The last dead letter."""


@dataclass
class Story:
    """One event."""

    origin: Origin
    identity: Identity
    parts: dict[str | None, Part]


@dataclass
class StoryTeller:
    """Puts the stories of events together from attempts, copies on retry topics, dead letters and marks of replays."""

    replays: Replays
    now_ms: int
    stories: dict[str, Story] = field(default_factory=dict)
    """By origin."""

    def add_attempt(self, attempt: Attempt) -> None:
        """Add an attempt; the order of time is that of the calls."""
        if (origin := attempt.origin) is not None:
            names = ("eventType", "customerExternalId", "idempotencyKey", "correlationId")
            identity = Identity(*(None if attempt.get(name) is None else str(attempt.get(name)) for name in names))
            self._part(origin, identity, attempt.get("destinationId")).attempts.append(attempt)

    def add_waiting(self, copy: DeadLetterRecord) -> None:
        """Add a copy that waits on a retry topic."""
        self._part(copy.origin, copy.identity, copy.destination).waiting = copy

    def add_letter(self, letter: DeadLetterRecord) -> None:
        """Add a dead letter; the last one to fail counts."""
        part = self._part(letter.origin, letter.identity, letter.destination)
        if part.letter is None or part.letter.failed_at_ms <= letter.failed_at_ms:
            part.letter = letter

    def next_of(self, part: Part) -> Next:
        """The state of this part now."""
        last = part.attempts[-1] if part.attempts else None
        status = last.get("status") if last is not None else "dead_lettered" if part.letter else "retrying"
        state = part.waiting.state if part.waiting else None
        # An attempt that followed the copy knows more: its worker has not settled the copy yet.
        if part.waiting is not None and state is not None and (last is None or last.at_ms <= state.failed_at_ms):
            due_ms = state.not_before_ms or state.failed_at_ms
            return self._expected(due_ms, state.attempts + 1, part.waiting.record.origin, state.replay)
        if status == "retrying" and last is not None:
            due_ms = parse_rfc3339(str(last.get("nextAttemptAt"))) or last.at_ms
            return self._expected(due_ms, int(last.get("attempt") or 0) + 1, None, last.get("replayId"))
        if status == "dead_lettered":
            return self._dead(part.letter)
        return Next("skipped" if status == "skipped" else "delivered")

    def _expected(self, due_ms: int, attempt: int, at: Origin | None, replay: str | None) -> Next:
        return Next("waiting" if due_ms > self.now_ms else "due", at, due_ms, attempt, replay)

    def _dead(self, letter: DeadLetterRecord | None) -> Next:
        if letter is None:
            return Next("dead_lettered")
        position, replayed = letter.record.origin, self.replays.since(letter)
        if replayed is not None:
            return Next("replayed", position, replayed.at_ms, replay=replayed.replay)
        if letter.reason in _NO_REPLAY:
            return Next("dead_lettered", position, command=f"pushrail-stream dlq show {position}")
        command = f"pushrail-stream replay dlq --origin {letter.origin}"
        if letter.destination is not None:
            command += f" --destination {letter.destination}"
            command += f" --reason {letter.reason}" if letter.reason in HOPELESS else ""
        return Next("dead_lettered", position, command=command)

    def _part(self, origin: Origin, identity: Identity, destination: str | None) -> Part:
        story = self.stories.setdefault(str(origin), Story(origin, identity, {}))
        return story.parts.setdefault(destination, Part(destination))


def tell_stories(
    settings: Settings, wanted: AttemptFilter, found: Sequence[Attempt], progress: Progress, now_ms: int
) -> StoryTeller:
    """The stories of the events with these attempts, which are in order of time. Raises `OperatorError`.

    Without attempts, the event may wait on a retry topic, or have a dead letter.
    """
    last = {(str(attempt.origin), attempt.get("destinationId")): attempt for attempt in found}
    dead = [attempt.at_ms for attempt in last.values() if attempt.get("status") == "dead_lettered"]
    is_open = not found or dead or any(attempt.get("status") == "retrying" for attempt in last.values())
    # The copies first: a delivery that moves on meanwhile shows up further down its way.
    copies = [copy for copy in read_waiting(settings, progress) if means(wanted, copy)] if is_open else []
    letters = _letters(settings, wanted, min(dead, default=None), progress) if dead or not found else []
    teller = StoryTeller(Replays.read(settings) if letters else Replays({}), now_ms)
    for attempt in found:
        teller.add_attempt(attempt)
    for copy in copies:
        teller.add_waiting(copy)
    for letter in letters:
        teller.add_letter(letter)
    return teller


def _letters(
    settings: Settings, wanted: AttemptFilter, since_ms: int | None, progress: Progress
) -> list[DeadLetterRecord]:
    """The event's dead letters, among the first `MOST_SEARCHED` since its attempt."""
    letters = islice(all_dead_letters(settings, since_ms, progress), MOST_SEARCHED)
    return [letter for letter in letters if means(wanted, letter)]


def as_json(teller: StoryTeller) -> Iterable[dict[str, Any]]:
    """Each story as a JSON value."""
    for story in teller.stories.values():
        yield {
            "origin": str(story.origin),
            "eventType": story.identity.event_type,
            "customer": story.identity.customer_external_id,
            "key": story.identity.idempotency_key,
            "correlationId": story.identity.correlation_id,
            "destinations": [
                {
                    "destination": part.destination,
                    "attempts": [dict(attempt.said) for attempt in part.attempts],
                    "next": _next_as_json(teller.next_of(part)),
                }
                for part in story.parts.values()
            ],
        }


def _next_as_json(one: Next) -> dict[str, Any]:
    return {
        "state": one.state,
        "position": None if one.at is None else str(one.at),
        "at": None if one.when_ms is None else format_rfc3339(one.when_ms),
        "attempt": one.attempt,
        "replay": one.replay,
        "command": one.command,
    }

"""Prints the stories of events for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pushrail_stream.cli.output import format_time, say, short_time
from pushrail_stream.core.text import format_span

if TYPE_CHECKING:
    from pushrail_stream.operations.attempt_story import Next, Part, StoryTeller
    from pushrail_stream.operations.attempts import Attempt

_NOW: Final = f"{'next':24}"
"""The place of a time, before what comes next."""


def print_stories(teller: StoryTeller) -> None:
    """Print each event, and below it the part of each destination, one line a step."""
    for story in teller.stories.values():
        event_type, customer, key, _ = (text or "?" for text in story.identity)
        say(f"{key}  {event_type} of {customer}, {story.origin}")
        for part in story.parts.values():
            say(f"  {part.destination or 'no destination'}")
            for line in _lines(teller, part):
                say(f"    {line}")


def _lines(teller: StoryTeller, part: Part) -> list[str]:
    lines = [f"{format_time(attempt.at_ms)}  {_attempt(attempt)}" for attempt in part.attempts]
    letter, next_ = part.letter, teller.next_of(part)
    if letter is not None and not part.attempts:
        lines.append(
            f"{format_time(letter.failed_at_ms)}  {letter.reason} {letter.code}, without a trace of an attempt"
        )
    told = _next(next_, teller.now_ms)
    return [*lines, f"{_NOW}  {told}"] if told else lines


def _attempt(attempt: Attempt) -> str:
    from pushrail_stream.operations.attempts import why_of

    number, replay, why = attempt.get("attempt"), attempt.get("replayId"), why_of(attempt)
    head = f"attempt {number}" if number else "no call"
    head += f" of replay {replay}" if replay else ""
    status = str(attempt.get("status")).replace("_", " ")
    ids = {"EventBridge id": attempt.get("eventBridgeEventId"), "request id": attempt.get("requestId")}
    known = ", ".join(f"{name} {text}" for name, text in ids.items() if text)
    return ", ".join(filter(None, (f"{head}: {status}", why, known)))


def _next(one: Next, now_ms: int) -> str:
    place = "" if one.at is None else f" on {one.at}"
    replay = f" of replay {one.replay}" if one.replay else ""
    when = "" if one.when_ms is None else short_time(one.when_ms)
    match one.state:
        case "waiting":
            wait = format_span(math.ceil(((one.when_ms or now_ms) - now_ms) / 1000))
            return f"waits{place or ' in a worker'} until {when} (in {wait}), then attempt {one.attempt}{replay}"
        case "due":
            return f"attempt {one.attempt}{replay} is due{place} since {when}: a worker makes it next, or none runs"
        case "replayed":
            return f"dead letter at {one.at}, replayed by {one.replay} at {when}"
        case "dead_lettered" if one.at is None:
            return "its dead letter is no longer there"
        case "dead_lettered":
            use = "see" if " dlq show " in (one.command or "") else "replay"
            return f"dead letter at {one.at}; to {use} it: {one.command}"
        case _:
            return ""

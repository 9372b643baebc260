"""The deliveries that wait on the retry topics, and how to begin those of one destination at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.audit import note_change
from pushrail_stream.operations.dead_letters import read_waiting
from pushrail_stream.operations.fleet import ANSWER_SECS, request
from pushrail_stream.operations.topic_reader import Progress
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.values import DESTINATION_ID, check_options


@dataclass(slots=True)
class Waiting:
    """The copies of one destination that wait for one reason. Times are epoch milliseconds."""

    destination: str
    reason: str
    """As in the header (CONTRACTS.md, "Delivery headers"), with the error code behind it."""
    code: str
    count: int = 0
    oldest_ms: int = 0
    """The earliest first attempt, or the earliest failure of a copy without one."""
    next_due_ms: int = 0
    last_due_ms: int = 0
    topics: dict[str, int] = field(default_factory=dict)
    """Copies by retry topic."""


def list_waiting(settings: Settings, progress: Progress, destination: str | None = None) -> list[Waiting]:
    """The copies that wait, by destination, reason and code; the next due first. Raises `OperatorError`.

    Copies that workers have begun and not yet settled count. Records that are no copies of ours are left out.
    """
    found: dict[tuple[str, str, str], Waiting] = {}
    for copy in read_waiting(settings, progress):
        state, name = copy.state, copy.destination
        if state is None or name is None or destination not in {None, name}:
            continue
        key = name, copy.reason, copy.code
        since_ms, due_ms = state.first_attempt_at_ms or state.failed_at_ms, state.not_before_ms or 0
        one = found.setdefault(key, Waiting(*key, 0, since_ms, due_ms, due_ms))
        one.count += 1
        one.oldest_ms = min(one.oldest_ms, since_ms)
        one.next_due_ms, one.last_due_ms = min(one.next_due_ms, due_ms), max(one.last_due_ms, due_ms)
        one.topics[copy.record.topic] = one.topics.get(copy.record.topic, 0) + 1
    return sorted(found.values(), key=lambda one: (one.next_due_ms, one.destination))


class WorkerRetries(NamedTuple):
    """One worker's answer to `retry_now`."""

    worker: str
    begun: int
    kept: int
    """Copies out of reach, which keep their time."""
    goes_on: bool
    """Whether the worker is still beginning copies."""
    problem: str
    """Why it begins no more; empty when nothing is wrong."""


def retry_now(settings: Settings, destination: str, *, wait_secs: float = ANSWER_SECS) -> list[WorkerRetries]:
    """Ask all workers to begin the waiting copies of a destination now. Raises `OperatorError`.

    A living worker that does not answer in time is in the list with a problem.
    """
    check_options(("--destination", DESTINATION_ID, destination))
    note_change("retry", destination)
    asked = request(settings, "retry_now", {"destination": destination}, wait_secs=wait_secs)
    found = [
        WorkerRetries(
            answer.worker_id,
            _count(answer.result.get("begun")),
            _count(answer.result.get("kept")),
            answer.result.get("goesOn") is True,
            answer.problem or str(answer.result.get("problem") or ""),
        )
        for answer in asked.answers
    ]
    silent = f"no answer within {wait_secs:.0f} s"
    found += [WorkerRetries(worker.state.id, 0, 0, goes_on=False, problem=silent) for worker in asked.silent]
    if all(one.problem == found[0].problem != "" for one in found):
        raise OperatorError(f"{destination}: {found[0].problem}")
    return sorted(found)


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0

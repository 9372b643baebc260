"""The fleet: all workers of a consumer group, seen and reached through Kafka from anywhere.

``read_fleet(settings)`` gives every worker with its newest state::

    fleet = read_fleet(settings)
    for worker in fleet.alive:          # fleet.lost: those whose states have stopped coming
        worker.state.lag["events"], worker.state.destinations, worker.state.http, ...
    fleet.destinations                  # by id, put together over all living workers

``watch_fleet(settings)`` yields the fleet again and again, for views that are renewed. ``request(settings, kind,
arguments)`` asks all living workers for something and collects their answers.

All three raise `OperatorError` when Kafka cannot be reached or the topic is missing. A fleet without workers is no
error. They block: in a program with an event loop call them with `in_daemon_thread`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from pushrail_stream.core.destination_state import severity
from pushrail_stream.core.record import Record
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.fleet import ask_workers
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.observe.control import Answer, Request, RequestKind
from pushrail_stream.observe.worker_record import BacklogSummary, DestinationSummary, WorkerRecord, is_lost
from pushrail_stream.operations.times import now_ms
from pushrail_stream.settings.model import Settings

ANSWER_SECS: Final = 20.0
"""Longest wait for answers, in seconds: twice as long as a worker takes at most."""
_MAX_AGE_SECS: Final = 60
"""Age in seconds from which workers ignore a request: the command that sent it has ended by then."""


class FleetWorker(NamedTuple):
    """One worker."""

    state: WorkerRecord
    age_secs: float
    """Seconds since its newest state, by the worker's clock and this machine's; negative when the worker's is ahead."""

    @property
    def label(self) -> str:
        """Its name and id, as its log has them."""
        return f"{self.state.name} {self.state.id}"

    @property
    def is_lost(self) -> bool:
        """Whether its states have stopped coming without its farewell: it was killed, or is cut off from Kafka.

        A worker with a clock that differs by more than `LOST_SECS` counts as lost too.
        """
        return is_lost(self.age_secs)


class FleetDestination(DestinationSummary, frozen=True, rename="camel"):
    """One destination over all living workers: the worst state, the oldest delivery, and the sums of the numbers."""

    workers: int = 0
    """Workers that have it in their detail."""


class FleetBacklog(BacklogSummary, frozen=True, rename="camel"):
    """One destination's backlog over all living workers: the sums, the earliest times, and the longest to catch up."""


class Fleet(NamedTuple):
    """The workers of the group that have a state in the topic, by id."""

    workers: Sequence[FleetWorker]
    unreadable: int
    """Records that are no worker's state."""
    others: int = 0
    """Living workers of other groups on this Kafka."""
    problem: str = ""
    """Kafka's last error, while no state has come since; else empty."""

    @property
    def alive(self) -> list[FleetWorker]:
        """The workers whose states come."""
        return [worker for worker in self.workers if not worker.is_lost]

    @property
    def lost(self) -> list[FleetWorker]:
        """The workers whose states have stopped coming."""
        return [worker for worker in self.workers if worker.is_lost]

    @property
    def destinations(self) -> dict[str, FleetDestination]:
        """The destinations in the detail of living workers: those that need attention, then the busiest."""
        found: dict[str, FleetDestination] = {}
        for worker in self.alive:
            for one in worker.state.destinations:
                seen = found.get(one.id) or FleetDestination(one.id, one.state, 0, 0, 0, 0.0)
                found[one.id] = FleetDestination(
                    one.id,
                    max(seen.state, one.state, key=severity),
                    seen.waiting + one.waiting,
                    seen.calls + one.calls,
                    seen.max_calls + one.max_calls,
                    round(seen.per_second + one.per_second, 2),
                    round(seen.errors_per_second + one.errors_per_second, 2),
                    seen.last_error or one.last_error,
                    max(seen.oldest_secs, one.oldest_secs),
                    seen.workers + 1,
                )
        return {one.id: one for one in sorted(found.values(), key=_by_need)}

    @property
    def backlogs(self) -> dict[str, FleetBacklog]:
        """The backlogs in the detail of living workers, by destination; the largest first."""
        found: dict[str, FleetBacklog] = {}
        for worker in self.alive:
            for one in worker.state.backlogs:
                seen = found.get(one.id)
                secs = one.catch_up_secs
                if seen is not None and secs is not None:
                    secs = None if seen.catch_up_secs is None else max(secs, seen.catch_up_secs)
                old = seen or FleetBacklog(one.id, 0, one.since, 0, 0, one.oldest_at)
                found[one.id] = FleetBacklog(
                    one.id,
                    old.cursors + one.cursors,
                    min(old.since, one.since),
                    old.waiting + one.waiting,
                    old.unread + one.unread,
                    min(old.oldest_at, one.oldest_at),
                    round(old.per_second + one.per_second, 2),
                    secs,
                )
        return {one.id: one for one in sorted(found.values(), key=lambda one: (-one.events, one.id))}


def _by_need(one: FleetDestination) -> tuple[int, float, int, float, str]:
    return -severity(one.state), -one.errors_per_second, -one.waiting, -one.per_second, one.id


def read_fleet(settings: Settings) -> Fleet:
    """Every worker of the settings' group with its newest state. Raises `OperatorError`."""
    newest: dict[bytes, bytes] = {}
    with Scan(reached_kafka(settings), settings.topics.workers) as scan:
        for batch in scan:
            _keep_newest(newest, batch)
    return _fleet(newest, settings.kafka.group_id)


def watch_fleet(settings: Settings) -> Generator[Fleet]:
    """The fleet as it is, then again and again, several times a second, without end. Raises `OperatorError`."""
    newest: dict[bytes, bytes] = {}
    with Scan(reached_kafka(settings), settings.topics.workers, follow=True) as scan:
        for batch in scan:
            _keep_newest(newest, batch)
            done, total = scan.progress
            if done >= total:
                yield _fleet(newest, settings.kafka.group_id)._replace(problem=scan.problem)


class Answers(NamedTuple):
    """The answers to a request."""

    answers: Sequence[Answer]
    """In the order of their arrival, one from each worker."""
    silent: Sequence[FleetWorker]
    """Living workers that have not answered in time."""


def request(
    settings: Settings, kind: RequestKind, arguments: Mapping[str, str], *, wait_secs: float = ANSWER_SECS
) -> Answers:
    """Ask every worker of the settings' group, and wait until all living ones have answered, at most ``wait_secs``.

    Raises `OperatorError`, also when no worker is alive.
    """
    group, fleet = settings.kafka.group_id, read_fleet(settings)
    waiting = {worker.state.id: worker for worker in fleet.alive}
    if not waiting:
        others = f"; workers of other groups: {fleet.others}" if fleet.others else ""
        raise OperatorError(
            f"no worker is running in group {group}: none has written its state to {settings.topics.workers} lately"
            + others
        )
    order = Request(secrets.token_hex(8), kind, now_ms(), _MAX_AGE_SECS, arguments, group)
    answers: dict[str, Answer] = {}
    deadline = time.monotonic() + wait_secs
    for values in ask_workers(reached_kafka(settings), settings.topics.control, order.encode()):
        for answer in filter(None, map(Answer.read, values)):
            if answer.request_id == order.id:
                answers[answer.worker_id] = answer
                waiting.pop(answer.worker_id, None)
        if not waiting or time.monotonic() >= deadline:
            break
    return Answers(list(answers.values()), list(waiting.values()))


def _keep_newest(newest: dict[bytes, bytes], batch: Iterable[Record]) -> None:
    for record in batch:
        if record.value is None:
            newest.pop(record.key or b"", None)
        else:
            newest[record.key or b""] = record.value


def _fleet(newest: Mapping[bytes, bytes], group: str) -> Fleet:
    now, states = now_ms(), [WorkerRecord.read(value) for value in newest.values()]
    known = [state for state in states if state is not None]
    workers = [FleetWorker(state, state.age_secs(now)) for state in known]
    ours = sorted((one for one in workers if one.state.group == group), key=lambda worker: worker.state.id)
    others = sum(one.state.group != group and not one.is_lost for one in workers)
    return Fleet(ours, len(states) - len(known), others=others)

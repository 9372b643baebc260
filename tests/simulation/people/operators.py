"""Operators: at the same time, on one host, they run the product's own commands without the terminal."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final
from unittest.mock import patch

from pushrail_stream.core.record import Origin
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.accounts import STATUSES
from pushrail_stream.operations.attempt_index import keep_index
from pushrail_stream.operations.attempt_search import search_attempts
from pushrail_stream.operations.attempts import AttemptFilter
from pushrail_stream.operations.check import check_deliveries
from pushrail_stream.operations.dead_letters import DeadLetterFilter
from pushrail_stream.operations.destinations import known_destinations
from pushrail_stream.operations.document_changes import require_keyring
from pushrail_stream.operations.offsets import move_offsets, order_skip, parse_target
from pushrail_stream.operations.replay import ReplayLimits, ReplayResult, replay_dead_letters, replay_events
from pushrail_stream.operations.replay_selection import EventFilter
from pushrail_stream.operations.retries import retry_now as begin_retries
from pushrail_stream.operations.sealing_keys import generate_key, remove_keys, rotate_documents
from pushrail_stream.operations.times import now_ms
from tests.simulation.oracle.evidence import CheckedDelivery, CheckRun, ReplayRun, Text
from tests.simulation.people.registry import any_destination
from tests.simulation.people.silent import Silent
from tests.simulation.people.troubles import trouble
from tests.simulation.plan import between, chance, one_of
from tests.simulation.scheduler import Host
from tests.simulation.simulated_worker import SimCommand

if TYPE_CHECKING:
    from tests.simulation.world import World

_DAY_MS: Final = 86_400_000
"""The time for which the index keeps attempts: longer than any story."""
_PATIENCE_SECS: Final = 90.0
"""Longest wait until all members have left a group: two sessions of 45 seconds, the longest there is."""


@final
class Office:
    """The operators' machines."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._alone: dict[str, None] = {}
        self._running = 0
        self.is_disk_full = False

    @contextmanager
    def disk(self) -> Iterator[None]:
        """Let SQLite write files within the block, or not: while the disk is full, no file grows."""

        def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
            database: sqlite3.Connection = sqlite3_connect(*args, **kwargs)
            if self.is_disk_full:
                database.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size instead
            return database

        sqlite3_connect = sqlite3.connect
        with patch.object(sqlite3, "connect", connect):
            yield

    def do(self, name: str, work: Callable[..., Any], *args: Any, alone: str = "") -> None:
        """Run a command in a process of its own. ``alone``: not while another one of this kind runs."""
        if alone and alone in self._alone:
            self._world.history.note("command left out", command=name)
            return
        if alone:
            self._alone[alone] = None
        self._running += 1
        host = self._world.new_host(name.replace(" ", "-"))
        SimCommand(host, self._world.history, name, partial(self._run, host, name, partial(work, *args), alone)).start()

    def _run(self, host: Host, name: str, work: Callable[[], Any], alone: str) -> Any:
        evidence = self._world.evidence
        try:
            return work()
        except OperatorError as error:
            evidence.texts.append(Text(self._world.scheduler.now, host.name, name, str(error)))
            raise
        except Exception as error:  # a command raises nothing else: this is a finding
            evidence.raised.append(Text(self._world.scheduler.now, host.name, name, repr(error)))
            raise
        finally:
            self._running -= 1
            self._alone.pop(alone, None)

    def is_idle(self) -> bool:
        """Whether no command runs."""
        return not self._running


@trouble(1.0, least="calm")
def check(world: World) -> None:
    """An operator checks all events of the story."""
    world.office.do("check", run_check, world)


def run_check(world: World) -> None:
    """Check all events since the beginning, and give the oracle the result. Blocks."""
    settings, begun_at = world.settings, world.scheduler.now
    directory = known_destinations(settings).directory
    with check_deliveries(settings, directory, (0, now_ms() + _DAY_MS), Silent()) as result:
        events = result.events
        found = tuple(
            CheckedDelivery(status, one.origin, one.destination)
            for status in STATUSES
            for one in result.deliveries(status)
        )
    world.evidence.checks.append(CheckRun(begun_at, world.scheduler.now, found, events))


@trouble(2.0, least="calm")
def index_attempts(world: World) -> None:
    """An operator brings the index of attempts up to date."""
    office = world.office

    def index() -> int:
        with office.disk():
            return keep_index(world.settings, _DAY_MS, Silent(), follow=False, is_stopped=lambda: False).kept

    office.do("attempts index", index, alone="index")


@trouble(1.0, secs=between(20, 200))
def fill_disk(world: World, *, secs: float) -> None:
    """The disk of the operators' host is full: files cannot grow."""
    office = world.office
    office.is_disk_full = True
    world.mend_later(secs, "disk", lambda: setattr(office, "is_disk_full", False))


@trouble(1.0, least="calm", destination=any_destination)
def search(world: World, *, destination: str) -> None:
    """An operator searches the attempts of a destination."""
    wanted = AttemptFilter(destination=destination)
    world.office.do("attempts", lambda: sum(1 for _ in search_attempts(world.settings, wanted, Silent())))


@trouble(2.0, destination=any_destination)
def retry_now(world: World, *, destination: str) -> None:
    """An operator begins the waiting retries of a destination."""
    world.evidence.retries_asked_for = True
    world.office.do("retry now", begin_retries, world.settings, destination)


@trouble(1.0, again=chance(0.3), limit=one_of(None, None, 10))
def replay_letters(world: World, *, again: bool, limit: int | None) -> None:
    """An operator replays dead letters."""

    def replay() -> int:
        known, limits = known_destinations(world.settings), ReplayLimits(deliveries=limit)
        wanted, begun_at = DeadLetterFilter(), world.scheduler.now
        result = replay_dead_letters(world.settings, known, wanted, limits, Silent(), again=again)
        return _note_replay(world, begun_at, result)

    world.office.do("replay dlq", replay)


@trouble(0.7, destination=any_destination, back_secs=between(10, 120))
def replay_past_events(world: World, *, destination: str, back_secs: float) -> None:
    """An operator replays the last events of a destination's customer."""

    def replay() -> int:
        until = now_ms()
        wanted = EventFilter(since_ms=until - round(1_000 * back_secs), until_ms=until, destination=destination)
        known, begun_at = known_destinations(world.settings), world.scheduler.now
        result = replay_events(world.settings, known, wanted, ReplayLimits(), Silent())
        return _note_replay(world, begun_at, result)

    world.office.do("replay events", replay)


def _note_replay(world: World, begun_at: float, result: ReplayResult) -> int:
    """Tell the oracle of a replay that ended; the number of its deliveries."""
    chosen = result.chosen.total()
    world.evidence.replays.append(ReplayRun(begun_at, world.scheduler.now, result.replay_id, chosen))
    return chosen


@trouble(1.0, remove=chance(0.5))
def rotate_sealing_keys(world: World, *, remove: bool) -> None:
    """An operator makes a new sealing key, seals every secret with it, and removes the old keys."""
    name = f"key-{world.elapsed:.0f}"

    def rotate() -> str:
        generate_key(world.settings, name, None, is_dry_run=False)
        keyring = require_keyring(world.settings)
        done = asyncio.run(rotate_documents(world.settings, keyring, lambda _done, _all: None, is_dry_run=False))
        if remove:
            remove_keys(world.settings, keyring, done.unused(keyring))
        return f"{len(done.resealed)} sealed"

    world.office.do("keys rotate", rotate, alone="keys")


@trouble(0.5, target=one_of("earliest", "latest", "5"))
def reset_offsets(world: World, *, target: str) -> None:
    """Operators stop the fleet, move the offsets of the group, and start the fleet again."""
    world.office.do("replay offsets", _move, world, target, alone="offsets")


def _move(world: World, target: str) -> int:
    wanted = parse_target(target)
    assert wanted is not None
    world.fleet.stop_all()
    world.disturb("operator", _PATIENCE_SECS)
    try:
        until = time.monotonic() + _PATIENCE_SECS
        while True:
            try:
                return len(move_offsets(world.settings, wanted, None, is_dry_run=False))
            except OperatorError:  # the group is active until the last member's session is over
                if time.monotonic() > until:
                    raise
                time.sleep(3.0)
    finally:
        world.disturb("operator")
        world.fleet.start_all()


def skip_unreadable(world: World, at: Origin) -> None:
    """Order workers to skip a batch that cannot be read. Blocks."""
    world.unreadable[at] = None
    order_skip(world.settings, at, "the producer's disk was broken", is_dry_run=False)


def repeat_skips(world: World) -> None:
    """Order workers again to skip the batches at which they still stand. Blocks.

    An order is lost with its topic, when an administrator deletes that. It is refused while the group has passed the
    batch, and a tool may move the group back later. The workers' reports say where they stand.
    """
    group = world.cluster.coordinator(world.settings.kafka.group_id)
    for at in list(world.unreadable):
        topic = world.cluster.topic(at.topic)
        logs = () if topic is None else topic.partitions[at.partition : at.partition + 1]
        commit = group.commits.get((at.topic, at.partition))
        is_there = any(one.unreadable is not None and one.offset == at.offset for log in logs for one in log.records)
        if is_there and (commit is None or commit.offset <= at.offset):
            skip_unreadable(world, at)

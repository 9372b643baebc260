"""`SimConsumer`, in place of confluent_kafka.Consumer: what the product uses of it, with librdkafka's behaviour.

Heartbeats, fetches and commits go on in the background of the host. Callbacks are made inside `poll`, `consume` and
`close`, in the thread that calls, and a rebalance waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Self

from confluent_kafka import OFFSET_INVALID, OFFSET_STORED, KafkaError, TopicPartition

from tests.simulation.kafka.broker import Place
from tests.simulation.kafka.classic_membership import ClassicMembership
from tests.simulation.kafka.commits import Committer, Outcome
from tests.simulation.kafka.consumed import failure, partition_outcome
from tests.simulation.kafka.consumer_membership import ConsumerMembership
from tests.simulation.kafka.coordinator_link import LOST, CoordinatorLink
from tests.simulation.kafka.groups import Commit, FetchedCommits
from tests.simulation.kafka.membership import Kind, Profile, Then
from tests.simulation.kafka.network import Coordinator, Done
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.kafka.positions import Position
from tests.simulation.kafka.reading_client import ReadingClient, place_of, position_of

_AGAIN_SECS: Final = 0.1
"""librdkafka's time between two questions for committed offsets, in seconds."""
_REPEATS: Final = 2
"""librdkafka's repeats of such a question while the coordinator loads."""
Callback = Callable[[Any, list[TopicPartition]], Any]


class SimConsumer(ReadingClient):
    """A consumer, in a group or with partitions of its own choice."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        super().__init__(properties)
        self.group_id = str(properties["group.id"])
        self._callbacks: dict[str, Callback | None] = {}
        self._has_followed = False
        """Whether the callback of the present rebalance has changed the assignment itself."""
        self._fatal: ErrorCode | None = None
        self._starting: dict[Place, None] = {}
        """Assigned partitions whose committed offsets are awaited."""
        self._link = CoordinatorLink(self._host, self, self.group_id, self._secs("reconnect.backoff.max.ms", 10_000))
        is_classic = properties.get("group.protocol", "classic") == "classic"
        membership = ClassicMembership if is_classic else ConsumerMembership
        profile = self._profile()
        self._membership = membership(self._host, self, self._link, self._topics, profile)
        self._committer = Committer(
            self._host,
            self._link,
            lambda: self._membership.identity,
            profile.session_secs,
            self._membership.take_refusal,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _profile(self) -> Profile:
        instance_id = self._properties.get("group.instance.id")
        return Profile(
            str(self._properties.get("client.id", "rdkafka")),
            None if instance_id is None else str(instance_id),
            self._secs("session.timeout.ms", 45_000),
            self._secs("heartbeat.interval.ms", 3_000),
            self._secs("max.poll.interval.ms", 300_000),
        )

    def send(
        self, broker: int | Coordinator, api: str, handle: Callable[[], Any], done: Done, timeout: float | None
    ) -> None:
        """As `coordinator_link.Sender`."""
        self._send(broker, api, handle, done, timeout)

    def send_to_any(self, api: str, handle: Callable[[Any], Any], done: Done) -> None:
        """As `coordinator_link.Sender`."""
        self._send_to_any(api, handle, done)

    # The group.

    def subscribe(
        self,
        topics: list[str],
        on_assign: Callback | None = None,
        on_revoke: Callback | None = None,
        on_lost: Callback | None = None,
    ) -> None:
        """Join the group for these topics."""
        with self._door:
            self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost or on_revoke}
            self._polled_at = self.scheduler.now
            self._membership.subscribe(topics)

    def memberid(self) -> str | None:
        """The id of this member."""
        with self._door:
            return self._membership.member_id or None

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions too."""
        with self._door:
            if any(place_of(p) in self._readers.assigned or place_of(p) in self._starting for p in partitions):
                raise failure(KafkaError._CONFLICT, "Incremental assign failed")
            self._has_followed = True
            self._add(partitions)

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Read these partitions no more."""
        with self._door:
            if any(place_of(p) not in self._readers.assigned and place_of(p) not in self._starting for p in partitions):
                raise failure(KafkaError._INVALID_ARG, "Incremental unassign failed")
            self._has_followed = True
            self._remove(map(place_of, partitions))

    def _begin_poll(self) -> None:
        super()._begin_poll()
        self._membership.note_poll()

    # Rebalances, as `membership.Application`.

    def rebalance(self, kind: Kind, places: Sequence[Place], *, is_lost: bool, then: Then) -> None:
        """Have the callback made in the next poll."""
        self._readers.hold()
        self._add_event(partial(self._serve_rebalance, kind, list(places), then, is_lost=is_lost))

    def _serve_rebalance(self, kind: Kind, places: list[Place], then: Then, *, is_lost: bool) -> None:
        callback = self._callbacks.get("lost" if is_lost else kind)
        self._has_followed = False
        if callback is not None:
            callback(self, [TopicPartition(*place) for place in places])
        if not self._has_followed and kind == "assign":
            self._add([TopicPartition(*place) for place in places])
        elif not self._has_followed:
            self._remove(places)
        self._committer.when_done(partial(self._end_rebalance, then))

    def _end_rebalance(self, then: Then) -> None:
        self._readers.release()
        then()
        self.wake()

    def tell_fatal(self, code: ErrorCode, why: str) -> None:
        """The client can do nothing any more."""
        if self._fatal is None:
            self._fatal = code
            known = KafkaError(code).str()
            self.tell_error(KafkaError._FATAL, f"Fatal error: {known}: {why}: {known}")

    def draw_id(self) -> str:
        """A member id, which the client makes in the consumer protocol."""
        return self.cluster.dice.randbytes(11).hex()

    def wake(self) -> None:
        """Let a call that waits look again."""
        self._changed.notify_all()

    def secs_since_poll(self) -> float:
        """Time since the last poll; 0 during one."""
        return 0.0 if self._is_polling else self.scheduler.now - self._polled_at

    # Starts at the group's commits.

    def _add(self, partitions: Sequence[TopicPartition]) -> None:
        stored = [place_of(p) for p in partitions if p.offset in {OFFSET_INVALID, OFFSET_STORED}]
        super()._add([p for p in partitions if place_of(p) not in stored])
        if stored:
            self._starting |= dict.fromkeys(stored)
            self._start_stored()

    def _remove(self, places: Iterable[Place]) -> None:
        gone = list(places)
        for place in gone:
            self._starting.pop(place, None)
        super()._remove(gone)

    def drop_all(self) -> None:
        """Read nothing more."""
        self._remove([*self._readers.assigned, *self._starting])

    def _start_stored(self) -> None:
        awaited = list(self._starting)
        if not awaited or self._door.is_closed:
            return
        if not self._link.is_up:
            self._link.when_up(self._start_stored)
            return

        def take(answer: FetchedCommits | tuple[ErrorCode] | ErrorCode) -> None:
            if isinstance(answer, Mapping):
                self._start_at(answer)
                return
            code = answer if isinstance(answer, int) else answer[0]
            if code == KafkaError.GROUP_AUTHORIZATION_FAILED:
                self.tell_error(code, f"Failed to fetch committed offsets: {KafkaError(code).str()}")
            self._host.call_later(1.0, self._start_stored)

        self._link.send("OffsetFetch", lambda coordinator: coordinator.fetch(awaited), take)

    def _start_at(self, commits: FetchedCommits) -> None:
        for place, commit in commits.items():
            if place not in self._starting:
                continue
            del self._starting[place]
            if isinstance(commit, int):
                text = f"Failed to fetch committed offset: {KafkaError(commit).str()}"
                self.tell_error(commit, text, place[0])
            else:
                start = Position(OFFSET_INVALID) if commit is None else Position(commit.offset, commit.epoch)
                self._readers.add(place, start)

    # Commits.

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool = True) -> list[TopicPartition] | None:
        """Commit, and tell ``on_commit`` the outcome in a later poll; or wait for it, and raise KafkaException."""
        with self._door:
            commits = {place_of(p): Commit(p.offset, p.metadata or "", position_of(p).epoch) for p in offsets}
            # The product keeps partitions in sets, whose order means nothing.
            commits = {place: commit for place, commit in sorted(commits.items()) if commit.offset >= 0}
            outcomes: list[Outcome] = []

            def take(outcome: Outcome) -> None:
                outcomes.append(outcome)
                if asynchronous:
                    self._report(commits, outcome)
                self._changed.notify_all()

            if self._fatal is not None or not commits:
                code = KafkaError._NO_OFFSET if self._fatal is None else KafkaError._FATAL
                self._host.call_later(0.0, take, Outcome(code, {}))
            else:
                self._committer.commit(commits, take)
            if asynchronous:
                return None
            while not outcomes:
                self._changed.wait()
            if outcomes[0].error is not None:
                raise failure(outcomes[0].error, "Commit failed")
            return self._results(commits, outcomes[0])

    def _report(self, commits: Mapping[Place, Commit], outcome: Outcome) -> None:
        callback = self._properties.get("on_commit")
        if callback is not None:
            error = None if outcome.error is None else KafkaError(outcome.error)
            self._add_event(lambda: callback(error, self._results(commits, outcome)))

    @staticmethod
    def _results(commits: Mapping[Place, Commit], outcome: Outcome) -> list[TopicPartition]:
        return [
            partition_outcome(place, commit.offset, commit.metadata, commit.epoch, outcome.errors.get(place))
            for place, commit in commits.items()
        ]

    def committed(self, partitions: Sequence[TopicPartition], timeout: float = -1.0) -> list[TopicPartition]:
        """The group's commits. Raises KafkaException."""
        with self._door:
            places = [place_of(partition) for partition in partitions]
            found = self._ask_committed(places, self.scheduler.now + timeout if timeout >= 0 else float("inf"))
            results = []
            for place in places:
                commit = found.get(place)
                if isinstance(commit, Commit):
                    results.append(partition_outcome(place, commit.offset, commit.metadata, commit.epoch))
                else:
                    results.append(partition_outcome(place, OFFSET_INVALID, "", -1, commit))
            return results

    def _ask_committed(self, places: Sequence[Place], end: float) -> FetchedCommits:
        loading = 0
        while True:
            answer = self._ask_coordinator(places, end)
            if isinstance(answer, Mapping):
                return answer
            loading += answer == KafkaError.COORDINATOR_LOAD_IN_PROGRESS
            is_passing = answer in LOST or (answer == KafkaError.COORDINATOR_LOAD_IN_PROGRESS and loading <= _REPEATS)
            if not is_passing or self.scheduler.now >= end:
                code = KafkaError._TIMED_OUT if answer in LOST else answer
                raise failure(code, "Failed to get committed offsets")
            self._pause(min(end, self.scheduler.now + _AGAIN_SECS))

    def _ask_coordinator(self, places: Sequence[Place], end: float) -> FetchedCommits | ErrorCode:
        """One try: the answer, or its error."""
        if not self._link.is_up:
            self._link.when_up(self._changed.notify_all)
            self._pause_until(lambda: self._link.is_up, end)
        if not self._link.is_up:
            return KafkaError._TIMED_OUT
        answers: list[Any] = []

        def take(answer: Any) -> None:
            answers.append(answer if not isinstance(answer, tuple) else answer[0])
            self._changed.notify_all()

        self._link.send("OffsetFetch", lambda coordinator: coordinator.fetch(places), take)
        self._pause_until(lambda: bool(answers), end)
        result: FetchedCommits | ErrorCode = answers[0] if answers else KafkaError._TIMED_OUT
        return result

    def _pause_until(self, is_done: Callable[[], bool], end: float) -> None:
        while not is_done() and self.scheduler.now < end:
            self._changed.wait(None if end == float("inf") else end - self.scheduler.now)

    # The end.

    def _statistics(self) -> dict[str, Any]:
        membership = self._membership
        group = {
            "state": self._link.state,
            "join_state": membership.join_state,
            "rebalance_cnt": membership.rebalances,
        }
        return super()._statistics() | {"cgrp": group}

    def close(self) -> None:
        """Give the partitions back, leave the group and end. Callbacks are made meanwhile."""
        if self._door.is_closed:
            return
        with self._door:
            if self._membership.subscription and self._fatal is None:
                self._membership.terminate()
                self._serve_events()
                while not self._has_left():
                    self._changed.wait()
                    self._serve_events()
            self._link.is_closed = True
            self._stop()

    def _has_left(self) -> bool:
        return self._membership.is_over

"""A member of a group of the consumer protocol (KIP-848): heartbeats carry everything, and the coordinator assigns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.assignor import Place
from tests.simulation.kafka.consumer_group import JOIN_EPOCH, LEAVE_EPOCH, PAUSE_EPOCH, Beat, BeatAnswer
from tests.simulation.kafka.membership import Membership
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Timer

_RETRY_SECS: Final = 0.5
"""Time until a heartbeat is repeated that was not answered, in seconds, before the interval is known."""
_TOLD_EVERY_SECS: Final = 5.0
"""librdkafka's shortest time between two reports of one error, in seconds."""
_FATAL: Final = frozenset[int]({
    KafkaError.GROUP_ID_NOT_FOUND, KafkaError.INVALID_REQUEST, KafkaError.GROUP_MAX_SIZE_REACHED,
    KafkaError.UNSUPPORTED_ASSIGNOR, KafkaError.UNSUPPORTED_VERSION, KafkaError.UNRELEASED_INSTANCE_ID,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
})  # fmt: skip
"""Answers after which the client gives up."""


@final
class ConsumerMembership(Membership):
    """The membership with ``group.protocol=consumer``."""

    _interval_secs = 0.0
    _timer: Timer | None = None
    _is_beating = False
    """Whether an answer is awaited."""
    _is_due_again = False
    """Whether there is news that the heartbeat on its way does not carry."""
    _tells_all = True
    """Whether the next heartbeat repeats everything: at first, and to a new coordinator."""
    _tells_owned = False
    """Whether the next heartbeat tells which partitions are owned now."""
    _target: tuple[Place, ...] | None = None
    """The newest assignment, until it is followed. It waits for metadata and for the present rebalance."""
    _must_rejoin = False
    _told_at = float("-inf")

    def serve(self) -> None:
        """As `Membership.serve`."""
        if self.subscription and self._timer is None and not self._is_beating:
            self._expedite()

    def _expedite(self) -> None:
        """Send a heartbeat now, or when the present one has its answer."""
        if self._is_beating:
            self._is_due_again = True
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._host.call_later(0.0, self._beat)

    def _plan(self, secs: float) -> None:
        self._timer = self._host.call_later(secs, self._beat)

    def _beat(self) -> None:
        self._timer = None
        if self._is_terminating or self._polls_too_seldom or self.join_state == "failed":
            return
        if not self._link.is_up:
            self._link.when_up(self.serve)
            return
        if self._must_rejoin and not self.is_rebalancing:
            self._must_rejoin = False
            self._lose_all()
            return
        if self._must_rejoin or (self.generation <= 0 and self.is_rebalancing):
            self._plan(_RETRY_SECS)
            return
        self._send()

    def _send(self) -> None:
        is_first = self.generation <= 0
        if not self.member_id:
            self.member_id = self._application.draw_id()
        tells_all, tells_owned = self._tells_all or is_first, self._tells_owned
        self._tells_all = self._tells_owned = False
        beat = Beat(
            self.member_id,
            JOIN_EPOCH if is_first else self.generation,
            self._profile.instance_id,
            self._profile.client_id,
            self._host.name,
            self._profile.max_poll_secs if tells_all else None,
            self.subscription if tells_all else None,
            tuple(self.assignment) if tells_all or tells_owned else None,
        )
        self._is_beating = True
        self._link.send(
            "ConsumerGroupHeartbeat",
            lambda coordinator: coordinator.consumer_heartbeat(beat),
            lambda answer: self._take(answer, has_told=tells_owned),
        )

    def _take(self, answer: BeatAnswer | ErrorCode, *, has_told: bool) -> None:
        self._is_beating = False
        if self._is_terminating or self._polls_too_seldom:
            return
        error = answer if isinstance(answer, int) else answer.error
        if isinstance(answer, int) or error is not None:
            self._tells_owned |= has_told
            self._take_error(error or KafkaError.UNKNOWN)
            return
        self.generation = answer.epoch
        self._interval_secs = answer.interval_secs
        if self.join_state == "init":
            self.join_state = "steady"
        if answer.partitions is not None:
            self._target = answer.partitions
        self._plan(0.0 if self._is_due_again else self._interval_secs)
        self._is_due_again = False
        self._reconcile()

    def _reconcile(self) -> None:
        if self._target is None or self.is_rebalancing:
            return
        if set(self._target) == set(self.assignment):
            self._target = None
        else:
            self._topics.ask_now(sorted({topic for topic, _ in self._target}), self._follow_target)

    def _follow_target(self) -> None:
        """Move to the newest assignment. It may have replaced the one for which the metadata was asked."""
        is_away = self._must_rejoin or self.generation <= 0 or self._is_terminating
        if self._target is not None and not self.is_rebalancing and not is_away:
            target, self._target = self._target, None
            self._handle(target)

    def _settle(self, *, has_revoked: bool) -> None:
        del has_revoked
        self._tells_owned = True
        self._expedite()
        self._reconcile()

    def _take_error(self, error: ErrorCode) -> None:
        self._is_due_again = False
        if error in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH}:
            self._must_rejoin = True
            self._plan(0.0)
        elif error in _FATAL:
            self.fail(error, "ConsumerGroupHeartbeat fatal error")
            self.join_state = "failed"
        else:
            self._tells_all |= not self._link.is_up
            if error == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                self._tell(error)
            self._plan(self._interval_secs or _RETRY_SECS)

    def _tell(self, error: ErrorCode) -> None:
        now = self._host.scheduler.now
        if now - self._told_at >= max(self._interval_secs, _TOLD_EVERY_SECS):
            self._told_at = now
            self._application.tell_error(error, f"ConsumerGroupHeartbeat failed: {KafkaError(error).str()}")

    def take_refusal(self, error: ErrorCode) -> None:
        """A commit was refused: the next heartbeat brings the newer epoch, or the end of the membership."""
        if error in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.STALE_MEMBER_EPOCH}:
            self._expedite()
        elif error == KafkaError.FENCED_INSTANCE_ID:
            self.fail(error, "OffsetCommit failed")

    def _rejoin(self) -> None:
        self.generation = JOIN_EPOCH
        self._target = None
        self._tells_all = True
        self.join_state = "init"
        self._expedite()

    def _exceed_polls(self) -> None:
        self._send_leave(lambda _answer: None)
        self.generation = LEAVE_EPOCH
        self._must_rejoin = self.is_rebalancing
        self._lose_all()

    def _leave(self) -> None:
        if self.generation > 0 and self._link.is_up:
            self._send_leave(self._note_end)
        else:
            self._note_end()

    def _send_leave(self, done: Callable[[object], None]) -> None:
        epoch = LEAVE_EPOCH if self._profile.instance_id is None else PAUSE_EPOCH
        beat = Beat(self.member_id, epoch, self._profile.instance_id)
        self._link.send(
            "ConsumerGroupHeartbeat",
            lambda coordinator: coordinator.consumer_heartbeat(beat),
            done,
            self._profile.session_secs,
        )

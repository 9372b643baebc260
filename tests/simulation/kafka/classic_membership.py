"""A member of a classic group, cooperative: it joins, assigns if it leads, and sends heartbeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.assignor import Place, share_out
from tests.simulation.kafka.classic_member import NO_GENERATION, Assignment, Joined, Joining, Synced
from tests.simulation.kafka.membership import Membership
from tests.simulation.kafka.partition_log import ErrorCode

_JOIN_SECS: Final = 1.0
"""librdkafka's shortest time between two joins, in seconds."""
_JOIN_MARGIN_SECS: Final = 3.0
"""librdkafka waits this much longer for the answer to a join than for polls, in seconds."""
_JOINING: Final = frozenset({"init", "wait-join", "wait-metadata", "wait-sync"})
"""States without heartbeats."""
_MENDED: Final = frozenset[int]({
    KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD, KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.MEMBER_ID_REQUIRED,
    KafkaError.REBALANCE_IN_PROGRESS,
})  # fmt: skip
"""Errors of a join that the application does not hear of."""


@final
class ClassicMembership(Membership):
    """The membership with ``group.protocol=classic`` and ``cooperative-sticky``."""

    _next_join_at = 0.0
    _beats = False
    _is_beating = False
    """Whether an answer to a heartbeat is awaited."""
    _alive_at = 0.0
    """The time of the coordinator's last answer, in virtual seconds."""
    _counts: tuple[tuple[str, int], ...] | None = None
    """The subscribed topics that exist, with their numbers of partitions, as of the last join."""
    _answer_is_due = False
    """Whether the answer to a join is awaited: no other one is sent meanwhile."""
    _told: Mapping[str, ErrorCode] = {}
    """Errors of topics that the application knows."""

    def serve(self) -> None:
        """As `Membership.serve`."""
        if self.join_state != "init" or not self.subscription or self._answer_is_due:
            return
        if self._is_terminating or self._polls_too_seldom:
            return
        if not self._link.is_up:
            self._link.when_up(self.serve)
            return
        counts = self._existing()
        if not counts:
            return  # the next metadata may bring one
        now = self._host.scheduler.now
        if now < self._next_join_at:
            self._host.call_later(self._next_join_at - now, self.serve)
            return
        self._counts = counts
        self._next_join_at = now + _JOIN_SECS
        self._join(tuple(name for name, _ in counts))

    def _existing(self) -> tuple[tuple[str, int], ...]:
        return tuple(
            (name, len(self._topics[name].leaders)) for name in self.subscription if self._topics[name].leaders
        )

    def _join(self, topics: tuple[str, ...]) -> None:
        profile = self._profile
        wish = Joining(
            self.member_id,
            profile.instance_id,
            profile.client_id,
            self._host.name,
            profile.session_secs,
            profile.max_poll_secs,
            topics,
            tuple(self.assignment),
        )
        self.join_state = "wait-join"
        self._answer_is_due = True
        self._link.send(
            "JoinGroup",
            lambda coordinator: coordinator.join(wish),
            self._take_join,
            profile.max_poll_secs + _JOIN_MARGIN_SECS,
        )

    def _take_join(self, answer: Joined | ErrorCode) -> None:
        self._answer_is_due = False
        if self.join_state != "wait-join":
            self.serve()
            return
        error = answer if isinstance(answer, int) else answer.error
        if isinstance(answer, int) or error is not None:
            self._fail_join(error or KafkaError.UNKNOWN, "" if isinstance(answer, int) else answer.member_id)
            return
        self.member_id, self.generation = answer.member_id, answer.generation
        if answer.leader == answer.member_id:
            self.join_state = "wait-metadata"
            self._assign_all(answer.members)
        else:
            self._sync(None)

    def _fail_join(self, error: ErrorCode, member_id: str) -> None:
        if error == KafkaError.FENCED_INSTANCE_ID:
            self.fail(error, "Fatal consumer error")
            return
        if error not in _MENDED:
            self._application.tell_error(error, f"JoinGroup failed: {KafkaError(error).str()}")
        if error == KafkaError.MEMBER_ID_REQUIRED:
            self.member_id = member_id
            self._next_join_at = 0.0
        else:
            self._next_join_at = self._host.scheduler.now + _JOIN_SECS
        if error == KafkaError.UNKNOWN_MEMBER_ID:
            self.member_id = ""
        self.join_state = "init"
        if error in {KafkaError.MEMBER_ID_REQUIRED, KafkaError.ILLEGAL_GENERATION}:
            self.generation = NO_GENERATION
            self._lose_all()
        else:
            self.serve()

    # The leader's work.

    def _assign_all(self, members: Mapping[str, Joining]) -> None:
        topics = sorted({topic for wish in members.values() for topic in wish.topics})
        round_ = self.generation

        def go_on() -> None:
            if self.join_state == "wait-metadata" and self.generation == round_:
                partitions = [(topic, n) for topic in topics for n in range(len(self._topics[topic].leaders))]
                self._sync(_cooperative(partitions, members))

        self._topics.ask_now(topics, go_on)

    def _sync(self, assignment: Assignment | None) -> None:
        who = self.identity
        self.join_state = "wait-sync"
        self._link.send("SyncGroup", lambda coordinator: coordinator.sync(who, assignment), self._take_sync)

    def _take_sync(self, answer: Synced | ErrorCode) -> None:
        if self.join_state != "wait-sync":
            return
        error = answer if isinstance(answer, int) else answer.error
        if isinstance(answer, int) or error is not None:
            self.join_state = "init"
            if error == KafkaError.FENCED_INSTANCE_ID:
                self.fail(error, "Fatal consumer error")
                return
            if error not in _MENDED:
                self._application.tell_error(
                    error or KafkaError.UNKNOWN, f"SyncGroup failed: {KafkaError(error or -1).str()}"
                )
            if error == KafkaError.UNKNOWN_MEMBER_ID:
                self.member_id = ""
            if error in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION}:
                self.generation = NO_GENERATION
                self._lose_all()
            else:
                self.serve()
            return
        self._alive_at = self._host.scheduler.now
        self._begin_beating()
        self._handle(answer.partitions)

    def _settle(self, *, has_revoked: bool) -> None:
        if has_revoked:
            self._rejoin()
        else:
            self._follow_topics()

    def _rejoin(self) -> None:
        self.join_state = "init"
        self.serve()

    # Heartbeats.

    def _begin_beating(self) -> None:
        if not self._beats:
            self._beats = True
            self._host.call_later(self._profile.heartbeat_secs, self._beat)

    def _beat(self) -> None:
        if self.is_over:
            return
        self._host.call_later(self._profile.heartbeat_secs, self._beat)
        if self.join_state in _JOINING or self._polls_too_seldom:
            return
        if self._host.scheduler.now - self._alive_at >= self._profile.session_secs:
            self._expire()
        elif self._link.is_up and not self._is_beating:
            who = self.identity
            self._is_beating = True
            self._link.send(
                "Heartbeat",
                lambda coordinator: coordinator.heartbeat(who),
                lambda answer: self._take_beat(who.generation, answer),
            )

    def _expire(self) -> None:
        """The coordinator has not answered for a session: it must take this member for dead."""
        if not self.is_rebalancing:
            self.member_id = ""
            self._alive_at = self._host.scheduler.now
            self._lose_all()

    def _take_beat(self, generation: int, answer: tuple[ErrorCode | None] | ErrorCode) -> None:
        self._is_beating = False
        error = answer if isinstance(answer, int) else answer[0]
        if self.join_state in _JOINING or generation != self.generation:
            return
        if error is None or error == KafkaError.REBALANCE_IN_PROGRESS:
            self._alive_at = self._host.scheduler.now
            if error is not None and not self.is_rebalancing and not self._is_terminating:
                self._rejoin()
        else:
            self.take_refusal(error)

    def take_refusal(self, error: ErrorCode) -> None:
        """A heartbeat or a commit was refused: does the membership still hold?"""
        if error == KafkaError.FENCED_INSTANCE_ID:
            self.fail(error, "Fatal consumer error")
        elif error == KafkaError.UNKNOWN_MEMBER_ID:
            self.member_id = ""
            self._lose_all()
        elif error == KafkaError.ILLEGAL_GENERATION and not self.is_rebalancing and self.join_state == "steady":
            self.generation = NO_GENERATION
            self._lose_all()

    # The end, and what leads there.

    def _exceed_polls(self) -> None:
        if self._profile.instance_id is None:
            self._send_leave(lambda _answer: None)
        self.member_id = ""
        self._lose_all()

    def _leave(self) -> None:
        if self._profile.instance_id is None and self.member_id and self._link.is_up:
            self._send_leave(self._note_end)
        else:
            self._note_end()

    def _send_leave(self, done: Callable[[object], None]) -> None:
        who = self.identity
        if who.member_id:
            self._link.send("LeaveGroup", lambda coordinator: coordinator.leave(who), done, self._profile.session_secs)

    def _tell_missing_topics(self) -> None:
        """Tell the application of subscribed topics that are not there, once each."""
        errors = {
            name: self._topics[name].error
            for name in self.subscription
            if self._topics[name].existence in {"gone", "refused"}
        }
        for name, code in errors.items():
            if self._told.get(name) != code:
                text = f"Subscribed topic not available: {name}: {KafkaError(code).str()}"
                self._application.tell_error(code, text, name)
        self._told = errors

    def _follow_topics(self) -> None:
        self._tell_missing_topics()
        counts = self._existing()
        if self.join_state != "steady" or self._is_terminating or counts == self._counts:
            self.serve()
            return
        self._counts = counts
        known = {name for name, _ in counts}
        gone = [place for place in self.assignment if place[0] not in known]
        if gone:
            self._revoke(gone, lambda: None, is_lost=True)  # the membership goes on
        else:
            self._rejoin()


def _cooperative(partitions: list[Place], members: Mapping[str, Joining]) -> Assignment:
    """The assignment of one round: a partition that another member still has is given away in the next one."""
    subscriptions = {name: wish.topics for name, wish in members.items()}
    owned = {name: wish.owned for name, wish in members.items()}
    owner = {place: name for name, places in owned.items() for place in places}
    shares = share_out(partitions, subscriptions, owned)
    return {name: tuple(place for place in share if owner.get(place, name) == name) for name, share in shares.items()}

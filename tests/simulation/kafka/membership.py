"""A consumer's membership of its group, as far as both protocols share it: rebalances that wait for the application.

A rebalance first holds all partitions back, then waits for the application to serve the callback, which happens inside
its next poll. Partitions are given up before others are taken. The states have librdkafka's names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from confluent_kafka import KafkaError

from tests.simulation.kafka.assignor import Place
from tests.simulation.kafka.classic_member import NO_GENERATION, Identity
from tests.simulation.kafka.coordinator_link import CoordinatorLink
from tests.simulation.kafka.known_topics import KnownTopics
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Host

Kind = Literal["assign", "revoke"]
Then = Callable[[], None]


class Profile(NamedTuple):
    """The member's properties."""

    client_id: str
    instance_id: str | None
    session_secs: float
    heartbeat_secs: float
    max_poll_secs: float


class Application(Protocol):
    """The consumer, as its membership sees it."""

    def rebalance(self, kind: Kind, places: Sequence[Place], *, is_lost: bool, then: Then) -> None:
        """Have the callback served, then go on."""

    def drop_all(self) -> None:
        """Read nothing more, without a callback."""

    def tell_error(self, code: ErrorCode, text: str, topic: str | None = None) -> None:
        """Bring an error to the application in place of a message."""

    def tell_fatal(self, code: ErrorCode, why: str) -> None:
        """The client can do nothing any more."""

    def draw_id(self) -> str:
        """A random id."""

    def wake(self) -> None:
        """Let a call that waits look again."""

    def secs_since_poll(self) -> float:
        """Time since the application has last polled; 0 while it does."""


class Membership(ABC):
    """One client in its group."""

    def __init__(
        self, host: Host, application: Application, link: CoordinatorLink, topics: KnownTopics, profile: Profile
    ) -> None:
        self._host = host
        self._application = application
        self._link = link
        self._topics = topics
        self._profile = profile
        self.subscription: tuple[str, ...] = ()
        self.member_id = ""
        self.generation = NO_GENERATION
        self.join_state = "init"
        self.rebalances = 0
        self.assignment: dict[Place, None] = {}
        """The partitions that the group has assigned to this member."""
        self.is_over = False
        """Whether the membership has ended, after `terminate`."""
        self._is_terminating = False
        self._polls_too_seldom = False
        topics.on_answer = self._follow_topics

    @property
    def identity(self) -> Identity:
        """The member, for a commit."""
        return Identity(self.member_id, self._profile.instance_id, self.generation)

    @property
    def is_rebalancing(self) -> bool:
        """Whether a rebalance waits for the application."""
        return self.join_state in {"wait-assign-call", "wait-unassign-call"}

    def subscribe(self, topics: Sequence[str]) -> None:
        """Take part, for these topics."""
        self.subscription = tuple(topics)
        self._topics.follow(topics)
        self.check_polls()
        self.serve()

    @abstractmethod
    def serve(self) -> None:
        """Do what is due: join, or send a heartbeat."""

    @abstractmethod
    def _leave(self) -> None:
        """Tell the coordinator, and set `is_over` when that is done."""

    @abstractmethod
    def _exceed_polls(self) -> None:
        """The application polls too seldom: leave the group for now."""

    @abstractmethod
    def _rejoin(self) -> None:
        """Begin the next round."""

    @abstractmethod
    def _settle(self, *, has_revoked: bool) -> None:
        """The application has followed an assignment. ``has_revoked``: it has given partitions up for it."""

    # Rebalances.

    def _handle(self, places: Sequence[Place]) -> None:
        """Move to this assignment."""
        gained = [place for place in places if place not in self.assignment]
        gone = [place for place in self.assignment if place not in places]
        if gone:
            self._revoke(gone, then=lambda: self._assign(gained, has_revoked=True))
        else:
            self._assign(gained, has_revoked=False)

    def _assign(self, places: Sequence[Place], *, has_revoked: bool) -> None:
        self.assignment |= dict.fromkeys(places)
        self.join_state = "wait-assign-call"
        self._rebalance("assign", places, is_lost=False, then=lambda: self._settle(has_revoked=has_revoked))

    def _revoke(self, places: Iterable[Place], then: Then, *, is_lost: bool = False) -> None:
        gone = list(places)
        self.assignment = {place: None for place in self.assignment if place not in gone}
        self.join_state = "wait-unassign-call"
        self._rebalance("revoke", gone, is_lost=is_lost, then=then)

    def _rebalance(self, kind: Kind, places: Sequence[Place], *, is_lost: bool, then: Then) -> None:
        self.rebalances += 1
        self._application.rebalance(kind, places, is_lost=is_lost, then=lambda: self._go_on(then))

    def _go_on(self, then: Then) -> None:
        """The application has served the callback."""
        if self._is_terminating:
            self._end()
        else:
            self.join_state = "steady"
            then()

    def _lose_all(self) -> None:
        """The membership has ended: its partitions may belong to others by now."""
        if self.is_rebalancing or self._is_terminating:
            return
        if self.assignment:
            self._revoke(self.assignment, self._rejoin, is_lost=True)
        else:
            self._rejoin()

    def fail(self, code: ErrorCode, why: str) -> None:
        """The coordinator refuses this client for good."""
        self._application.tell_fatal(code, why)
        self.assignment.clear()
        self._application.drop_all()
        self.join_state = "init"

    # The end.

    def terminate(self) -> None:
        """Give everything back and leave. `is_over` tells when that is done."""
        self._is_terminating = True
        if not self.is_rebalancing:
            self._end()

    def _note_end(self, _answer: object = None) -> None:
        """The coordinator knows, or cannot be told."""
        self.is_over = True
        self._application.wake()

    def _end(self) -> None:
        if self.assignment:
            gone, self.assignment = list(self.assignment), {}
            self.join_state = "wait-unassign-call"
            self.rebalances += 1
            self._application.rebalance("revoke", gone, is_lost=False, then=self._leave)
        else:
            self._leave()

    # Polls.

    def check_polls(self) -> None:
        """Look whether the application polls, and again when its time is over."""
        if self._is_terminating:
            return
        longest = self._profile.max_poll_secs
        left = longest - self._application.secs_since_poll()
        if left <= 0 and not self._polls_too_seldom:
            self._polls_too_seldom = True
            text = f"Application maximum poll interval ({round(longest * 1000)}ms) exceeded"
            self._application.tell_error(KafkaError._MAX_POLL_EXCEEDED, text)
            self._exceed_polls()
        self._host.call_later(left if left > 0 else longest, self.check_polls)

    def note_poll(self) -> None:
        """The application polls again."""
        if self._polls_too_seldom:
            self._polls_too_seldom = False
            self.serve()

    # Topics.

    def _follow_topics(self) -> None:
        """Act on the newest metadata."""
        self.serve()

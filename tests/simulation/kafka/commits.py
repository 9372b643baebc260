"""Commits of a consumer on their way to the coordinator: one after another, repeated and put off as librdkafka does it.

librdkafka makes a request at once when it knows the coordinator, for the member that the client is then, and repeats it
for this member. The requests share a connection: those behind one without an answer wait for it, and fail when it times
out. A repeated commit may set the group back, when a newer one has overtaken it on another connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.assignor import Place
from tests.simulation.kafka.classic_member import Identity
from tests.simulation.kafka.coordinator_link import CoordinatorLink
from tests.simulation.kafka.groups import Commit, CommitAnswer
from tests.simulation.kafka.partition_log import ErrorCode
from tests.simulation.scheduler import Host

_REPEATS: Final = 2
"""librdkafka's repeats of a request other than Produce."""
_REPEAT_SECS: Final = 0.1
"""librdkafka's ``retry.backoff.ms``, in seconds."""
_REPEATED: Final = frozenset[int]({
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT, KafkaError._TIMED_OUT,
})  # fmt: skip
_BROKEN: Final = frozenset[int]((KafkaError._TRANSPORT, KafkaError._TIMED_OUT))
"""Errors with which the connection ends, and with it each request on it."""
_PUT_OFF: Final = frozenset[int](
    {KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError._TRANSPORT}
)
"""Errors after which a commit waits for the coordinator to come back."""


class Outcome(NamedTuple):
    """The end of a commit."""

    error: ErrorCode | None
    errors: Mapping[Place, ErrorCode | None]


Done = Callable[[Outcome], None]


class _Waiting:
    """A commit that has no outcome yet."""

    def __init__(self, commits: Mapping[Place, Commit], done: Done) -> None:
        self.commits = commits
        self.done = done
        self.who: Identity | None = None
        """The member as of the moment at which the request was made: repeats keep it."""
        self.repeats = 0
        self.until: float | None = None
        """The end of its wait for the coordinator."""


@final
class Committer:
    """Sends commits in their order."""

    def __init__(
        self,
        host: Host,
        link: CoordinatorLink,
        identity: Callable[[], Identity],
        wait_secs: float,
        on_refusal: Callable[[ErrorCode], None],
    ) -> None:
        """``wait_secs``: longest wait for the coordinator. ``on_refusal``: told the errors of commits."""
        self._host = host
        self._link = link
        self._identity = identity
        self._wait_secs = wait_secs
        self._on_refusal = on_refusal
        self._open = 0
        """The number of commits without an outcome."""
        self._sent = deque[tuple[_Waiting, Identity]]()
        """Those on the connection. The first one waits for its answer, and the others behind it."""
        self._when_done: list[Callable[[], None]] = []

    def commit(self, commits: Mapping[Place, Commit], done: Done) -> None:
        """Commit; ``done`` is told the outcome in the background."""
        self._open += 1
        self._request(_Waiting(commits, done))

    def when_done(self, then: Callable[[], None]) -> None:
        """Call this when no commit is on its way; at once if none is."""
        if self._open:
            self._when_done.append(then)
        else:
            then()

    def _request(self, waiting: _Waiting) -> None:
        """Make the request, or wait for the coordinator first."""
        if not self._link.is_up:
            self._put_off(waiting, KafkaError._WAIT_COORD)
            return
        waiting.who = waiting.who or self._identity()
        self._sent.append((waiting, waiting.who))
        if len(self._sent) == 1:
            self._send_first()

    def _send_first(self) -> None:
        waiting, who = self._sent[0]
        self._link.send(
            "OffsetCommit",
            lambda coordinator: coordinator.commit(who, waiting.commits),
            lambda answer: self._take(waiting, answer),
        )

    def _take(self, waiting: _Waiting, answer: CommitAnswer | ErrorCode) -> None:
        self._sent.popleft()
        behind: list[_Waiting] = []
        if isinstance(answer, int) and answer in _BROKEN:
            behind = [one for one, _ in self._sent]
            self._sent.clear()
        elif self._sent:
            self._send_first()
        self._end(waiting, dict.fromkeys(waiting.commits, answer) if isinstance(answer, int) else answer)
        for one in behind:
            self._end(one, dict.fromkeys(one.commits, KafkaError._TRANSPORT))

    def _end(self, waiting: _Waiting, errors: CommitAnswer) -> None:
        """The request has its answer, or has lost its connection."""
        error = next((code for code in reversed(list(errors.values())) if code is not None), None)
        if error is not None and error in _REPEATED and waiting.repeats < _REPEATS:
            waiting.repeats += 1
            self._host.call_later(_REPEAT_SECS * 2 ** (waiting.repeats - 1), self._request, waiting)
        elif error in _PUT_OFF and waiting.until is None:
            self._put_off(waiting, error)
        else:
            # librdkafka gives the error of one partition to those that have none.
            self._finish(waiting, Outcome(error, {place: code or error for place, code in errors.items()}))

    def _put_off(self, waiting: _Waiting, error: ErrorCode | None) -> None:
        """Wait for the coordinator, once, for a session."""
        if waiting.until is not None:
            self._finish(waiting, Outcome(error, dict.fromkeys(waiting.commits, error)))
            return
        waiting.until = self._host.scheduler.now + self._wait_secs
        is_over = [False]

        def go_on() -> None:
            if not is_over[0]:
                is_over[0] = True
                waiting.who, waiting.repeats = None, 0
                self._request(waiting)

        def give_up() -> None:
            if not is_over[0]:
                is_over[0] = True
                outcome = Outcome(KafkaError._WAIT_COORD, dict.fromkeys(waiting.commits, KafkaError._WAIT_COORD))
                self._finish(waiting, outcome)

        self._link.when_up(go_on)
        self._host.call_later(self._wait_secs, give_up)

    def _finish(self, waiting: _Waiting, outcome: Outcome) -> None:
        self._open -= 1
        if outcome.error is not None:
            self._on_refusal(outcome.error)
        waiting.done(outcome)
        if self._open:
            return
        then, self._when_done = self._when_done, []
        for call in then:
            call()

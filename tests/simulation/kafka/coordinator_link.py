"""A client's way to the coordinator of its group: found, lost and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Protocol, final

from confluent_kafka import KafkaError

from tests.simulation.kafka.cluster import Cluster
from tests.simulation.kafka.groups import GroupCoordinator
from tests.simulation.kafka.network import Coordinator, Done
from tests.simulation.scheduler import Host

_SEARCH_SECS: Final = 0.5
"""librdkafka's time between two searches for the coordinator, in seconds."""
_LATEST_SECS: Final = 4.0
"""Longest time between two searches while no broker answers, in seconds."""
LOST: Final = frozenset[int](
    (KafkaError._TRANSPORT, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError._WAIT_COORD)
)
"""Answers after which the client searches for the coordinator."""


class Sender(Protocol):
    """Sends requests; `SimClient` in the consumer."""

    cluster: ClassVar[Cluster]

    def send(
        self, broker: int | Coordinator, api: str, handle: Callable[[], Any], done: Done, timeout: float | None
    ) -> None: ...

    def send_to_any(self, api: str, handle: Callable[[Any], Any], done: Done) -> None: ...


@final
class CoordinatorLink:
    """The connection to one group's coordinator."""

    def __init__(self, host: Host, sender: Sender, group_id: str, reconnect_secs: float) -> None:
        """``reconnect_secs``: longest time between two tries to reach a broker."""
        self._host = host
        self._sender = sender
        self.group_id = group_id
        self._longest_secs = min(_LATEST_SECS, max(_SEARCH_SECS, reconnect_secs))
        self.state = "init"
        """As librdkafka's statistics show it; ``up`` when requests can be sent."""
        self.is_closed = False
        self._failures = 0
        """Searches in vain since a broker last answered one."""
        self._on_up: list[Callable[[], None]] = []

    @property
    def is_up(self) -> bool:
        """Whether the coordinator is known and answers."""
        return self.state == "up"

    def when_up(self, then: Callable[[], None]) -> None:
        """Call this once, when the coordinator is found."""
        if then not in self._on_up:
            self._on_up.append(then)
        if self.state == "init":
            self.search()

    def search(self) -> None:
        """Look for the coordinator."""
        if self.state != "query-coord" and not self.is_closed:
            self.state = "query-coord"
            self._ask()

    def send(
        self, api: str, handle: Callable[[GroupCoordinator], Any], done: Done, timeout: float | None = None
    ) -> None:
        """Send a request to the coordinator. Some answers mean that it is lost: then a search begins."""
        cluster = self._sender.cluster

        def take(answer: Any) -> None:
            if any(code in LOST for code in _codes_of(answer)):
                self.search()
            done(answer)

        self._sender.send(
            Coordinator(self.group_id), api, lambda: handle(cluster.coordinator(self.group_id)), take, timeout
        )

    def _ask(self) -> None:
        if not self.is_closed:
            self._sender.send_to_any("FindCoordinator", lambda _broker: (self._find(),), self._take)

    def _find(self) -> int | None:
        cluster = self._sender.cluster
        is_away = cluster.coordinator(self.group_id).trouble in LOST
        return None if is_away else cluster.coordinator_broker(self.group_id)

    def _take(self, answer: tuple[int | None] | int) -> None:
        broker = answer[0] if isinstance(answer, tuple) else None
        if broker is None:
            self._search_again(answer)
            return
        self._sender.send(broker, "ApiVersions", lambda: ("versions",), self._connect, None)

    def _search_again(self, answer: Any) -> None:
        self._failures = self._failures + 1 if isinstance(answer, int) else 0
        self._host.call_later(min(self._longest_secs, _SEARCH_SECS * 2**self._failures), self._ask)

    def _connect(self, answer: Any) -> None:
        if isinstance(answer, int):
            self._search_again(answer)
            return
        self._failures = 0
        self.state = "up"
        waiting, self._on_up = self._on_up, []
        for then in waiting:
            then()


def _codes_of(answer: Any) -> Iterable[int | None]:
    """The error codes of any answer of a coordinator."""
    if isinstance(answer, int):
        return (answer,)
    if isinstance(answer, Mapping):
        return [code for code in answer.values() if isinstance(code, int)]
    return (answer.error,) if hasattr(answer, "error") else tuple(answer)

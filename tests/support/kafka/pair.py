"""Two real brokers as one cluster: the first is the controller, too. Every way to them can be shut."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Final, Self, final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.kafka.line import Line
from tests.support.kafka.local import LocalKafka, LocalKafkaError
from tests.support.ports import free_port

StartKafka = Callable[[Mapping[str, str]], LocalKafka]
"""Starts a broker with these settings."""

_SETTINGS: Final[Mapping[str, str]] = {
    # The controller must not take a broker for dead that it does not hear of during a story. A client that is told so
    # gives the broker up, and then its close() may never return (librdkafka's issue 5476).
    "broker.session.timeout.ms": "60000",
}
_START_SECS: Final = 60.0
"""Longest wait for both brokers, on a busy machine."""
_POLL_SECS: Final = 0.5


@final
class KafkaPair:
    """Brokers 1 and 2. Clients reach each by its `Line` alone, and broker 2 reaches the controller by another one."""

    def __init__(self, start: StartKafka, settings: Mapping[str, str]) -> None:
        self._lines = ExitStack()
        self.lines: Final = {number: self._lines.enter_context(Line()) for number in (1, 2)}
        """The ways of clients, by broker."""
        self.to_controller: Final = self._lines.enter_context(Line())
        """The way of broker 2 to the controller. While it is shut, broker 2 hears of no change."""
        controller = self.to_controller.target = free_port()
        own = "PLAINTEXT://127.0.0.1:{client}"
        told = {number: f"PLAINTEXT://127.0.0.1:{line.port}" for number, line in self.lines.items()}
        first = start({
            **settings, **_SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"{own},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"{told[1]},CONTROLLER://127.0.0.1:{self.to_controller.port}",
        })  # fmt: skip
        self.lines[1].target = _port_of(first)
        second = start({
            **settings, **_SETTINGS,
            "cluster.id": first.cluster_id, "node.id": "2", "process.roles": "broker",
            "controller.quorum.voters": f"1@127.0.0.1:{self.to_controller.port}",
            "listeners": own,
            "advertised.listeners": told[2],
        })  # fmt: skip
        self.lines[2].target = _port_of(second)
        self._brokers = first, second
        self._wait_until_both_answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()

    @property
    def bootstrap_servers(self) -> str:
        """The addresses for clients."""
        return ",".join(f"127.0.0.1:{line.port}" for line in self.lines.values())

    @property
    def running(self) -> bool:
        """Whether both processes are alive."""
        return all(kafka.running for kafka in self._brokers)

    def stop(self) -> None:
        """End both in good order."""
        for kafka in reversed(self._brokers):
            kafka.stop()

    def start(self) -> None:
        """Start both again."""
        for kafka in self._brokers:
            kafka.start()
        self._wait_until_both_answer()

    def open_all(self) -> None:
        """Open every way that was shut, and start the brokers if they were stopped."""
        for line in (*self.lines.values(), self.to_controller):
            line.close_connections()
            line.open()
        for kafka in self._brokers:
            if not kafka.running:
                kafka.start()
        self._wait_until_both_answer()

    def _wait_until_both_answer(self) -> None:
        """Wait until each tells of both. Raises LocalKafkaError."""
        deadline = time.monotonic() + _START_SECS
        for line in self.lines.values():
            admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{line.port}", "log_level": 0})
            while len(_brokers_of(admin)) < len(self.lines):
                if time.monotonic() > deadline:
                    raise LocalKafkaError(f"the brokers did not find each other within {_START_SECS:.0f} s")


def _brokers_of(admin: AdminClient) -> Mapping[int, object]:
    with suppress(KafkaException):
        return admin.list_topics(timeout=_POLL_SECS).brokers
    return {}


def _port_of(kafka: LocalKafka) -> int:
    return int(kafka.bootstrap_servers.rsplit(":", 1)[1])

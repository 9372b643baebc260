"""The kit of a story: clients, the hand of an administrator, and a record of what was observed.

A story is a function over a kit. It notes observations in which nothing depends on time or on chance: no ids, no times,
and sorted where the order is free. The notes of the simulated and of the real Kafka are compared as text.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from confluent_kafka import KafkaError, KafkaException, TopicPartition

PATIENCE_SECS: Final = 30.0
"""Longest wait of a story for a state that must come, on a busy machine. Only a failing story waits to its end."""
ResourceKind = Literal["topic", "group"]
Operation = Literal["Read", "Write", "Describe"]


class Elsewhere(Protocol):
    """A member of a group in a process of its own."""

    def kill(self) -> None:
        """End it without a farewell."""

    def freeze(self) -> None:
        """Let none of its threads run (SIGSTOP)."""

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""

    def diary(self) -> list[str]:
        """Its rebalances, as a member in the story keeps them. To be asked when it has been killed."""


class Kit(ABC):
    """The means of a story."""

    def __init__(self, protocol: str) -> None:
        """``protocol``: of the story's consumer groups, ``classic`` or ``consumer``."""
        self.protocol = protocol
        self.notes: list[str] = []

    def note(self, what: str, value: object) -> None:
        """Add an observation."""
        self.notes.append(f"{what}: {json.dumps(value, default=str)}")

    @abstractmethod
    def consumer(self, properties: Mapping[str, Any]) -> Any:
        """Open a `confluent_kafka.Consumer`; the kit adds the address."""

    @abstractmethod
    def producer(self, properties: Mapping[str, Any]) -> Any:
        """Open a `confluent_kafka.Producer`; the kit adds the address."""

    @abstractmethod
    def admin(self) -> Any:
        """Open a `confluent_kafka.admin.AdminClient`."""

    @abstractmethod
    def now(self) -> float:
        """The seconds of a steady clock."""

    @abstractmethod
    def sleep(self, secs: float) -> None:
        """Let time pass."""

    @abstractmethod
    def unique(self, stem: str) -> str:
        """A name that no other story has."""

    @abstractmethod
    def new_topic(self, partitions: int = 1, **config: str) -> str:
        """Create a topic with these settings (underscores for dots); its name. Of two brokers, each leads every other
        partition."""

    @abstractmethod
    def delete_topic(self, topic: str) -> None:
        """Delete a topic; returns when the broker no longer tells of it."""

    @abstractmethod
    def create_again(self, topic: str, partitions: int = 1) -> None:
        """Create a deleted topic again, under its name."""

    @abstractmethod
    def add_partitions(self, topic: str, total: int) -> None:
        """Raise the number of partitions."""

    @abstractmethod
    def remove_below(self, topic: str, partition: int, offset: int) -> None:
        """Remove the records below an offset, as retention does."""

    @abstractmethod
    def compact(self, topic: str, left: int) -> None:
        """Let the broker compact partition 0 until ``left`` records are left."""

    @abstractmethod
    def cut_off(self, topic: str, partition: int, offset: int) -> None:
        """Remove the records from an offset on, as an unclean leader election does. For exclusive stories only."""

    @abstractmethod
    def stop_brokers(self) -> None:
        """Take all brokers away. For exclusive stories only."""

    @abstractmethod
    def start_brokers(self) -> None:
        """Bring them back."""

    @abstractmethod
    def shut(self, broker: int) -> None:
        """Let no client reach a broker, whose connections close. For stories with two brokers only."""

    @abstractmethod
    def open(self, broker: int) -> None:
        """Undo `shut`."""

    @abstractmethod
    def leave_behind(self) -> None:
        """Let broker 2, which is shut, hear of no further change. For stories with two brokers only."""

    @abstractmethod
    def lose_answers(self, broker: int) -> None:
        """Lose the answers to records from now on. For stories with two brokers only."""

    @abstractmethod
    def has_lost_an_answer(self, broker: int) -> bool:
        """Whether one was lost."""

    @abstractmethod
    def close_connections(self, broker: int) -> None:
        """Close the clients' connections to a broker: those that wait for an answer learn of it. No more are lost."""

    @abstractmethod
    def deny(self, kind: ResourceKind, name: str, *operations: Operation) -> None:
        """Withdraw rights from all clients; returns when it is in force."""

    @abstractmethod
    def allow(self, kind: ResourceKind, name: str) -> None:
        """Give all rights back; returns when it is in force."""

    @abstractmethod
    def write_raw(self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Write one record to partition 0, with header names that need not be UTF-8."""

    @abstractmethod
    def write_unreadable(self, topic: str, records: int) -> None:
        """Write one batch to partition 0 that a reader with `SMALL_ANSWERS` cannot decompress."""

    @abstractmethod
    def start_elsewhere(self, properties: Mapping[str, Any], topic: str) -> Elsewhere:
        """Start a member of a group that can be killed. It joins soon, and takes what it is given."""

    def until(self, condition: Callable[[], object], *members: Any, secs: float = PATIENCE_SECS) -> None:
        """Wait for a condition while these members poll in turn."""
        until = self.now() + secs
        while not condition():
            if self.now() > until:
                raise AssertionError(f"waited {secs:.0f} s in vain; so far: {self.notes}")
            if not members:
                self.sleep(0.05)
            for member in members:
                member.poll(0.05)

    def meanwhile(self, secs: float, *members: Any) -> None:
        """Let members poll in turn for some time."""
        until = self.now() + secs
        while self.now() < until:
            for member in members:
                member.poll(0.05)


SMALL_ANSWERS: Final[Mapping[str, int]] = {"receive.message.max.bytes": 4_000_000, "fetch.max.bytes": 2_000_000}
"""Fewer bytes than the batch of `Kit.write_unreadable` has."""


def error_of(error: KafkaError | None) -> str:
    """An error without its text, which the product only shows: its name and what it says about itself."""
    if error is None:
        return "ok"
    flags = [
        name
        for name, is_so in (
            ("fatal", error.fatal()),
            ("retriable", error.retriable()),
            ("abort", error.txn_requires_abort()),
        )
        if is_so
    ]
    return " ".join([str(error.name()), *flags])


def attempt(call: Callable[[], Any]) -> Any:
    """The result of a call, or the name of its error."""
    try:
        return call()
    except KafkaException as error:
        return f"raises {error_of(error.args[0])}"
    except (BufferError, RuntimeError, ValueError) as error:
        return f"raises {type(error).__name__}"


def places(found: Any) -> Any:
    """Offsets as librdkafka gives them: by partition the offset, or the error."""
    if isinstance(found, str):
        return found
    return {p.partition: p.offset if p.error is None else error_of(p.error) for p in sorted(found, key=number_of)}


def number_of(partition: TopicPartition) -> int:
    return int(partition.partition)


def on(topic: str, numbers: Iterable[int]) -> list[TopicPartition]:
    """Partitions of a topic."""
    return [TopicPartition(topic, number) for number in numbers]

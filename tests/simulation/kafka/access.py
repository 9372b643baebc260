"""Kafka's access control lists, for the one user that all clients of a story are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from confluent_kafka import KafkaError

from tests.simulation.kafka.partition_log import ErrorCode

Resource = Literal["topic", "group"]
Operation = Literal["Read", "Write", "Describe"]
OPERATIONS: Final[tuple[Operation, ...]] = ("Read", "Write", "Describe")


class AccessList:
    """Everything is allowed but that which was denied."""

    def __init__(self) -> None:
        self._denied: set[tuple[Resource, str, Operation]] = set()
        self.on_denial: Callable[[Resource, str], None] = lambda _resource, _name: None
        """Called when a right was withdrawn."""

    def deny(self, resource: Resource, name: str, operation: Operation) -> None:
        """Withdraw a right from now on."""
        self._denied.add((resource, name, operation))
        self.on_denial(resource, name)

    def allow(self, resource: Resource, name: str, operation: Operation) -> None:
        """Undo `deny`."""
        self._denied.discard((resource, name, operation))

    def allows(self, resource: Resource, name: str, operation: Operation) -> bool:
        """Whether the right is there."""
        return not self._denied or (resource, name, operation) not in self._denied

    def refusal(self, resource: Resource, name: str, operation: Operation) -> ErrorCode | None:
        """The error for a request that needs this right."""
        if self.allows(resource, name, operation):
            return None
        if resource == "topic":
            return KafkaError.TOPIC_AUTHORIZATION_FAILED
        return KafkaError.GROUP_AUTHORIZATION_FAILED

    def allowed(self, resource: Resource, name: str) -> list[Operation]:
        """The rights that are there."""
        return [operation for operation in OPERATIONS if self.allows(resource, name, operation)]

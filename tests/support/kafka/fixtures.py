"""The types of the broker fixtures in tests/conftest.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tests.support.kafka.local import LocalKafka


class LocalKafkaFactory(Protocol):
    """Starts a broker of the test's own, with broker properties if wanted; it is ended after the test."""

    def __call__(self, settings: Mapping[str, str] | None = None) -> LocalKafka: ...


class NewTopic(Protocol):
    """Creates a topic for one test and returns its name."""

    def __call__(self, stem: str = "test", *, partitions: int = 1) -> str: ...

"""Findings of a diagnosis, and the facts that several of its checks need."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import Final, Literal, NamedTuple, final, get_args

from pushrail_stream.blocking import start_daemon_thread
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.topics import TopicState, describe_topics, plan_topics
from pushrail_stream.operations.destinations import Documents, load_documents
from pushrail_stream.operations.fleet import Fleet, read_fleet
from pushrail_stream.settings.model import KafkaSettings
from pushrail_stream.settings.source import LoadedSettings

State = Literal["problem", "warning", "unknown", "ok"]
"""The worst first. ``unknown``: it could not be found out, and nothing is known to be wrong."""
STATES: Final[tuple[State, ...]] = get_args(State)


class Finding(NamedTuple):
    """A fact that a check found, or the reason why it found none."""

    check: str
    state: State
    found: str
    remedy: str = ""
    """The next step for the operator; empty where there is none."""


class NotKnownError(Exception):
    """A check cannot tell, because of what another check reports. The message says why."""


@final
class Installation:
    """The settings, and the facts that several checks need. Each is found once, on a thread of its own."""

    def __init__(self, loaded: LoadedSettings, environ: Mapping[str, str] = os.environ) -> None:
        self.loaded = loaded
        self.settings = loaded.settings
        self.environ = environ
        self.reached: Future[KafkaSettings] = start_daemon_thread(reached_kafka, self.settings)
        """Kafka's settings, once a broker has answered. Otherwise it raises the reason why none does."""
        self.described: Future[dict[str, TopicState | None]] = start_daemon_thread(self._describe)
        """All topics; None for a missing one."""
        self.read: Future[Documents] = start_daemon_thread(self._read)
        """All documents, their secrets sealed."""

    def kafka(self) -> KafkaSettings:
        """For clients of the cluster. Raises `NotKnownError` when it was not reached."""
        try:
            return self.reached.result()
        except OperatorError:
            raise NotKnownError("Kafka was not reached") from None

    def kafka_with(self, topic: str) -> KafkaSettings:
        """For clients that use this topic. Raises `NotKnownError` when it is missing."""
        try:
            if self.described.result()[topic] is not None:
                return self.kafka()
        except OperatorError:
            raise NotKnownError("the topics were not described") from None
        raise NotKnownError(f"topic {topic} is missing")

    def fleet(self) -> Fleet:
        """The workers. Raises `NotKnownError` when their topic is missing."""
        self.kafka_with(self.settings.topics.workers)
        return read_fleet(self.settings)

    def documents(self) -> Documents:
        """The documents. Raises `NotKnownError` when they were not read."""
        try:
            return self.read.result()
        except OperatorError:
            raise NotKnownError("the documents were not read") from None

    def _describe(self) -> dict[str, TopicState | None]:
        return describe_topics(self.kafka(), plan_topics(self.settings))

    def _read(self) -> Documents:
        if self.settings.registry.topic:
            self.kafka_with(self.settings.topics.destinations)
        return load_documents(self.settings, decrypt=False)


Check = Callable[[Installation], Iterator[Finding]]
"""It may block, and raises `OperatorError` with a problem, or `NotKnownError`."""

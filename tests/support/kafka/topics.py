"""Topics of one test: each has a unique name, and is deleted after the test."""

from __future__ import annotations

import contextlib
import time
import uuid
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_ANSWER_SECS: Final = 20.0


def unique_name(stem: str) -> str:
    """Return ``stem`` with a suffix that no other test and no other run has."""
    return f"{stem}.{uuid.uuid4().hex[:12]}"


def create_topic(
    bootstrap_servers: str, name: str, *, partitions: int = 1, config: Mapping[str, str] | None = None
) -> None:
    """Create one topic on a real broker and return when it is there; ``config`` is the topic's own settings."""
    new = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
    admin = _admin(bootstrap_servers)  # held by name: a client that is dropped takes its answers along
    for done in admin.create_topics([new], operation_timeout=_ANSWER_SECS).values():
        done.result(_ANSWER_SECS)
    wait_until_there(admin, name)


def wait_until_there(admin: AdminClient, name: str) -> None:
    """Wait for a topic that was created: a broker learns of it a little later. Other topics are not looked at."""
    while admin.list_topics(name, timeout=_ANSWER_SECS).topics[name].error is not None:
        time.sleep(0.05)


def delete_topics(bootstrap_servers: str, names: Iterable[str]) -> None:
    """Delete topics on a real broker, and return when they are gone.

    Those that do not exist, or a broker that is gone, are no concern.
    """
    admin, gone = _admin(bootstrap_servers), set[str]()
    for name, done in admin.delete_topics(list(names), operation_timeout=_ANSWER_SECS).items():
        with contextlib.suppress(KafkaException, TimeoutError):
            done.result(_ANSWER_SECS)
            gone.add(name)
    for name in gone:
        while admin.list_topics(name, timeout=_ANSWER_SECS).topics[name].error is None:
            time.sleep(0.05)


def recreate_topic(bootstrap_servers: str, name: str, *, partitions: int = 1) -> None:
    """Delete a topic of a real broker and create it again: same name, another id."""
    delete_topics(bootstrap_servers, [name])
    while True:
        try:
            create_topic(bootstrap_servers, name, partitions=partitions)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        else:
            return


@contextlib.contextmanager
def fresh_topic(
    bootstrap_servers: str, stem: str = "test", *, partitions: int = 1, config: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Have a topic of one's own: yields its name, deletes it at the end. For real brokers only.

    The embedded broker knows no AdminClient: there, ``EmbeddedBroker.create_topic(unique_name(...), n)``.
    """
    name = unique_name(stem)
    create_topic(bootstrap_servers, name, partitions=partitions, config=config)
    try:
        yield name
    finally:
        delete_topics(bootstrap_servers, [name])


def _admin(bootstrap_servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})

"""Facts about the cluster for a diagnosis: its brokers, the protocol they speak, and the rights that we have there."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, libversion
from confluent_kafka.admin import AclOperation, AdminClient

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.admin import has_controller, is_embedded, retry_while_settling
from pushrail_stream.kafka.errors import TOPIC_GONE, as_operator_error
from pushrail_stream.kafka.topics import NOBODY_TO_ASK
from pushrail_stream.settings.client import ALIASES
from pushrail_stream.settings.model import KafkaSettings

_TIMEOUT_SECS: Final = 5.0
"""Longest wait for one answer. A broker that was just reached answers within milliseconds."""
_DEBUG: Final = 7
"""syslog's level of librdkafka's lines about a broker's versions."""
_FETCH: Final = re.compile(r"ApiKey Fetch \(1\) Versions \d+\.\.(\d+)")
_REFUSED: Final = frozenset({KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED})
_OPERATIONS: Final = {"Read": AclOperation.READ, "Write": AclOperation.WRITE}


class Cluster(NamedTuple):
    """The cluster, and our client."""

    id: str
    brokers: int
    fetch_version: int | None
    """Highest version of the API Fetch that the broker tells (Kafka's documentation, "Protocol"); None if unknown."""
    client: str
    """Version of librdkafka."""


def describe_cluster(kafka: KafkaSettings) -> Cluster:
    """Ask a broker. Raises `OperatorError`."""
    lines = _Lines()
    watched = {"debug": "feature", "log_level": _DEBUG, "logger": lines.logger}
    admin = AdminClient(client_properties.admin(kafka) | watched)
    with as_operator_error("Kafka does not answer"):
        found = admin.list_topics(timeout=_TIMEOUT_SECS)
    admin.poll(0)  # serves the log
    return Cluster(str(found.cluster_id), len(found.brokers), lines.fetch_version, libversion()[0])


def security_of(kafka: KafkaSettings) -> str:
    """The protocol and SASL mechanism of clients, such as ``SASL_SSL with SCRAM-SHA-512``."""
    own = {ALIASES.get(name, name): value for name, value in kafka.client.masked().items()}
    protocol = str(own.get("security.protocol", "plaintext")).upper()
    return f"{protocol} with {own.get('sasl.mechanisms', 'GSSAPI')}" if protocol.startswith("SASL") else protocol


@final
class _Lines(logging.Handler):
    """Reads the versions of a broker from librdkafka's log."""

    def __init__(self) -> None:
        super().__init__()
        self.fetch_version: int | None = None
        self.logger = logging.Logger(__name__)  # noqa: LOG001 - of its own, so that no other handler gets the lines
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log line."""
        if found := _FETCH.search(record.getMessage()):
            self.fetch_version = int(found[1])


def missing_rights(kafka: KafkaSettings, needed: Mapping[str, frozenset[str]], groups: tuple[str, ...]) -> list[str]:
    """The rights of ``needed`` on topics, and to read in the groups, that the brokers deny us: ``Read on topic x``.

    Topics that do not exist are left out. Raises `OperatorError` when the brokers do not tell.
    """
    admin = AdminClient(client_properties.admin(kafka))
    ours = {"include_authorized_operations": True, "request_timeout": _TIMEOUT_SECS}

    def ask() -> list[str]:
        described = admin.describe_topics(TopicCollection(list(needed)), **ours)
        known = {f"topic {name}": (needed[name], answer) for name, answer in described.items()}
        for name in groups:
            [answer] = admin.describe_consumer_groups([name], **ours).values()
            known[f"group {name}"] = (frozenset({"Read"}), answer)
        return [
            f"{operation} on {what}"
            for what, (wanted, answer) in known.items()
            for operation in sorted(_denied(wanted, answer))
        ]

    with as_operator_error("the brokers do not tell"):
        cluster = admin.list_topics(timeout=_TIMEOUT_SECS)
        if is_embedded(cluster):
            return []  # it allows everything
        if not has_controller(cluster):
            raise OperatorError(NOBODY_TO_ASK)
        return retry_while_settling(ask)


def _denied(wanted: frozenset[str], answer: Future[Any]) -> frozenset[str]:
    try:
        allowed = answer.result().authorized_operations
    except KafkaException as error:
        if error.args[0].code() in _REFUSED:
            return wanted
        if error.args[0].code() in TOPIC_GONE:
            return frozenset()
        raise
    if allowed is None:
        raise OperatorError("the brokers do not tell which operations they allow (Kafka 2.3 or newer does)")
    return frozenset(operation for operation in wanted if _OPERATIONS[operation] not in allowed)

"""The first contact with Kafka: every program asks the brokers once, and learns from librdkafka why none answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final, final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from pushrail_stream.core.text import safe_message
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka import client_properties
from pushrail_stream.kafka.client_properties import CLIENT_ID, checked_kafka
from pushrail_stream.kafka.errors import ALL_REFUSED
from pushrail_stream.kafka.librdkafka import OAUTH_CALLBACK, masked
from pushrail_stream.settings.client import is_secret
from pushrail_stream.settings.model import KafkaSettings, Settings

_ASK_SECS: Final = (2.0, 2.0, 4.0, 8.0)
"""Longest waits for an answer, in seconds. Brokers that have all refused by the end of one get no further wait. Within
the first, librdkafka tries every address of every broker several times."""
_INFO: Final = 6
"""syslog's level at which librdkafka says that a broker closed the connection."""
_MOST_BROKERS: Final = 3
"""Most brokers whose reasons an error gives: further ones seldom differ."""
_FAILURE: Final = re.compile(r"(?:\w+://)?(?P<broker>\S+:\d+)/\w+: (?P<reason>.*?)(?: \(after .*)?$")
"""A broker's failure, as librdkafka tells it to its error callback and at the end of its log line."""

_reached: list[Settings] = []
"""The settings of the last contact: a command makes it once."""


def reached_kafka(settings: Settings, client_id: str = CLIENT_ID) -> KafkaSettings:
    """As `checked_kafka`, after a broker has answered. It blocks for seconds.

    Raises `OperatorError` with each broker's reason, a few seconds after all of them have refused.
    """
    kafka = checked_kafka(settings, client_id)
    if not any(settings is reached for reached in _reached):
        _ask(kafka)
        _reached[:] = [settings]
    return kafka


def _ask(kafka: KafkaSettings) -> None:
    reasons = _Reasons()
    properties = client_properties.admin(kafka) | reasons.callbacks(kafka)
    _check_token(properties)
    client = AdminClient(properties)
    for wait_secs in _ASK_SECS:
        try:
            client.list_topics(timeout=wait_secs)
        except KafkaException as error:
            last: KafkaError = error.args[0]
            client.poll(0)  # serves the callbacks
            if reasons.all_refused:
                break
        else:
            return
    own = {name: value for name, value in kafka.client.reveal().items() if is_secret(name)}
    why = masked(reasons.text(kafka) or last.str(), own)
    raise OperatorError(
        f"Kafka cannot be reached at {kafka.bootstrap_servers}: {why}; check kafka.bootstrap_servers and kafka.client"
    )


def _check_token(properties: Mapping[str, Any]) -> None:
    """Ask for a token, where clients ask. A client would hide why there is none, and wait for one for 10 s."""
    if OAUTH_CALLBACK not in properties:
        return
    try:
        properties[OAUTH_CALLBACK]("")
    except Exception as error:
        # Credentials come from files, programs and services, and each fails in its own way.
        raise OperatorError(f"kafka.auth: there is no token for Amazon MSK: {safe_message(str(error))}") from error


@final
class _Reasons(logging.Handler):
    """Collects why brokers fail. Some reasons come only to the error callback, others only to the log."""

    def __init__(self) -> None:
        super().__init__()
        self.all_refused = False
        self._of: dict[str, set[str]] = {}

    def callbacks(self, kafka: KafkaSettings) -> dict[str, Any]:
        """The properties of a client that reports here. An operator who sets log_level still gets the lines."""
        if "log_level" in kafka.client.root:
            return {"error_cb": self._on_error}
        logger = logging.Logger(__name__)  # noqa: LOG001 - of its own, so that no other handler gets the lines
        logger.addHandler(self)
        return {"error_cb": self._on_error, "logger": logger, "log_level": _INFO}

    def text(self, kafka: KafkaSettings) -> str:
        """Each broker with its longest reason: librdkafka tells one failure in several forms."""
        texts = []
        for broker, reasons in self._of.items():
            reason = max(reasons, key=len)
            texts.append(reason if broker in {"", kafka.bootstrap_servers} else f"{broker}: {reason}")
        more = len(texts) - _MOST_BROKERS
        return "; ".join(texts[:_MOST_BROKERS] + [f"and {more} more"] * (more > 0))

    def emit(self, record: logging.LogRecord) -> None:
        """Take a log line."""
        self._note(record.getMessage())

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == ALL_REFUSED:
            self.all_refused = True
        elif not self._note(error.str()):
            self._of.setdefault("", set()).add(error.str())

    def _note(self, line: str) -> bool:
        found = _FAILURE.search(line)
        if found is not None:
            self._of.setdefault(found["broker"], set()).add(found["reason"])
        return found is not None

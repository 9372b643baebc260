"""Facts about librdkafka's properties: which kind of client knows them, and whether it accepts their values.

librdkafka warns of a consumer's property in a producer and of a producer's property in a consumer, so each client gets
only those of its kind. The names are the lines marked C and P in librdkafka's CONFIGURATION.md, without the properties
that `settings.client` refuses. A test compares them with the installed library. An admin client is a producer that
sends nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

from pushrail_stream.errors import UsageError
from pushrail_stream.settings.client import ALIASES
from pushrail_stream.settings.values import MASK

CONSUMER_ONLY: Final = frozenset((
    "auto.offset.reset", "check.crcs", "coordinator.query.interval.ms", "fetch.error.backoff.ms", "fetch.max.bytes",
    "fetch.message.max.bytes", "fetch.min.bytes", "fetch.queue.backoff.ms", "fetch.wait.max.ms",
    "group.protocol.type", "group.remote.assignor", "heartbeat.interval.ms", "max.partition.fetch.bytes",
    "max.poll.interval.ms", "queued.max.messages.kbytes", "queued.min.messages", "session.timeout.ms",
))  # fmt: skip
PRODUCER_ONLY: Final = frozenset((
    "batch.num.messages", "batch.size", "compression.codec", "compression.level", "compression.type",
    "enable.gapless.guarantee", "linger.ms", "message.send.max.retries", "partitioner",
    "queue.buffering.backpressure.threshold", "queue.buffering.max.kbytes", "queue.buffering.max.messages",
    "queue.buffering.max.ms", "queuing.strategy", "request.timeout.ms", "retries", "sticky.partitioning.linger.ms",
))  # fmt: skip
_NUMBER: Final = re.compile(r"\s*\+?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_MAX_DIGITS: Final = 20
"""More digits than any number that librdkafka accepts has."""
_SILENT: Final = logging.getLogger("pushrail-stream-trial")
"""Receives librdkafka's log lines of a trial client, and writes none."""
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_FAR_FUTURE: Final = 32_503_680_000.0
"""The year 3000 in epoch seconds, the end of a trial client's token."""
_NOWHERE: Final = "http://127.0.0.1:0/"
_TOKEN_URL: Final = "sasl.oauthbearer.token.endpoint.url"  # noqa: S105 - a property's name
_TOKENS_OF: Final = "sasl.oauthbearer.metadata.authentication.type"
OAUTH_CALLBACK: Final = "oauth_cb"
"""The property with which confluent-kafka asks for a token. A new client waits for its first one."""
_PREAMBLE: Final = re.compile(r"^Failed to create (consumer|producer): ")
_Kind = type[Consumer] | type[Producer]


def parse_number(value: object) -> int | None:
    """The number that librdkafka reads from a property's value, as C's strtol does; None if it refuses the value."""
    found = _NUMBER.match(str(value))
    if found is None or len(found[1]) > _MAX_DIGITS:
        return None
    digits = found[1].lower()
    return int(digits, 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10)


def try_clients(own: Mapping[str, Any], wanted: Sequence[tuple[_Kind, Mapping[str, Any]]]) -> None:
    """Create a throw-away client of each kind and its properties. It takes milliseconds and connects to nothing.

    Raises `UsageError`, which names the property of ``own``, the operator's, that librdkafka refuses.
    """
    for kind, properties in wanted:
        text = _refusal(kind, properties)
        if text is not None:
            raise UsageError(_sentence(text, own, kind, properties))


def _refusal(kind: _Kind, properties: Mapping[str, Any]) -> str | None:
    """Why librdkafka refuses these properties; None if it accepts them."""
    offline = _offline(properties) | {"logger": _SILENT}
    try:
        if issubclass(kind, Consumer):
            kind(offline).close()
        else:
            kind(offline)
    except KafkaException as error:
        return _PREAMBLE.sub("", str(error.args[0].str())).strip()
    except (TypeError, ValueError) as error:  # confluent-kafka refuses some values itself
        return str(error)
    return None


def _offline(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The same properties without any address to connect to. A new client would fetch its token at once."""
    offline = {name: value for name, value in properties.items() if name != "bootstrap.servers"}
    if offline.get(_TOKENS_OF, "none") != "none":
        offline["sasl.oauthbearer.method"] = "default"
    elif _TOKEN_URL in offline:
        offline[_TOKEN_URL] = _NOWHERE
    if OAUTH_CALLBACK in offline:
        offline[OAUTH_CALLBACK] = lambda _config: ("trial", _FAR_FUTURE)
    return offline


def _sentence(text: str, own: Mapping[str, Any], kind: _Kind, properties: Mapping[str, Any]) -> str:
    culprit = next((name for name in own if _mentions(text, name) or _mentions(text, ALIASES.get(name, name))), None)
    culprit = culprit or next((name for name, value in own.items() if _mentions(text, str(value))), None)
    if culprit is None:
        others = ((name, {n: v for n, v in properties.items() if n != name}) for name in own)
        culprit = next((name for name, rest in others if _refusal(kind, rest) != text), None)
    where = "kafka.client" if culprit is None else f"kafka.client.{culprit}"
    return f"{where}: {masked(text, own)}"


def _mentions(text: str, word: str) -> bool:
    return bool(word) and re.search(_bounded(word), text) is not None


def masked(text: str, own: Mapping[str, Any]) -> str:
    """The text without the operator's values: any of them may be a secret in the wrong place."""
    for value in own.values():
        if isinstance(value, str) and value:
            text = re.sub(_bounded(value), MASK, text)
    return text


def _bounded(word: str) -> str:
    return rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)"

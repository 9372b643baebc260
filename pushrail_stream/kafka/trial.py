"""A trial of the operator's librdkafka properties: throw-away clients, before anything is opened with them."""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Producer

from pushrail_stream.errors import UsageError
from pushrail_stream.settings import ALIASES, MASK

_SILENT: Final = logging.getLogger("pushrail-stream-trial")
"""Takes librdkafka's log lines of a trial, and writes none."""
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_NOWHERE: Final = "http://127.0.0.1:0/"
_TOKEN_URL: Final = "sasl.oauthbearer.token.endpoint.url"  # noqa: S105 - a property's name
_TOKENS_OF: Final = "sasl.oauthbearer.metadata.authentication.type"
_PREAMBLE: Final = re.compile(r"^Failed to create (consumer|producer): ")


class Client(enum.Enum):
    """The kinds of client that librdkafka has. An admin client is a producer."""

    CONSUMER = enum.auto()
    PRODUCER = enum.auto()


def check_clients(own: Mapping[str, Any], wanted: Mapping[Client, Sequence[Mapping[str, Any]]]) -> None:
    """Raise `UsageError`, which names the property, when a client cannot be made of the properties ``wanted``.

    ``own``: the operator's properties among them. Takes milliseconds and connects to nothing.
    """
    for kind, several in wanted.items():
        for properties in several:
            text = _refusal(kind, properties)
            if text is not None:
                raise UsageError(_sentence(text, own, kind, properties))


def _refusal(kind: Client, properties: Mapping[str, Any]) -> str | None:
    """The reason librdkafka has to refuse these properties, or None."""
    offline = _offline(properties) | {"logger": _SILENT}
    try:
        if kind is Client.CONSUMER:
            Consumer(offline).close()
        else:
            Producer(offline)
    except KafkaException as error:
        return _PREAMBLE.sub("", str(error.args[0].str())).strip()
    except (TypeError, ValueError) as error:  # the binding's own objection
        return str(error)
    return None


def _offline(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The same properties without any address to connect to. A new client would ask for its token at once."""
    offline = {name: value for name, value in properties.items() if name != "bootstrap.servers"}
    if offline.get(_TOKENS_OF, "none") != "none":
        offline["sasl.oauthbearer.method"] = "default"
    elif _TOKEN_URL in offline:
        offline[_TOKEN_URL] = _NOWHERE
    return offline


def _sentence(text: str, own: Mapping[str, Any], kind: Client, properties: Mapping[str, Any]) -> str:
    culprit = next((name for name in own if _mentions(text, name) or _mentions(text, ALIASES.get(name, name))), None)
    culprit = culprit or next((name for name, value in own.items() if _mentions(text, str(value))), None)
    if culprit is None:
        others = ((name, {n: v for n, v in properties.items() if n != name}) for name in own)
        culprit = next((name for name, rest in others if _refusal(kind, rest) != text), None)
    where = "kafka.client" if culprit is None else f"kafka.client.{culprit}"
    return f"{where}: {_masked(text, own)}"


def _mentions(text: str, word: str) -> bool:
    return bool(word) and re.search(_bounded(word), text) is not None


def _masked(text: str, own: Mapping[str, Any]) -> str:
    """The text without the operator's values: any of them may be a secret in the wrong place."""
    for value in own.values():
        if isinstance(value, str) and value:
            text = re.sub(_bounded(value), MASK, text)
    return text


def _bounded(word: str) -> str:
    return rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)"

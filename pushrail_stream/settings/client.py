"""librdkafka properties: those that an operator may set, those that the engine owns, and those that are secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    RootModel,
    model_serializer,
    model_validator,
)  # fmt: skip
from pydantic_core import CoreSchema

from pushrail_stream.settings.values import MASK, whole

ClientValue = str | int | float | bool
"""The types of a librdkafka property's value."""

_NAME: Final = re.compile(r"[a-z][a-z0-9._]*")
_WITH_UNIT: Final = re.compile(r"\s*[+-]?[0-9]+(\s+[0-9]|\s*[A-Za-z]).*", re.DOTALL)
"""A number with something behind it, such as ``10s``. librdkafka reads it as the number."""
_PATH_ENDINGS: Final = (".location", ".keytab", ".file")
"""Ends of the names of properties that are a path (librdkafka's CONFIGURATION.md)."""
_PROBE: Final = "probe"
"""The value of a location that lets librdkafka look for it."""
_CALLBACKS: Final = "the engine installs its own callbacks"
# fmt: off
_REASONS: Final[Mapping[str, str]] = {
    "acks request.required.acks enable.idempotence":
        "every produce is idempotent and acknowledged by all in-sync replicas",
    "transactional.id transaction.timeout.ms": "the engine decides what is a transaction",
    "delivery.timeout.ms message.timeout.ms": "each producer has its own; ingest.timeout_secs is that of ingest",
    "delivery.report.only.error": "a copy settles its delivery when Kafka has acknowledged it",
    "bootstrap.servers metadata.broker.list test.mock.num.brokers test.mock.broker.rtt": "set kafka.bootstrap_servers",
    "group.id": "set kafka.group_id",
    "group.protocol": "set kafka.group_protocol",
    "group.instance.id": "set kafka.group_instance_id",
    "enable.auto.commit auto.commit.enable auto.commit.interval.ms enable.auto.offset.store offset.store.method "
    "offset.store.path offset.store.sync.interval.ms":
        "only offsets the engine has released are committed",
    "enable.partition.eof": "the engine reads without end",
    "partition.assignment.strategy": "partitions are handed over one by one, cooperative-sticky",
    "isolation.level": "aborted records are never delivered",
    "statistics.interval.ms enabled_events logger on_commit on_delivery opaque": _CALLBACKS,
    "default.topic.config": "set the topic's properties themselves, as librdkafka does for every topic",
    "internal.termination.signal": "the engine alone decides what a signal does to its process",
    "builtin.features": "it tells what librdkafka can do, and is not to be set",
    "max.poll.records share.acknowledgement.mode consume.callback.max.messages":
        "it is for kinds of consumer that the engine does not use",
    "topic.metadata.refresh.fast.cnt socket.blocking.max.ms reconnect.backoff.jitter.ms produce.offset.report":
        "librdkafka gives it no meaning any more",
    "api.version.request api.version.fallback.ms broker.version.fallback":
        "every broker is asked for what it supports, as idempotence demands",
}
# fmt: on
"""Properties the engine owns, with the reason."""
_OWNED: Final = {name: reason for names, reason in _REASONS.items() for name in names.split()}
ALIASES: Final[Mapping[str, str]] = {
    "max.in.flight": "max.in.flight.requests.per.connection",
    "sasl.mechanism": "sasl.mechanisms",
    "sasl.oauthbearer.client.credentials.client.id": "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.secret": "sasl.oauthbearer.client.secret",
    "max.partition.fetch.bytes": "fetch.message.max.bytes",
    "linger.ms": "queue.buffering.max.ms",
    "retries": "message.send.max.retries",
    "compression.type": "compression.codec",
}
"""Second names of properties an operator may set (librdkafka's CONFIGURATION.md), each with the first."""
_KEEPING: Final = frozenset({"smallest", "earliest", "beginning", "error"})
"""Values of ``auto.offset.reset`` that lose nothing. librdkafka reads its values in any case, and each has synonyms."""
_CLASSIC_ONLY: Final = ("session.timeout.ms", "heartbeat.interval.ms", "group.protocol.type")
"""Properties librdkafka refuses beside ``group.protocol=consumer`` (KIP-848)."""


def is_secret(name: str) -> bool:
    """Whether a property's value must not be shown. The SASL mechanism alone of its family is harmless."""
    if name in {"sasl.mechanism", "sasl.mechanisms"}:
        return False
    return name.startswith(("sasl.", "ssl.key.")) or any(
        mark in name for mark in ("password", "secret", "token", ".pem", "credential")
    )


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("is not the name of a librdkafka property")
    reason = _CALLBACKS if name.endswith("_cb") else _OWNED.get(name)
    if reason is not None:
        raise ValueError(f"belongs to the engine ({reason})")
    return name


def _check_value(value: object) -> ClientValue:
    if not isinstance(value, str | int | float | bool):
        raise ValueError("must be text, a number, true or false")  # noqa: TRY004 - pydantic collects ValueErrors
    return value


class ClientProperties(RootModel[dict[Annotated[str, AfterValidator(_check_name)],
                                      Annotated[object, AfterValidator(_check_value)]]]):  # fmt: skip
    """librdkafka properties by name. Shows itself with secrets masked; `reveal` gives the values."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True, defer_build=True)

    def reveal(self) -> dict[str, ClientValue]:
        """The properties as librdkafka takes them, secrets included. A copy."""
        return {name: _check_value(value) for name, value in self.root.items()}

    def masked(self) -> dict[str, ClientValue]:
        """The properties as they may be shown."""
        return {name: MASK if is_secret(name) else value for name, value in self.reveal().items()}

    def with_absolute_paths(self, folder: Path) -> Self:
        """The properties with their relative paths taken from this folder."""
        paths = {
            name: str(folder / value)
            for name, value in self.reveal().items()
            if name.endswith(_PATH_ENDINGS) and isinstance(value, str) and value not in {"", _PROBE}
        }
        return type(self)({**self.root, **paths})

    def clashes_with_consumer_protocol(self) -> list[str]:
        """The properties that librdkafka refuses beside ``group.protocol=consumer``."""
        return [name for name in _CLASSIC_ONLY if name in self.root]

    def logins(self) -> list[str]:
        """The properties that choose how a client logs in."""
        return [name for name in self.root if name == "security.protocol" or name.startswith("sasl.")]

    @model_validator(mode="after")
    def _check_reset(self) -> Self:
        if self.root.get("auto.offset.reset", "earliest") not in _KEEPING:
            raise ValueError("auto.offset.reset must be earliest or error: anything else skips records")
        return self

    @model_validator(mode="after")
    def _check_times(self) -> Self:
        for name, value in self.root.items():
            if name.endswith(".ms") and isinstance(value, str) and _WITH_UNIT.fullmatch(value):
                raise ValueError(f"{name} must be a number of milliseconds without a unit")
        return self

    @model_validator(mode="after")
    def _check_aliases(self) -> Self:
        for second, first in ALIASES.items():
            if second in self.root and first in self.root:
                raise ValueError(f"{second} and {first} are two names of one property: set one of them")
        return self

    @model_serializer
    def _serialize(self) -> dict[str, ClientValue]:
        return self.masked()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        del schema, handler
        return {
            "type": "object",
            "propertyNames": {"pattern": whole(_NAME.pattern), "not": {"enum": sorted(_OWNED)}},
            "properties": {"auto.offset.reset": {"enum": sorted(_KEEPING)}},
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        yield None, self.masked()

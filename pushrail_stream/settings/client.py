"""The librdkafka properties an operator may add, which the engine keeps for itself, and which are secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, ConfigDict, RootModel, model_serializer, model_validator

ClientValue = str | int | float | bool
"""What librdkafka takes as a property's value."""

MASK: Final = "***"

_NAME: Final = re.compile(r"[a-z][a-z0-9._]*")
_COMMITS: Final = "only offsets the engine has released are committed"
_IDEMPOTENCE: Final = "every produce is idempotent and acknowledged by all in-sync replicas"
_CALLBACKS: Final = "the engine installs its own callbacks"
_OWNED: Final[Mapping[str, str]] = {
    "acks": _IDEMPOTENCE,
    "request.required.acks": _IDEMPOTENCE,
    "enable.idempotence": _IDEMPOTENCE,
    "transactional.id": "the engine decides what is a transaction",
    "bootstrap.servers": "set kafka.bootstrap_servers",
    "metadata.broker.list": "set kafka.bootstrap_servers",
    "group.id": "set kafka.group_id",
    "group.protocol": "set kafka.group_protocol",
    "group.instance.id": "set kafka.group_instance_id",
    "enable.auto.commit": _COMMITS,
    "auto.commit.enable": _COMMITS,
    "auto.commit.interval.ms": _COMMITS,
    "enable.auto.offset.store": _COMMITS,
    "enable.partition.eof": "the engine reads without end",
    "partition.assignment.strategy": "partitions are handed over one by one, cooperative-sticky",
    "isolation.level": "aborted records are never delivered",
    "statistics.interval.ms": _CALLBACKS,
    "enabled_events": _CALLBACKS,
    "logger": _CALLBACKS,
    "on_commit": _CALLBACKS,
    "on_delivery": _CALLBACKS,
    "opaque": _CALLBACKS,
}
"""Properties the engine owns, each with the reason."""
_SKIPPING: Final = frozenset({"largest", "latest", "end"})
"""Values of ``auto.offset.reset`` that lose what was produced while the group had no offsets (facts: Kafka)."""
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

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    def reveal(self) -> dict[str, ClientValue]:
        """The properties as librdkafka takes them, secrets included. A copy."""
        return {name: _check_value(value) for name, value in self.root.items()}

    def masked(self) -> dict[str, ClientValue]:
        """The properties as they may be shown."""
        return {name: MASK if is_secret(name) else value for name, value in self.reveal().items()}

    def clashes_with_consumer_protocol(self) -> list[str]:
        """The properties that librdkafka refuses beside ``group.protocol=consumer``."""
        return [name for name in _CLASSIC_ONLY if name in self.root]

    @model_validator(mode="after")
    def _check_reset(self) -> Self:
        if self.root.get("auto.offset.reset") in _SKIPPING:
            raise ValueError("auto.offset.reset must be earliest or error: anything else skips records")
        return self

    @model_serializer
    def _serialize(self) -> dict[str, ClientValue]:
        return self.masked()

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        yield None, self.masked()

"""The installed librdkafka's own list of properties, and the configuration that one of its clients has."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import confluent_kafka
from confluent_kafka import Consumer, Producer
from pydantic import ValidationError

from pushrail_stream.errors import UsageError
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.settings.model import Settings


class Known(NamedTuple):
    """A property as librdkafka describes it."""

    name: str
    kind: str
    """``C``: a consumer's, ``P``: a producer's, ``*``: both."""
    values: str
    default: str
    alias_of: str
    """The first name, where this is a second one."""


def known_properties(folder: Path) -> dict[str, Known]:
    """Every property of the installed librdkafka, by name."""
    site = Path(confluent_kafka.__file__).parent.parent
    [path] = (site / "confluent_kafka.libs").glob("librdkafka*")
    library, c = ctypes.CDLL(str(path)), ctypes.CDLL(None)
    c.fopen.restype = ctypes.c_void_p
    listing = folder / "properties.md"
    file = ctypes.c_void_p(c.fopen(str(listing).encode(), b"w"))
    library.rd_kafka_conf_properties_show(file)
    c.fclose(file)
    found: dict[str, Known] = {}
    for line in listing.read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r" *\| *(?=[^|])", line, maxsplit=5)]
        if len(cells) == 6 and cells[1] in {"C", "P", "*"}:
            alias = re.match(r"Alias for `(.*?)`", cells[5])
            found.setdefault(cells[0], Known(cells[0], cells[1], cells[2], cells[3], alias[1] if alias else ""))
    return found


class Seen(NamedTuple):
    """The lines that a client of librdkafka logs about its configuration."""

    values: Mapping[str, str]
    """By first name."""
    warnings: str


def read_back(kind: type[Consumer | Producer], properties: Mapping[str, Any]) -> Seen:
    """The configuration of a client that is made of these properties, as librdkafka has it."""
    lines: list[str] = []
    logger = logging.Logger("librdkafka")  # noqa: LOG001 - of its own, so that it ends with this call
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger.addHandler(handler)
    asked = {n: v for n, v in properties.items() if n != "bootstrap.servers"}
    client = kind({**asked, "debug": "conf", "log_level": 7, "logger": logger})
    client.poll(0)
    if isinstance(client, Consumer):
        client.close()
    values = dict(re.findall(r"  (\S+) = (.*)", "\n".join(lines)))
    return Seen(values, "\n".join(line for line in lines if "will be ignored" in line))


SECRET: Final = "hunter2-S3cr3t"


SAMPLES: Final = {
    "auto.offset.reset": "error",
    "group.protocol.type": "consumer",
    "partitioner": "consistent",
    "fetch.max.bytes": "300000000",
    "receive.message.max.bytes": "2000000000",
    "message.max.bytes": "900000",
    "max.in.flight": "3",
    "max.in.flight.requests.per.connection": "3",
    "session.timeout.ms": "12345",
    "max.poll.interval.ms": "123456",
    "linger.ms": "321",
    "queue.buffering.max.ms": "321",
    "socket.timeout.ms": "61000",
    "retry.backoff.max.ms": "2000",
    "debug": "conf",
    "log_level": "7",
}
"""Values of properties that librdkafka checks against others, or whose list has no value but the default."""


def settings(client: dict[str, Any], **kafka: Any) -> Settings:
    return Settings.model_validate({"kafka": {"bootstrap_servers": "127.0.0.1:1", "client": client} | kafka})


def sample(known: Known) -> str:
    """A value that is neither librdkafka's default nor ours."""
    if known.name in SAMPLES:
        return SAMPLES[known.name]
    low, _, high = known.values.partition(" .. ")
    if high:
        return str(max(int(low), min(int(high), int(known.default or 0) + 11)))
    choices = [value.strip() for value in known.values.split(",")]
    return next((value for value in choices if value not in {"", known.default}), "sample")


def refusal(name: str, value: str | float) -> str:
    """Why the settings, or librdkafka, refuse the property; empty when it is accepted."""
    try:
        checked_kafka(settings({name: value}))
    except (ValidationError, UsageError) as error:
        return str(error)
    return ""

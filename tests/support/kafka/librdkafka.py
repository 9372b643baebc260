"""The installed librdkafka's own list of properties, and the configuration that one of its clients has."""

from __future__ import annotations

import ctypes
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import confluent_kafka
from confluent_kafka import Consumer, Producer


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

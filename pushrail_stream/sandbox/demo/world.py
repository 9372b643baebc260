"""The demo's surroundings: broker, bus, topics, documents and settings, which live as long as one run."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from pushrail_stream.documents import load_registry
from pushrail_stream.kafka.topics import plan_topics
from pushrail_stream.registry.catalog import Catalog
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.sandbox.demo.customers import CUSTOMERS, OUR_KEYS, VENDOR, set_up
from pushrail_stream.settings.model import Settings

_PARTITIONS: Final = 4
_QUICK_REBALANCES: Final = {"session.timeout.ms": 4_000, "heartbeat.interval.ms": 1_000}
"""The embedded broker takes one session timeout for every change of the group."""
CONFIG_FILE: Final = "pushrail.yaml"
_NO_AWS: Final = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
"""Keeps AWS libraries from finding a real account."""


@dataclass(frozen=True, slots=True)
class World:
    """Everything around the worker."""

    folder: Path
    broker: EmbeddedBroker
    bus: FaultBus
    settings: Settings
    catalog: Catalog


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    """Start broker and bus and set up the customers, until the block ends."""
    with (
        _isolated_environment(OUR_KEYS.variables()),
        tempfile.TemporaryDirectory(prefix="pushrail-sandbox-") as name,
        EmbeddedBroker() as broker,
    ):
        folder = Path(name)
        async with FaultBus.serve() as bus:
            set_up(bus)
            settings = _write_settings(folder, broker.bootstrap_servers, bus.url)
            for plan in plan_topics(settings, _PARTITIONS):
                broker.create_topic(plan.name, plan.partitions)
            _write_documents(settings.registry.path)
            # A document that is refused would show in the report: its destination gets nothing.
            catalog, _ = await load_registry(settings, {})
            yield World(folder, broker, bus, settings, catalog)


@contextmanager
def _isolated_environment(variables: dict[str, str]) -> Iterator[None]:
    """Until the block ends, AWS libraries find these credentials alone and 127.0.0.1 is reached without a proxy."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= _NO_AWS | variables
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1"]))
    try:
        yield
    finally:
        for name in [name for name in os.environ if name not in before]:
            del os.environ[name]
        os.environ |= before


def _write_documents(folder: Path) -> None:
    folder.mkdir()
    for customer in CUSTOMERS:
        for document in customer.documents():
            text = json.dumps(document, indent=2, ensure_ascii=False)
            (folder / f"{document['id']}.json").write_text(text + "\n", encoding="utf-8")


def _write_settings(folder: Path, bootstrap_servers: str, bus_url: str) -> Settings:
    """Write the settings of this world for ``--config``, and return them."""
    values: dict[str, Any] = {
        "vendor": VENDOR,
        "kafka": {"bootstrap_servers": bootstrap_servers, "client": _QUICK_REBALANCES},
        "registry": {"path": str(folder / "destinations")},
        "ingest": {"keys_file": str(folder / "ingest-keys.json")},
        # On a busy machine a call may take long; a timeout would only repeat events.
        "eventbridge": {"endpoint_url": bus_url, "read_timeout_secs": 20},
        "sts": {"endpoint_url": bus_url},
        "http": {"port": 0},
    }
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    # The environment is not read: it may name a real Kafka.
    return Settings.model_validate(values)

"""The demo's surroundings: topics, documents and settings, made for one run and gone with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.topics import plan_topics
from pushrail_stream.registry import Catalog
from pushrail_stream.registry.folder import document_files, read_document
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.sandbox.demo.customers import VENDOR, Customer
from pushrail_stream.settings import Settings
from pushrail_stream.worker import document_parser

PARTITIONS: Final = 4
_QUICK_REBALANCES: Final = {"session.timeout.ms": 4_000, "heartbeat.interval.ms": 1_000}
"""The embedded broker takes a session's length for every change of the group."""
CONFIG_FILE: Final = "pushrail.yaml"


def create_topics(broker: EmbeddedBroker, settings: Settings) -> list[str]:
    """All topics of an installation; their names."""
    plans = plan_topics(settings, PARTITIONS)
    for plan in plans:
        broker.create_topic(plan.name, plan.partitions)
    return [plan.name for plan in plans]


def write_documents(folder: Path, customers: Sequence[Customer]) -> None:
    """One JSON file per destination."""
    folder.mkdir()
    for customer in customers:
        for document in customer.documents():
            text = json.dumps(document, indent=2, ensure_ascii=False)
            (folder / f"{document['id']}.json").write_text(text + "\n", encoding="utf-8")


def write_settings(folder: Path, bootstrap_servers: str, aws_url: str) -> Settings:
    """The settings of this world, also as a file for ``--config``."""
    values: dict[str, Any] = {
        "vendor": VENDOR,
        "kafka": {"bootstrap_servers": bootstrap_servers, "client": _QUICK_REBALANCES},
        "registry": {"path": str(folder / "destinations")},
        # A stand-in on a busy machine may take long over a call; cutting it off would only repeat events.
        "eventbridge": {"endpoint_url": aws_url, "read_timeout_secs": 20},
        "sts": {"endpoint_url": aws_url},
        "http": {"port": 0},
    }
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    # Not from the environment: it may name somebody's real Kafka.
    return Settings.model_validate(values)


def load_documents(folder: Path, settings: Settings) -> Catalog:
    """The documents, read as the worker's command reads them. Raises `OperatorError` when one is refused."""
    parse = document_parser(settings, {})
    catalog = Catalog(lambda _, content: parse(content))
    refusals = catalog.apply(map(read_document, document_files(folder))).refusals
    if refusals:
        raise OperatorError("; ".join(str(refusal) for refusal in refusals))
    return catalog

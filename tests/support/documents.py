"""Documents for tests: the contract's example, with a test's changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pushrail_stream.core.destination import Destination
from pushrail_stream.registry.catalog import Catalog, CatalogChange
from pushrail_stream.registry.documents import Parsed, parse_document
from pushrail_stream.registry.folder import document_files, read_document
from pushrail_stream.registry.json_document import Problem

EXAMPLE: dict[str, Any] = {
    "id": "dst_acme_8K2zRq",
    "vendor": "acme",
    "customerExternalId": "acct_8K2zRq",
    "type": "EVENTBRIDGE",
    "name": "Customer EventBridge bus",
    "busArn": "arn:aws:events:us-east-1:123456789012:event-bus/pushrail-events",
    "region": "us-east-1",
    "sourceNamespace": "pushrail.acme",
    "auth": {
        "mode": "ASSUME_ROLE",
        "roleArn": "arn:aws:iam::123456789012:role/PushrailEventBridgeWriter",
        "externalId": "acme-ext-7Pq2",
    },
    "eventTypes": ["order.*"],
    "enabled": True,
    "limits": {"maxRequestsPerSecond": 50, "maxInFlight": 8, "flushMs": 100},
}
SHOWN: dict[str, Any] = EXAMPLE | {
    "detailFormat": "canonical",
    "retry": {"maxAgeSecs": None, "maxAttempts": None},
    "filter": None,
    "paused": False,
}
"""The example with every default."""
ACCESS_KEY: dict[str, Any] = {
    "mode": "ACCESS_KEY",
    "accessKeyId": "AKIDEXAMPLE123456",
    "secretAccessKey": "env:ACME_SECRET",
}


def document(**changes: Any) -> dict[str, Any]:
    """The example with these fields; ``...`` removes one."""
    return {name: value for name, value in {**EXAMPLE, **changes}.items() if value is not ...}


def customer(name: str, *, role: str | None = None, external_id: str | None = None, **changes: Any) -> dict[str, Any]:
    """Another customer's document, with a role and an external ID of their own unless said otherwise."""
    role_arn = f"arn:aws:iam::123456789012:role/{role or name}"
    auth = {"mode": "ASSUME_ROLE", "roleArn": role_arn, "externalId": external_id or f"ext-{name}"}
    return document(**{"id": f"dst_{name}", "customerExternalId": f"acct_{name}", "auth": auth, **changes})


def write(directory: Path, **documents: Any) -> Path:
    """One file ``name.json`` for each; bytes are written as they are."""
    directory.mkdir(exist_ok=True)
    for name, content in documents.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (directory / f"{name}.json").write_bytes(data)
    return directory


def load(path: Path, parse: Callable[[bytes], Parsed | tuple[Problem, ...]]) -> tuple[Catalog, CatalogChange]:
    """The catalog of a folder that is read for the first time."""
    catalog = Catalog(lambda _, content: parse(content))
    return catalog, catalog.apply(map(read_document, document_files(path)))


SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


ENVIRON = {"ACME_SECRET": SECRET}


def parse(content: Any) -> Parsed | tuple[Problem, ...]:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return parse_document(data, environ=ENVIRON, default_max_in_flight=5)


def accepted(**changes: Any) -> Destination:
    parsed = parse(document(**changes))
    assert isinstance(parsed, Parsed), parsed
    return parsed.destination


def refused(content: Any) -> tuple[Problem, ...]:
    parsed = parse(content)
    assert not isinstance(parsed, Parsed)
    return parsed

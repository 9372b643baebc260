"""The documents about canonical events: ``event.schema.json`` and ``asyncapi.json``, files of this folder."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def event_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a canonical event."""
    return _read("event.schema.json")


def asyncapi(topic: str) -> dict[str, Any]:
    """The AsyncAPI 3 document of the topic of events, complete in itself."""
    document = _read("asyncapi.json")
    document["channels"]["events"]["address"] = topic
    payload = event_schema()
    del payload["$schema"]  # AsyncAPI's own dialect has all of its words
    document["components"]["messages"]["canonicalEvent"]["payload"] = payload
    return document


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(resources.files(__package__).joinpath(name).read_bytes())
    return document

"""Schemas of the events on a topic, one for each event type, as EventBridge's schema registry takes them.

Source of the form: EventBridge User Guide, "Creating a schema from event JSON in Amazon EventBridge", and Schemas API
Reference, "CreateSchema".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, final

import orjson
from genson import SchemaBuilder

from pushrail_stream.core.event import Decode, Undecodable, decode
from pushrail_stream.core.record import Record
from pushrail_stream.errors import UsageError
from pushrail_stream.files import reason_of
from pushrail_stream.kafka.reach import reached_kafka
from pushrail_stream.kafka.scan import Scan
from pushrail_stream.operations.topic_reader import Progress, read_scan
from pushrail_stream.settings.model import Settings
from pushrail_stream.settings.policy import decoder_of

SchemaType = Literal["OpenApi3", "JSONSchemaDraft4"]
MAX_CONTENT: Final = 100_000
"""Most characters of a schema that CreateSchema takes."""

_STRING: Final = {"type": "string"}
_ENVELOPE: Final[dict[str, Any]] = {
    "version": _STRING, "id": _STRING, "detail-type": _STRING, "source": _STRING, "account": _STRING,
    "time": {"type": "string", "format": "date-time"}, "region": _STRING,
    "resources": {"type": "array", "items": _STRING},
}  # fmt: skip
"""The fields that EventBridge puts around ``detail`` (EventBridge User Guide, "Event structure")."""


class InferredSchema(NamedTuple):
    """The schema of one event type."""

    name: str
    """``SchemaName`` as AWS's own schema discovery names it: ``pushrail.acme@OrderCompleted``."""
    event_type: str
    events: int
    """The events that it was inferred from."""
    content: str
    """JSON."""

    def write(self, folder: Path) -> Path:
        """Write the schema to its file in this folder, which is made where it is missing. Raises `UsageError`."""
        file = folder / f"{self.name}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{self.content}\n", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"--out: {folder}: cannot be written: {reason_of(error)}") from None
        return file


@final
class SchemaInference:
    """Collects decoded events. The vendor's name gives ``source``, unless it is named."""

    def __init__(self, source: str | None = None) -> None:
        self._source = source
        self._builders: dict[tuple[str, str], SchemaBuilder] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self.left_out = 0
        """Records that are no canonical event, or nested more deeply than the library follows (about 200 levels)."""

    def add(self, record: Record, vendor: str | None, decode: Decode = decode) -> None:
        """Learn from a record. ``vendor``: that of records without the header."""
        event = decode(record.value, record.headers, vendor)
        if isinstance(event, Undecodable) or _is_too_deep(value := orjson.loads(event.value)):
            self.left_out += 1
            return
        key = self._source or f"pushrail.{event.vendor}", event.event_type
        self._builders.setdefault(key, SchemaBuilder(schema_uri=None)).add_object(value)
        self._counts[key] += 1

    def schemas(self, kind: SchemaType) -> Iterator[InferredSchema]:
        """The schemas, in the order of their names."""
        taken: set[str] = set()
        for source, event_type in sorted(self._builders):
            detail = self._builders[source, event_type].to_schema()
            detail["properties"]["occurredAt"]["format"] = "date-time"
            title = _pascal(event_type)
            content = (_openapi if kind == "OpenApi3" else _draft4)(title, source, event_type, detail)
            name = _free(f"{re.sub('[^0-9A-Za-z._-]', '_', source)}@{title}", taken)
            taken.add(name)
            yield InferredSchema(name, event_type, self._counts[source, event_type], json.dumps(content, indent=2))


def infer_schemas(
    settings: Settings,
    progress: Progress,
    *,
    since_ms: int | None = None,
    newest: int | None = None,
    source: str | None = None,
) -> SchemaInference:
    """Learn from the topic of events: from a time on, and at most the newest records of each partition.

    Raises `OperatorError`.
    """
    inference, decode = SchemaInference(source), decoder_of(settings)
    with Scan(reached_kafka(settings), settings.topics.events, since_ms=since_ms, newest=newest) as scan:
        for record in read_scan(scan, "events", progress):
            if since_ms is None or (record.recorded_at_ms or since_ms) >= since_ms:
                inference.add(record, settings.vendor, decode)
    return inference


def _is_too_deep(value: Any) -> bool:
    """Whether the library, which calls itself for each level, cannot follow. A builder that failed is of no use."""
    builder = SchemaBuilder(schema_uri=None)
    try:
        builder.add_object(value)
        builder.to_schema()
    except RecursionError:
        return True
    return False


def _event(source: str, event_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [*_ENVELOPE, "detail"],
        "x-amazon-events-detail-type": event_type,
        "x-amazon-events-source": source,
        "properties": {"detail": detail, **_ENVELOPE},
    }


def _draft4(title: str, source: str, event_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "title": title}
    return schema | _event(source, event_type, detail)


def _openapi(title: str, source: str, event_type: str, detail: dict[str, Any]) -> dict[str, Any]:
    components: dict[str, Any] = {"AWSEvent": None}
    components["AWSEvent"] = _event(source, event_type, _converted(detail, title, components))
    info = {"version": "1.0.0", "title": title}
    return {"openapi": "3.0.0", "info": info, "paths": {}, "components": {"schemas": components}}


def _converted(schema: dict[str, Any], name: str, components: dict[str, Any]) -> dict[str, Any]:
    """A JSON Schema in OpenAPI 3.0, which has ``nullable`` in place of the type null, and one type per schema."""
    choices = [
        {"type": kind} if isinstance(one.get("type"), list) else one
        for one in schema.get("anyOf", [schema])
        for kind in (one["type"] if isinstance(one.get("type"), list) else [None])
    ]
    others = [choice for choice in choices if choice.get("type") != "null"]
    if len(others) < len(choices):
        others[:1] = [(others[0] if others else {}) | {"nullable": True}]
    found = [_component(choice, name, components) for choice in others]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _component(schema: dict[str, Any], name: str, components: dict[str, Any]) -> dict[str, Any]:
    """An object becomes a component: code bindings make it a class with this name."""
    if schema.get("type") == "array":
        return schema | {"items": _converted(schema.get("items", {}), f"{name}Item", components)}
    if "properties" not in schema:
        return schema
    name = _free(name, components)
    components[name] = None  # its name is taken before those of its members
    members = {
        member: _converted(inner, name + _pascal(member), components) for member, inner in schema["properties"].items()
    }
    components[name] = schema | {"properties": members}
    return {"$ref": f"#/components/schemas/{name}"}


def _pascal(text: str) -> str:
    return "".join(word[0].upper() + word[1:] for word in re.findall("[0-9A-Za-z]+", text)) or "Unnamed"


def _free(name: str, taken: Iterable[str]) -> str:
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}{number}", number + 1
    return found

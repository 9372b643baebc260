"""Formats of records that are no canonical event, named from their first bytes, for the texts of dead letters."""

from __future__ import annotations

import uuid
from typing import Final

CONFLUENT_PREFIX: Final = 5
"""Bytes before the content in Confluent's framing: a zero, and the schema's id as a big-endian number."""
_GLUE_PREFIX: Final = 18
"""Bytes before the content in the framing of the Glue Schema Registry: its version (3), the compression, and the UUID
of the schema's version."""
_GLUE_COMPRESSIONS: Final = (0, 5)
"""Values of the compression's byte: none, and zlib."""
_PROTOBUF_STARTS: Final = (0, 2, 4)
"""First bytes that a Protobuf message has in Confluent's framing: the number of its indexes, of which one or two are
usual, and zero for the first message of a schema. An Avro record may begin with the same bytes."""
_JSON_SPACE: Final = b" \t\n\r"


def confluent_schema_id(value: bytes) -> int | None:
    """The id in Confluent's framing; None for a value without that framing."""
    is_framed = len(value) > CONFLUENT_PREFIX and value[0] == 0
    return int.from_bytes(value[1:CONFLUENT_PREFIX], "big") if is_framed else None


def is_framed_object(value: bytes) -> bool:
    """Whether the content in Confluent's framing begins as a JSON object."""
    return value[CONFLUENT_PREFIX:].lstrip(_JSON_SPACE).startswith(b"{")


def foreign_format(value: bytes) -> str | None:
    """The name of the format of a value that is no JSON; None for an unknown one."""
    schema_id = confluent_schema_id(value)
    if schema_id is not None:
        if is_framed_object(value):
            content = "JSON (events.format: confluent_json reads it)"
        else:
            content = "Avro or Protobuf" if value[CONFLUENT_PREFIX] in _PROTOBUF_STARTS else "Avro"
        return f"Confluent framing, schema id {schema_id}, {content}"
    if len(value) > _GLUE_PREFIX and value[0] == 3 and value[1] in _GLUE_COMPRESSIONS:  # noqa: PLR2004 - its version
        return f"Glue Schema Registry framing, schema version {uuid.UUID(bytes=value[2:_GLUE_PREFIX])}"
    return None

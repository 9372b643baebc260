"""The decoders of the formats that the setting `events.format` names.

Each also reads canonical events, so that ingest, older records and retry topics need no setting of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pushrail_stream.core.event import Decode, Event, Undecodable, decode
from pushrail_stream.core.framing import CONFLUENT_PREFIX, confluent_schema_id, is_framed_object
from pushrail_stream.core.record import Headers
from pushrail_stream.formats.cloudevents import decode_cloudevent

EventFormat = Literal["canonical", "confluent_json", "cloudevents"]
"""Names of the formats."""


def _decode_confluent_json(value: bytes | None, headers: Headers, default_vendor: str | None) -> Event | Undecodable:
    """The canonical event behind Confluent's prefix. No schema is asked for: the event's own rules are checked."""
    if value and confluent_schema_id(value) is not None and is_framed_object(value):
        value = value[CONFLUENT_PREFIX:]
    return decode(value, headers, default_vendor)


DECODERS: Final[Mapping[EventFormat, Decode]] = {
    "canonical": decode,
    "confluent_json": _decode_confluent_json,
    "cloudevents": decode_cloudevent,
}
"""By format."""

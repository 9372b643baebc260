"""CloudEvents that buses get, as the events that they were made of."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, final

from pushrail_stream.core.event import TRACEPARENT_HEADER, Event, decode
from pushrail_stream.core.headers import producer_headers
from pushrail_stream.core.record import Record

_ANY_VENDOR: Final = "any"
_BEGIN: Final = b'{"specversion":"1.0",'


@final
class CloudEvents:
    """Finds the value of the event that a bus got as a CloudEvent. The mapping is that of CONTRACTS.md, made anew."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = defaultdict[str, list[Record]](list)
        for record in records:
            # Copies leave out headers whose names are not UTF-8.
            event = decode(record.value, producer_headers(record.headers), _ANY_VENDOR)
            if isinstance(event, Event):
                self._records[event.idempotency_key].append(record)

    def value_of(self, detail: bytes) -> tuple[bytes, bool]:
        """The value of the event in an entry's detail, and whether the detail is a CloudEvent.

        A CloudEvent that differs from every event stays as it is: it is the value of no event.
        """
        if not detail.startswith(_BEGIN):
            return detail, False
        found = _fields(detail)
        twins = (one for one in self._records.get(found.get("id", ""), ()) if _is_of(detail, found, one))
        return next((one.value or b"" for one in twins), detail), True


def _is_of(detail: bytes, found: dict[str, Any], record: Record) -> bool:
    fields, value = _fields(record.value), record.value or b""
    begin = value.find(b'"payload":') + len(b'"payload":')
    payload = detail[detail.index(b',"data":') + len(b',"data":') : -1]
    wanted = {
        "specversion": "1.0",
        "id": fields["idempotencyKey"],
        "source": fields["source"],
        "type": fields["eventType"],
        "time": fields["occurredAt"],
        "datacontenttype": "application/json",
        "customerexternalid": fields["customerExternalId"],
        "data": fields["payload"],
    }
    if "correlationId" in fields:
        wanted["correlationid"] = fields["correlationId"]
    if (trace := dict(record.headers).get(TRACEPARENT_HEADER)) is not None:
        wanted["traceparent"] = trace.decode()
    return found == wanted and value[begin:].lstrip().startswith(payload)


def _fields(text: bytes | None) -> dict[str, Any]:
    try:
        fields = json.loads(text or b"")
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}

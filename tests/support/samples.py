"""The contract's example event and deliveries of it, and the values that Hypothesis varies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st

from pushrail_stream.core.cursor import Cursor
from pushrail_stream.core.cursor_state import CursorState
from pushrail_stream.core.delivery import Delivery
from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.offsets import OffsetTracker
from pushrail_stream.core.pending import PendingRecord
from pushrail_stream.core.record import Headers, Record, TopicIdentity
from tests.support.builders import VENDOR, destination

TOPIC: Final = TopicIdentity("UHVzaHJhaWwtdGVzdHMtMQ", "xTz2mJGYQ9uP8cVd0eLw3A")
RECREATED: Final = TOPIC._replace(topic_id="0mvF5lFNTX6zB5ZdkVS_zg")
"""`TOPIC` after it was deleted and created again."""
MIRROR: Final = TopicIdentity("mirror", "9sHGR1EtRiajNxqLmo822A")
"""The topic of the same name on another cluster."""

EXAMPLE: Final = (Path(__file__).parent.parent / "fixtures" / "example-event.json").read_bytes()
"""The seed's event, as its author indented it."""
DESTINATION: Final = destination()

texts: Final = st.text(st.characters(codec="utf-8"))
"""Any text that UTF-8 can carry: without surrogates, with everything else."""
json_values: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def fields(**changes: Any) -> dict[str, Any]:
    """The example's fields with these; ``...`` removes one."""
    return {name: value for name, value in {**json.loads(EXAMPLE), **changes}.items() if value is not ...}


def json_bytes(value: Any) -> bytes:
    """JSON as some producer writes it: with blanks, and with its characters unescaped."""
    return json.dumps(value, ensure_ascii=False).encode()


def decode_example(headers: Headers = (), /, **changes: Any) -> Event:
    """The example's event with other fields."""
    decoded = decode(json_bytes(fields(**changes)), headers, VENDOR)
    assert not isinstance(decoded, Undecodable), decoded
    return decoded


def refusal(value: bytes | None, headers: Headers = (), vendor: str | None = VENDOR) -> Undecodable:
    """The problem of a value that has to be refused."""
    decoded = decode(value, headers, vendor)
    assert isinstance(decoded, Undecodable), decoded
    return decoded


def example_record(offset: int = 7, value: bytes | None = EXAMPLE, headers: Headers = ()) -> Record:
    """A record of the topic of events."""
    return Record("pushrail.events", 3, offset, b"acct_8K2zRq", value, headers, 1_780_000_000_000)


def pending(offset: int = 7, deliveries: int = 1) -> PendingRecord:
    """An open record of a tracker of its own."""
    begun = OffsetTracker().track(offset, 100, deliveries)
    assert begun is not None
    return begun


SAMPLE_EVENT: Final = decode_example()


def of_cursor(offset: int = 7) -> PendingRecord:
    """An open record of a cursor of its own."""
    state = CursorState(destination_id=DESTINATION.id, since=0, next=0, oldest_ms=0, opened_ms=0)
    begun = Cursor(state, OffsetTracker()).begin(offset, 100, 0)
    assert begun is not None
    return begun


def delivery(size: int = 100, *, to: str = DESTINATION.id, offset: int = 7) -> Delivery:
    """A delivery of an entry that counts ``size`` bytes, whatever its event has."""
    return Delivery(SAMPLE_EVENT, example_record(offset), to, size, pending(offset))


def cursors_delivery(offset: int = 7) -> Delivery:
    """The same of a cursor."""
    return Delivery(SAMPLE_EVENT, example_record(offset), DESTINATION.id, 100, of_cursor(offset))

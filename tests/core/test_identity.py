"""An event's identity is read from malformed values too, as far as it is there."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushrail_stream.core.event import Event, Undecodable, decode
from pushrail_stream.core.identity import Identity, identify, identity_of

EVENT: dict[str, Any] = {
    "eventType": "order.completed", "occurredAt": "2026-05-26T14:21:08.493Z", "source": "billing",
    "customerExternalId": "acct_1", "idempotencyKey": "key-1", "correlationId": "req-1",
    "payload": {"idempotencyKey": "inner", "items": [{"eventType": "inner"}]},
}  # fmt: skip
WHOLE = Identity("order.completed", "acct_1", "key-1", "req-1")


def without(*names: str) -> dict[str, Any]:
    return {name: field for name, field in EVENT.items() if name not in names}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (json.dumps(without("payload")).encode(), WHOLE),
        (json.dumps(EVENT | {"payload": "text"}, indent=2).encode(), WHOLE),
        (json.dumps(without("eventType", "payload")).encode(), WHOLE._replace(event_type=None)),
        (json.dumps(EVENT | {"idempotencyKey": 17}).encode(), WHOLE._replace(idempotency_key="17")),
        (json.dumps(EVENT | {"customerExternalId": ""}).encode(), WHOLE._replace(customer_external_id=None)),
        (json.dumps(EVENT | {"customerExternalId": None}).encode(), WHOLE._replace(customer_external_id=None)),
        (json.dumps(EVENT | {"idempotencyKey": ["k"]}).encode(), WHOLE._replace(idempotency_key=None)),
        (json.dumps(EVENT | {"idempotencyKey": "k" * 300}).encode(), WHOLE._replace(idempotency_key="k" * 256)),
        (json.dumps(EVENT | {"payload": {"n": float("nan")}}).encode(), WHOLE),
        (json.dumps(EVENT | {"source": "\xff"}, ensure_ascii=False).encode("latin-1"), WHOLE),
        (
            json.dumps(EVENT | {"idempotencyKey": "caf\xe9"}, ensure_ascii=False).encode("latin-1"),
            WHOLE._replace(idempotency_key="caf\ufffd"),
        ),
        (
            json.dumps(EVENT | {"payload": 0, "idempotencyKey": 'a"\\\n\xe9'}).encode(),
            WHOLE._replace(idempotency_key='a"\\\n\xe9'),
        ),
        (json.dumps(EVENT | {"idempotencyKey": "\ud800"}).encode(), WHOLE._replace(idempotency_key="\\ud800")),
        (json.dumps(EVENT).encode()[:-30], WHOLE),
        (json.dumps(EVENT)[:-1].encode() + b', "deep": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", WHOLE),
        (json.dumps(without("eventType")).encode() + b'{"eventType": "next"}', WHOLE._replace(event_type=None)),
        (json.dumps([EVENT]).encode(), Identity()),
        (b"poison", Identity()),
        (b"", Identity()),
        (None, Identity()),
    ],
)  # fmt: skip
def test_every_readable_field_is_found(value: bytes | None, found: Identity) -> None:
    assert isinstance(decode(value, (), "acme"), Undecodable)
    assert identify(value) == found
    assert orjson.dumps(found._asdict())


def test_a_canonical_event_has_the_same_identity() -> None:
    value = json.dumps(EVENT).encode()
    decoded = decode(value, (), "acme")
    assert isinstance(decoded, Event)
    assert identity_of(decoded) == identify(value) == WHOLE


@given(
    st.fixed_dictionaries(
        dict.fromkeys(("eventType", "customerExternalId", "idempotencyKey"), st.text(min_size=1, max_size=128)),
        optional={"payload": st.dictionaries(st.text(), st.text() | st.lists(st.dictionaries(st.text(), st.text())))},
    )
)
def test_the_scan_reads_what_a_parser_reads(event: dict[str, Any]) -> None:
    found = identify(json.dumps(event, ensure_ascii=False).encode())
    assert found[:3] == (event["eventType"], event["customerExternalId"], event["idempotencyKey"])


@given(st.binary() | st.text(alphabet='{}[]":,\\eventTypk1').map(str.encode))
def test_no_value_raises(value: bytes) -> None:
    assert orjson.dumps(identify(value)._asdict())

"""CloudEvents over HTTP in structured, batch and binary mode become canonical events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from pushrail_stream.core.event import Event, decode
from tests.support.ingest_server import EVENT, TRACEPARENT, Door, ingest_door, members, vendor_and_trace

STRUCTURED = "application/cloudevents+json; charset=utf-8"
BATCH = "application/cloudevents-batch+json"
DATA = b'{ "amount": 12900.0 }'
VALUE = (
    b'{"eventType":"order.completed","occurredAt":"2026-05-26T14:21:08Z","source":"shop","customerExternalId":"acct_1",'
    b'"idempotencyKey":"shop 1","payload":{ "amount": 12900.0 },"metadata":{"region":"Z\xc3\xbcrich"}}'
)


def cloudevent(**changes: Any) -> bytes:
    attributes = {
        "specversion": "1.0",
        "id": "1",
        "source": "shop",
        "type": "order.completed",
        "time": "2026-05-26T14:21:08Z",
        "customerexternalid": "acct_1",
        "region": "Zürich",
    } | changes
    given = {name: value for name, value in attributes.items() if value is not None}
    return json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()[:-1] + b',"data":' + DATA + b"}"


def as_headers(event: bytes) -> dict[str, str]:
    """The attributes as the HTTP binding writes them."""
    return {f"ce_{name}": quote(value, safe="/:") for name, value in json.loads(event).items() if name != "data"}


def written(door: Door) -> list[bytes]:
    assert all(isinstance(decode(record.value, record.headers, None), Event) for record in door.producer.taken)
    return [record.value for record in door.producer.taken]


async def test_each_mode_writes_the_same_canonical_event(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        answers = [
            await door.post(cloudevent(), Content_Type=STRUCTURED, traceparent=TRACEPARENT),
            await door.post(b"[" + cloudevent() + b"]", Content_Type=BATCH, traceparent=TRACEPARENT),
            await door.post(DATA, traceparent=TRACEPARENT, **as_headers(cloudevent())),
            await door.post(DATA, traceparent=TRACEPARENT, **(as_headers(cloudevent()) | {"ce_id": '"1"'})),
        ]
        assert [(status, answer["accepted"]) for status, answer, _ in answers] == [(202, 1)] * 4
        assert {answer["results"][0]["idempotencyKey"] for _, answer, _ in answers} == {"shop 1"}
        assert written(door) == [VALUE] * 4
        assert {record.key for record in door.producer.taken} == {b"acct_1"}
        assert vendor_and_trace(door) == [(b"acme", TRACEPARENT.encode())] * 4


async def test_a_batch_is_written_event_by_event(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        batch = b"[" + b",".join(cloudevent(id=str(n)) for n in range(500)) + b"]"
        status, answer, _ = await door.post(batch, Content_Type=BATCH, Idempotency_Key="of-canonical-events-only")
        assert (status, answer["accepted"]) == (202, 500)
        assert [result["idempotencyKey"] for result in answer["results"]] == [f"shop {n}" for n in range(500)]
        assert len(written(door)) == 500


async def test_the_trace_of_an_event_is_its_own(tmp_path: Path) -> None:
    own = TRACEPARENT.replace("4bf9", "ffff")
    async with ingest_door(tmp_path) as door:
        batch = b"[" + cloudevent(traceparent=own) + b"," + cloudevent() + b"]"
        assert (await door.post(batch, Content_Type=BATCH, traceparent=TRACEPARENT))[0] == 202
        assert [trace for _, trace in vendor_and_trace(door)] == [own.encode(), TRACEPARENT.encode()]


@pytest.mark.parametrize(
    ("body", "content_type", "errors"),
    [
        (cloudevent(time=None), STRUCTURED, [("time", "#/time")]),
        (cloudevent(type="", customerexternalid=7), STRUCTURED, [("type", "#/type"), ("customerexternalid", None)]),
        (b"[" + cloudevent() + b"," + cloudevent(id=None) + b"]", BATCH, [("id", "#/1/id")]),
        (b"[" + cloudevent() + b"]", STRUCTURED, [("value", "#")]),
        (cloudevent(), BATCH, [("value", "#")]),
        (b"[]", BATCH, [("value", "#")]),
        (json.dumps(EVENT).encode(), STRUCTURED, [("specversion", "#/specversion")]),
        (cloudevent(), "application/json", [("value", "#")]),
    ],
)
async def test_a_broken_rule_names_the_attribute(
    tmp_path: Path, body: bytes, content_type: str, errors: list[tuple[str, str | None]]
) -> None:
    async with ingest_door(tmp_path) as door:
        status, answer, _ = await door.post(body, Content_Type=content_type)
        assert status == 422
        found = {error["field"]: error.get("pointer") for error in answer["errors"]}
        for field, pointer in errors:
            assert field in found
            assert pointer is None or found[field] == pointer
        assert door.producer.taken == []


async def test_a_binary_event_is_checked(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        headers = as_headers(cloudevent())
        for body in (b"", b"[1]", b'{}, "customerExternalId": "acct_other"'):
            status, answer, _ = await door.post(body, **headers)
            assert (status, answer["errors"][0]["field"]) == (422, "data")
        status, answer, _ = await door.post(DATA, **(headers | {"ce_region": "%ff"}))
        assert (status, answer["errors"][0]["field"]) == (422, "region")
        assert door.producer.taken == []


async def test_other_media_types_are_told_those_that_there_are(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        for kind in ("application/cloudevents+avro", "application/cloudevents+json; charset=latin-1", "text/json"):
            status, _, headers = await door.post(members(), Content_Type=kind)
            assert status == 415
            assert headers["Accept"] == f"application/json, application/cloudevents+json, {BATCH}"

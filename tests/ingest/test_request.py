"""The parts of a request, each read by its rule."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pushrail_stream.ingest.errors import HttpProblem
from pushrail_stream.ingest.request import filled, split
from tests.support.ingest_server import EVENT, TRACEPARENT, ingest_door, members, vendor_and_trace
from tests.support.patience import PATIENCE_SECS


@pytest.mark.parametrize("given_trace", ["", "00-0-0-00", "ff" + TRACEPARENT[2:]])
async def test_a_missing_trace_is_made_unsampled(tmp_path: Path, given_trace: str) -> None:
    async with ingest_door(tmp_path) as door:
        _, _, headers = await door.post(members(), traceparent=given_trace)
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers["traceparent"])
        assert vendor_and_trace(door) == [(b"acme", headers["traceparent"].encode())]


async def test_a_later_trace_version_is_shortened(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        later = "cc" + TRACEPARENT[2:]
        _, _, headers = await door.post([members()] * 2, traceparent=f"{later}-{'x' * 5_000}")
        assert headers["traceparent"] == later
        assert vendor_and_trace(door) == [(b"acme", later.encode())] * 2


async def test_the_header_gives_the_idempotency_key(tmp_path: Path) -> None:
    bare = json.dumps(members(idempotencyKey=None)).encode()
    async with ingest_door(tmp_path) as door:
        await door.post(bare, Idempotency_Key="order-7")
        await door.post(members(), Idempotency_Key="order-7")
        await door.post(b"[" + bare + b"," + bare + b"]", Idempotency_Key='"in quotes"')
        keys = [json.loads(record.value)["idempotencyKey"] for record in door.producer.taken]
        assert keys == ["order-7", EVENT["idempotencyKey"], "in quotes-0", "in quotes-1"]
        assert door.producer.taken[0].value == bare[:-1] + b',"idempotencyKey":"order-7"}'
        for wrong in ("x" * 253, "ü", '""'):
            status, answer, _ = await door.post(bare, Idempotency_Key=wrong)
            assert (status, answer["errors"][0]["field"]) == (422, "Idempotency-Key")


async def test_a_long_key_fits_the_longest_array(tmp_path: Path) -> None:
    async with ingest_door(tmp_path) as door:
        assert (await door.post([members(idempotencyKey=None)] * 500, Idempotency_Key="k" * 252))[0] == 202
        assert json.loads(door.producer.taken[-1].value)["idempotencyKey"] == "k" * 252 + "-499"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content_Type": ""}, 415), ({"Content_Type": "text/plain"}, 415),
        ({"Content_Type": "application/json; charset=latin-1"}, 415), ({"Content_Encoding": "gzip"}, 415),
        ({"Content_Type": "application/json; charset=UTF-8"}, 202), ({"Content_Type": "Application/JSON"}, 202),
        ({"Content_Encoding": "identity"}, 202),
    ],
)  # fmt: skip
async def test_only_json_is_taken(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    async with ingest_door(tmp_path) as door:
        assert (await door.post(members(), **headers))[0] == status


@pytest.mark.parametrize(("announced", "status"), [("0" * 30 + "{}", 202), ("0" * 30 + "9" * 18, 413)])
async def test_a_length_may_have_leading_zeros(tmp_path: Path, announced: str, status: int) -> None:
    async with ingest_door(tmp_path) as door:
        body = json.dumps(members()).encode()
        port = int(door.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {door.key}\r\n".encode())
        writer.write(
            f"Content-Type: application/json\r\nContent-Length: {announced}\r\n\r\n".format(len(body)).encode()
        )
        writer.write(body)
        async with asyncio.timeout(PATIENCE_SECS):
            assert f" {status} ".encode() in await reader.readline()
        writer.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ \n\t0aé', max_size=60).map(str.encode))
def test_any_body_is_split_or_refused(body: bytes) -> None:
    with contextlib.suppress(HttpProblem):
        values, is_array = split(body)
        assert is_array or values == [body]


def test_a_body_that_is_nested_too_deeply_is_refused_in_our_words() -> None:
    with pytest.raises(HttpProblem, match="value: is not a JSON array that can be read: nested too deeply"):
        split(b"[" * 200_000)


SPACE = st.text(alphabet=" \t\n\r", max_size=3).map(str.encode)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.lists(st.tuples(JSON, st.booleans(), SPACE, SPACE), min_size=1, max_size=6), SPACE, SPACE)
def test_an_array_splits_byte_for_byte(
    elements: list[tuple[Any, bool, bytes, bytes]], before: bytes, after: bytes
) -> None:
    written = [
        (json.dumps(value, ensure_ascii=ascii_only, indent=1 if ascii_only else None).encode("utf-8"), left, right)
        for value, ascii_only, left, right in elements
    ]
    body = before + b"[" + b",".join(left + value + right for value, left, right in written) + b"]" + after
    assert split(body) == ([value for value, _, _ in written], True)


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5) | st.integers(), max_size=4),
    st.text(min_size=1, max_size=20),
)
def test_filling_a_key_adds_one_member(data: dict[str, Any], key: str) -> None:
    posted = json.dumps(data, indent=1).encode()
    after = filled(posted, key)
    expected = data | ({} if "idempotencyKey" in data else {"idempotencyKey": key})
    assert json.loads(after) == expected
    assert after.startswith(posted.rstrip()[:-1].rstrip())

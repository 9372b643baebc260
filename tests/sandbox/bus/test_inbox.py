"""The inboxes of a bus in another process."""

from __future__ import annotations

import asyncio

import pytest

from pushrail_stream.errors import OperatorError
from pushrail_stream.sandbox.bus.inbox import read_inbox
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.bus_clients import BUS, KEY, SECRET, client, entry


async def test_the_inbox_is_read_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FaultBus.serve() as bus:
        bus.add_key(KEY, SECRET)
        bus.add_rule(BUS, "all of it", {"source": [{"prefix": ""}]})
        async with client("events", bus) as events:
            for key in ("key & 1", "key_2"):
                await events.put_events(Entries=[entry(Resources=["acct_1", key])])
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        both = await asyncio.to_thread(read_inbox, bus.url, limit=9)
        one = await asyncio.to_thread(read_inbox, f"{bus.url}/", limit=9, rule="all of it", key="key & 1")
    assert [(found["bus"], found["rules"], found["event"]["resources"][1]) for found in both] == [
        (BUS, ["all of it"], "key & 1"), (BUS, ["all of it"], "key_2"),
    ]  # fmt: skip
    assert one == both[:1]


async def test_no_bus_is_an_error_with_its_reason() -> None:
    with pytest.raises(OperatorError, match=r"^no bus of a sandbox answers at http://127.0.0.1:1: .*refused"):
        read_inbox("http://127.0.0.1:1", limit=1)
    async with FaultBus.serve() as bus:
        with pytest.raises(OperatorError, match="Not Found"):
            await asyncio.to_thread(read_inbox, f"{bus.url}/other", limit=1)

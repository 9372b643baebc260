"""The bus as a server: HTTP's special cases, TLS, waiting, control by other processes, and a clean end."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from botocore.exceptions import SSLError

from pushrail_stream.sandbox.bus.faults import Hang, Latency, Rule, Times
from pushrail_stream.sandbox.bus.server import BusConfig, FaultBus, run_bus
from tests.support.bus_clients import (
    BUS,
    KEY,
    ROLE,
    SECRET,
    client,
    connection,
    control,
    declare,
    entry,
    head,
    read_reply,
    refusal,
    send,
    signed,
    whole,
)

if TYPE_CHECKING:
    from pathlib import Path

RULE: dict[str, Any] = {
    "bus": BUS,
    "name": "second",
    "pattern": {"detail-type": ["second"]},
    "queue": "arn:aws:sqs:us-east-1:123456789012:second",
}


def put(bus: FaultBus, name: str) -> tuple[dict[str, str], bytes]:
    return signed(bus, {"Entries": [entry(Detail=f'{{"name":"{name}"}}')]})


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        bus.set_plan([Rule(Latency(0.02), when=Times(1))])
        async with connection(bus) as (reader, writer):
            writer.write(b"".join(whole(*put(bus, name)) for name in "abc"))
            replies = [await read_reply(reader) for _ in "abc"]
        answered = [reply["Entries"][0]["EventId"] for _, _, reply in replies]
        assert answered == [arrival.event_id for arrival in bus.arrivals]
        assert [orjson.loads(arrival.detail)["name"] for arrival in bus.arrivals] == ["a", "b", "c"]
        assert bus.counts()["connections"] == 1


async def test_a_request_may_come_byte_by_byte() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with connection(bus) as (reader, writer):
            for byte in whole(*put(bus, "a")):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await read_reply(reader))[0] == 200


async def test_a_chunked_body_is_put_together() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = put(bus, "a")
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
        status, _, _ = await send(bus, head({**headers, "Transfer-Encoding": "chunked"}) + chunks)
        assert (status, len(bus.arrivals)) == (200, 1)


async def test_a_client_that_expects_100_continue_gets_it() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = put(bus, "a")
        async with connection(bus) as (reader, writer):
            writer.write(head({**headers, "Content-Length": str(len(body)), "Expect": "100-continue"}))
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await read_reply(reader))[0] == 200


async def test_connection_close_is_honoured() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        headers, body = put(bus, "a")
        async with connection(bus) as (reader, writer):
            writer.write(whole({**headers, "Connection": "close"}, body))
            assert (await read_reply(reader))[1]["connection"] == "close"
            assert await reader.read() == b""
        assert (await send(bus, b"NONSENSE\r\n\r\n"))[0] == 400
        assert (await send(bus, head({"Host": "bus"}, "GET / HTTP/1.1")))[0] == 404


async def test_a_body_without_end_is_refused() -> None:
    async with FaultBus.serve() as bus, connection(bus) as (reader, writer):
        writer.write(head({"Host": "bus", "Content-Length": str(2**30)}))
        writer.write(b"x" * (16 * 1024 * 1024 + 1))
        assert (await read_reply(reader))[0] == 413


async def test_tls_with_the_authority_it_writes(tmp_path: Path) -> None:
    ca_path = tmp_path / "bus-ca.pem"
    async with FaultBus.serve(BusConfig(tls=True, ca_path=ca_path)) as bus:
        declare(bus)
        assert bus.ca_path == str(ca_path)
        assert bus.url.startswith("https://127.0.0.1:")
        async with client("events", bus, verify=bus.ca_path) as events:
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0
        async with client("events", bus) as events:
            with pytest.raises(SSLError):
                await events.put_events(Entries=[entry()])
        assert len(bus.arrivals) == 1


@pytest.mark.parametrize("is_tls", [False, True])
async def test_the_end_frees_the_port(is_tls: bool) -> None:  # noqa: FBT001 - a table
    async with AsyncExitStack() as clients:
        async with FaultBus.serve(BusConfig(tls=is_tls)) as bus:
            declare(bus)
            bus.set_plan([Rule(Hang(), when=Times(1)), Rule(Latency(3600.0))])
            trusted = ssl.create_default_context(cafile=bus.ca_path) if is_tls else None
            readers = []
            for number in (1, 2):
                reader, writer = await clients.enter_async_context(connection(bus, trusted))
                readers.append(reader)
                writer.write(whole(*put(bus, "a")))
                await bus.wait_for_calls(number)
            assert bus.counts()["openConnections"] == 2
        assert bus.counts()["openConnections"] == 0
        assert [await reader.read() for reader in readers] == [b"", b""]
    async with FaultBus.serve(BusConfig(port=int(bus.url.rpartition(":")[2]))) as again:
        assert again.url.rpartition(":")[2] == bus.url.rpartition(":")[2]


async def test_a_wait_ends_with_the_last_arrival() -> None:
    async with FaultBus.serve() as bus:
        declare(bus)
        async with client("events", bus) as events, asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(bus.wait_for_arrivals(3))
            await events.put_events(Entries=[entry(), entry()])
            assert not waiting.done()
            await events.put_events(Entries=[entry()])
            async with asyncio.timeout(5):
                await waiting
        await bus.wait_for_arrivals(2)


async def test_counters_keep_only_latencies() -> None:
    now = 1_790_000_000.5
    config = BusConfig(
        clock=lambda: now, check_signatures=False, keep_records=False, latency_path="payload.producedAtMs"
    )
    async with FaultBus.serve(config) as bus:
        declare(bus)
        details = ['{"payload":{"producedAtMs":1790000000000}}', '{"payload":{"producedAtMs":"x"}}', '{"payload":7}']
        async with client("events", bus) as events:
            await events.put_events(Entries=[entry(Detail=detail) for detail in details])
        assert (bus.arrivals, bus.calls) == ([], [])
        assert (bus.counts()["arrivals"], bus.counts()["calls"], bus.counts()["entries"]) == (3, 1, 3)
        assert bus.latencies_ms() == bus.latencies_ms(BUS) == [500.0]
        assert bus.latencies_ms("elsewhere") == []
        assert (await control(bus, "GET", "latencies"))[1] == {"latenciesMs": [500.0]}
        bus.clear()
        assert bus.latencies_ms() == []
        assert bus.counts()["arrivals"] == 0


async def test_another_process_controls_the_bus() -> None:
    async with FaultBus.serve() as bus:
        assert await control(bus, "POST", "buses", {"arn": BUS}) == (200, {})
        assert await control(bus, "POST", "keys", {"accessKey": KEY, "secret": SECRET, "buses": [BUS]}) == (200, {})
        role = {"roleArn": ROLE, "externalId": "ext", "buses": [BUS], "maxSessionSecs": 7200}
        assert await control(bus, "POST", "roles", role) == (200, {})
        assert await control(bus, "POST", "rules", RULE) == (200, {})
        plan = {
            "rules": [
                {
                    "effect": {"kind": "callError", "status": 500, "code": "Broken"},
                    "when": {"kind": "times", "times": 1},
                }
            ]
        }
        status, in_force = await control(bus, "PUT", "plan", plan)
        assert (status, in_force) == await control(bus, "GET", "plan")
        assert in_force["rules"][0]["when"] == {"kind": "times", "times": 1}
        async with client("events", bus) as events, client("sts", bus) as sts:
            assert (await refusal(events.put_events(Entries=[entry()])))[1] == "Broken"
            await events.put_events(Entries=[entry(), entry(DetailType="second")])
            ask = {"RoleArn": ROLE, "RoleSessionName": "ab", "ExternalId": "ext", "DurationSeconds": 7200}
            await sts.assume_role(**ask)
        assert [json.loads(body)["detail-type"] for body in bus.take_messages(RULE["queue"])] == ["second"]
        _, arrivals = await control(bus, "GET", "arrivals?offset=1&limit=1")
        assert (arrivals["offset"], arrivals["total"]) == (1, 2)
        assert [(one["detailType"], one["busArn"]) for one in arrivals["arrivals"]] == [("second", BUS)]
        _, calls = await control(bus, "GET", "calls")
        assert [(one["status"], one["fault"]) for one in calls["calls"]] == [(500, "callError"), (200, None)]
        assert (await control(bus, "GET", "assumed"))[1]["assumed"][0]["sessionName"] == "ab"
        _, counts = await control(bus, "GET", "counts")
        assert (counts["arrivals"], counts["byBus"]) == (2, {BUS: 2})
        assert await control(bus, "POST", "clear") == (200, {})
        assert (await control(bus, "GET", "counts"))[1]["arrivals"] == 0


@pytest.mark.parametrize(
    ("method", "path", "document", "status", "said"),
    [
        ("PUT", "plan", {"rules": [{"effect": {"kind": "latency"}}]}, 400, "rules.0.effect.latency.secs: "),
        ("PUT", "plan", b"{", 400, "body: not JSON"),
        ("POST", "buses", {"arn": "pushrail-events"}, 400, "arn: "),
        ("POST", "buses", {"name": "x"}, 400, "arn: "),
        ("POST", "buses", [], 400, "body: "),
        ("POST", "keys", {"accessKey": "A", "secret": 7}, 400, "secret: "),
        ("POST", "roles", {"roleArn": "no"}, 400, "roleArn: "),
        ("POST", "roles", {"roleArn": ROLE, "extra": 1}, 400, "extra: "),
        (
            "POST",
            "roles",
            {"roleArn": "no", "trustPolicy": {}, "permissionsPolicies": []},
            400,
            "trustPolicy.Statement: ",
        ),
        ("POST", "rules", RULE | {"bus": "no"}, 400, "bus: 'no' is not the ARN"),
        ("POST", "rules", RULE | {"queue": "no"}, 400, "queue: 'no' is not the ARN"),
        ("POST", "rules", RULE | {"pattern": {"source": "acme"}}, 400, "pattern.source: "),
        ("GET", "arrivals?offset=-1", None, 400, "offset: "),
        ("GET", "calls?limit=many", None, 400, "limit: "),
        ("POST", "counts", None, 405, "no POST /_bus/counts"),
        ("GET", "nothing", None, 404, "no GET /_bus/nothing"),
    ],
)
async def test_bad_control_input_names_the_field(method: str, path: str, document: Any, status: int, said: str) -> None:
    async with FaultBus.serve() as bus:
        found, answer = await control(bus, method, path, document)
        assert found == status
        assert answer["error"].startswith(said)


async def test_run_bus_serves_until_stopped() -> None:
    lines: list[str] = []
    stop, started = asyncio.Event(), asyncio.Event()

    def announce(line: str) -> None:
        lines.append(line)
        started.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_bus(BusConfig(open=True, tls=True), announce=announce, stop=stop))
        await started.wait()
        (announced,) = (orjson.loads(line) for line in lines)
        probe = FaultBus(BusConfig())
        probe.url = announced["url"]
        async with client("events", probe, verify=announced["caPath"]) as events:
            assert (await events.put_events(Entries=[entry()]))["FailedEntryCount"] == 0
        stop.set()
    with pytest.raises(ConnectionRefusedError):
        await control(probe, "GET", "counts")

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from pathlib import Path

import pytest

from pushrail_stream.core.signals import KafkaTrouble
from pushrail_stream.sandbox.bus.server import FaultBus
from tests.support.builders import SECRET, event, with_access_key
from tests.support.kafka.fixtures import LocalKafkaFactory
from tests.support.patience import PATIENCE_SECS
from tests.support.worker_process import FAILED, REFUSED, WORKERS, call, worker, write_world
from tests.support.workers import committed, ends, make_topics, open_bus, outside, produce, running, settings_for, until

pytestmark = pytest.mark.kafka


async def read_line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None
    return await process.stderr.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_run_drains_on_a_signal_and_exits_0(real_kafka: str, tmp_path: Path, number: signal.Signals) -> None:
    async with outside(real_kafka, 4) as (bus, settings):
        path = write_world(tmp_path, settings, 4)
        await produce(settings, ((f"acct_{n % 4}", event(n % 4, n)) for n in range(400)))
        async with worker(path) as process, asyncio.timeout(PATIENCE_SECS):
            await bus.wait_for_arrivals(400)
            process.send_signal(number)
            _, errors = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in errors
        assert SECRET.encode() not in errors
        assert json.loads(errors.splitlines()[-1])["delivered"] == 400
        assert committed(settings) == ends(settings, settings.topics.events)


def two_free_ports() -> int:
    """A port that is free, as is the one after it."""
    for port in range(32_100, 32_700, 2):
        with socket.socket() as first, socket.socket() as second, contextlib.suppress(OSError):
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no two free ports")


async def test_two_workers_share_the_partitions(real_kafka: str, tmp_path: Path) -> None:
    port = two_free_ports()
    async with outside(real_kafka, 6, http={"port": port}) as (bus, settings):
        path = write_world(tmp_path, settings, 6)
        async with worker(path, "--workers", "2") as process, asyncio.timeout(PATIENCE_SECS):
            await produce(settings, ((f"acct_{n % 6}", event(n % 6, n)) for n in range(600)))
            await bus.wait_for_arrivals(600)
            lines, members = [], set[str]()
            while len(members) < len(WORKERS):
                lines.append(json.loads(await read_line(process)))
                if lines[-1]["event"] == "partitions_assigned":
                    members.add(lines[-1]["worker"])
            process.terminate()
            _, errors = await process.communicate()
        assert process.returncode == 0
        lines += map(json.loads, errors.splitlines())
        assert {line["worker"] for line in lines if line["event"] == "stopped"} == WORKERS
        ports = {line["worker"]: line["port"] for line in lines if line["event"] == "listening"}
        assert ports == {"pushrail-stream-1": port, "pushrail-stream-2": port + 1}
        ids = {line["worker"]: line["worker_id"] for line in lines if line["event"] == "listening"}
        assert all(line["worker_id"] == ids[line["worker"]] for line in lines if line["event"] == "partitions_assigned")
        assert sum(committed(settings).values()) == 600
        assert {a.detail.encode() for a in bus.arrivals} == {event(n % 6, n) for n in range(600)}


def test_too_few_ports_stop_the_start(tmp_path: Path) -> None:
    settings = settings_for("127.0.0.1:1", "http://127.0.0.1:1", http={"port": 65_534})
    done = call("run", "--config", str(write_world(tmp_path, settings, 1)), "--workers", "3")
    assert done.returncode == REFUSED
    assert done.stderr == "error: http.port: 3 workers need a port each, and there is none after 65535\n"


async def test_workers_end_with_a_killed_supervisor(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        path = write_world(tmp_path, settings, 1)
        async with worker(path, "--workers", "2") as process, asyncio.timeout(PATIENCE_SECS):
            while json.loads(await read_line(process))["event"] != "partitions_assigned":
                pass
            process.kill()
            # The pipe closes when the last of those that hold it has ended.
            _, errors = await process.communicate()
        assert b'"stopped"' in errors


def test_unreachable_kafka_is_exit_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: no other process can answer there
        settings = settings_for(f"127.0.0.1:{taken.getsockname()[1]}", "http://127.0.0.1:1")
        done = call("run", "--config", str(write_world(tmp_path, settings, 1)), "--log-level", "error")
    assert done.returncode == FAILED
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Kafka cannot be reached at 127.0.0.1:" in line
    assert "kafka.bootstrap_servers" in line


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("delivery: {max_in_flight: 257}", "delivery.max_in_flight"),
        ("delivery: {max_entry: 10}", "delivery.max_entry"),
        ("kafka: [", "pushrail.yaml"),
    ],
)
def test_bad_settings_are_one_line_and_exit_2(tmp_path: Path, lines: str, problem: str) -> None:
    path = tmp_path / "pushrail.yaml"
    path.write_text(lines)
    done = call("run", "--config", str(path))
    assert done.returncode == REFUSED
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_worker_survives_a_broker_restart(local_kafka_factory: LocalKafkaFactory) -> None:
    kafka = await asyncio.to_thread(local_kafka_factory)
    async with FaultBus.serve() as bus:
        settings = settings_for(kafka.bootstrap_servers, bus.url)
        make_topics(settings)
        open_bus(bus, range(3))
        first, second = ([(f"acct_{n % 3}", event(n % 3, n)) for n in part] for part in (range(90), range(90, 180)))
        async with running(settings, [with_access_key(n) for n in range(3)]) as watched:
            await produce(settings, first)
            await watched.settled(90)
            await asyncio.to_thread(kafka.kill)
            await watched.until(lambda: any(isinstance(s, KafkaTrouble) for s in watched.signals))
            await asyncio.to_thread(kafka.restart)
            await produce(settings, second)
            async with asyncio.timeout(PATIENCE_SECS):
                await bus.wait_for_arrivals(180)
            # The group's coordinator may come back after the topic's leader, and a stop would not wait for it.
            await until(lambda: sum(committed(settings).values()) == 180)
        assert {a.detail.encode() for a in bus.arrivals} == {value for _, value in [*first, *second]}
        assert sum(committed(settings).values()) == 180

"""The surroundings of a benchmark: a broker, the bus, destination documents, and workers as processes."""

from __future__ import annotations

import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import psutil
import yaml
from confluent_kafka import Producer

from pushrail_stream.kafka.topics import create_topics, plan_topics
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import KafkaSettings, Settings, TopicsSettings
from tests.bench.checkout import ROOT, environment_of
from tests.support.kafka.choose import Missing, start_real_kafka

CUSTOMERS: Final = 50
PARTITIONS: Final = 12
_PADDING: Final = "x" * 480
"""Makes an event about 0.8 KB long."""
_WAIT_SECS: Final = 180.0
_POLL_SECS: Final = 0.2
"""Each question is a TLS connection of its own, which the bus pays for."""


class Bus:
    """The bus process, asked over its control paths."""

    def __init__(self, announced: dict[str, str], ca: Path) -> None:
        self.url = announced["url"]
        self.ca = ca
        self._tls = ssl.create_default_context(cafile=str(ca))

    def ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.url}/_bus/{path}", method=method)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, context=self._tls, timeout=10) as reply:  # noqa: S310 - loopback
            return json.load(reply)

    def put(self, path: str, body: bytes) -> None:
        request = urllib.request.Request(f"{self.url}/_bus/{path}", body, method="PUT")  # noqa: S310 - loopback
        with urllib.request.urlopen(request, context=self._tls, timeout=10):  # noqa: S310 - loopback
            pass

    def arrivals(self) -> int:
        return int(self.ask("counts")["arrivals"])

    def wait_for(self, arrivals: int, within_secs: float = _WAIT_SECS) -> int:
        """Wait until this number of entries has arrived; the number that has."""
        deadline = time.monotonic() + within_secs
        while (seen := self.arrivals()) < arrivals:
            assert time.monotonic() < deadline, f"only {seen} of {arrivals} entries arrived"
            time.sleep(_POLL_SECS)
        return seen


@contextmanager
def broker() -> Iterator[tuple[str, bool]]:
    """Bootstrap servers, and whether they are a real Apache Kafka."""
    with ExitStack() as stack:
        real = start_real_kafka()
        if isinstance(real, Missing):
            print(f"NOT a real Kafka ({real.reason}): figures are of the embedded broker", file=sys.stderr)
            yield stack.enter_context(EmbeddedBroker.start({})).bootstrap_servers, False
        else:
            stack.callback(real.stop)
            yield real.bootstrap_servers, True


@contextmanager
def bus(folder: Path) -> Iterator[Bus]:
    ca = folder / "ca.pem"
    command = [sys.executable, "-m", "tests.bench.bus_process", str(ca)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Bus(json.loads(process.stdout.readline()), ca)
        finally:
            process.send_signal(signal.SIGTERM)


def write_documents(folder: Path) -> None:
    for number in range(CUSTOMERS):
        write_document(folder, number)


def write_document(folder: Path, number: int, account: int = 123456789012, region: str = "us-east-1") -> None:
    """The document of one customer, with a bus and a role of its own."""
    document = {
        "id": f"dst_{number}",
        "vendor": "acme",
        "customerExternalId": f"acct_{number}",
        "type": "EVENTBRIDGE",
        "busArn": f"arn:aws:events:{region}:{account}:event-bus/bus-{number}",
        "region": region,
        "auth": {
            "mode": "ASSUME_ROLE",
            "roleArn": f"arn:aws:iam::{account}:role/Writer{number}",
            "externalId": f"ext-{number}",
        },
    }
    (folder / f"{number}.json").write_text(json.dumps(document))


def make_topics(
    bootstrap: str, *, real: bool, tiers: Sequence[float] = (10,), events: str | None = None
) -> dict[str, Any]:
    """Topics of their own; the settings' section that names them. ``tiers``: the retry topics' delays in seconds.

    ``events``: the events topic, if it exists already.
    """
    tag = uuid.uuid4().hex[:8]
    section: dict[str, Any] = {name: f"{tag}.{name}" for name in TopicsSettings.model_fields}
    section["retry"] = {f"{tag}.retry.{secs:g}s": secs for secs in tiers}
    if events is not None:
        section["events"] = events
    if real:
        plans = plan_topics(Settings.model_validate({"topics": section}), PARTITIONS)
        create_topics(KafkaSettings(bootstrap_servers=bootstrap), plans, 1, dry_run=False)
    return section


def write_settings(
    folder: Path,
    bootstrap: str,
    topics: dict[str, Any],
    target: Bus,
    port: int = 0,
    *,
    sections: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> Path:
    """``port``: of the worker's own pages; 0 for any. ``sections``: further settings, which win."""
    path = folder / f"{uuid.uuid4().hex[:8]}.yaml"
    settings: dict[str, Any] = {
        "vendor": "acme",
        "kafka": {"bootstrap_servers": bootstrap, "group_id": f"bench-{path.stem}"},
        "topics": topics,
        "registry": {"path": str(folder / "destinations")},
        "eventbridge": {"endpoint_url": target.url},
        "sts": {"endpoint_url": target.url},
        "http": {"port": port},
    }
    for name, section in sections.items():
        settings[name] = settings.get(name, {}) | dict(section)
    path.write_text(yaml.safe_dump(settings))
    return path


def event(number: int, produced_at_ms: int, customer: int | None = None) -> bytes:
    """``customer``: the event's; without one, each customer has its turn."""
    customer = number % CUSTOMERS if customer is None else customer
    return json.dumps(
        {
            "eventType": "order.completed",
            "occurredAt": "2026-05-26T14:21:08.493Z",
            "source": "billing-service",
            "customerExternalId": f"acct_{customer}",
            "idempotencyKey": f"order_{number}-completed",
            "correlationId": f"req_{number}",
            "payload": {"producedAtMs": produced_at_ms, "orderId": f"ord_{number}", "note": _PADDING},
            "metadata": {"tier": "pro", "region": "us-east-1"},
        }
    ).encode()


def produce(bootstrap: str, topic: str, events: int, per_second: float | None = None) -> None:
    """Write this number of events, at once or evenly spaced; the Kafka timestamp is the event's ``producedAtMs``."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 0 if per_second else 20}
    )
    started = time.monotonic()
    for number in range(events):
        if per_second is not None:
            time.sleep(max(0.0, started + number / per_second - time.monotonic()))
        now_ms = time.time_ns() // 1_000_000
        while True:
            try:
                producer.produce(topic, event(number, now_ms), f"acct_{number % CUSTOMERS}", timestamp=now_ms)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


def produce_for(bootstrap: str, topic: str, customers: Iterable[int], *, spread: bool = False) -> None:
    """Write one event for each of these customers, in this order.

    A customer's events are on one partition or, when they are ``spread``, on all of them.
    """
    producer = Producer({"bootstrap.servers": bootstrap, "compression.type": "zstd", "linger.ms": 20})
    for number, customer in enumerate(customers):
        now_ms = time.time_ns() // 1_000_000
        key = {"partition": number % PARTITIONS} if spread else {"key": f"acct_{customer}"}
        while True:
            try:
                producer.produce(topic, event(number, now_ms, customer), timestamp=now_ms, **key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0


@contextmanager
def worker(
    settings: Path,
    ca: Path,
    checkout: Path = ROOT,
    python: str = sys.executable,
    last_signal: signal.Signals = signal.SIGTERM,
    *,
    options: Sequence[str] = (),
) -> Iterator[psutil.Process]:
    """A worker process of a checkout. It ends with the block: SIGTERM lets it finish its calls, SIGKILL does not.

    ``options``: further ones of the command ``run``.
    """
    environment = environment_of(checkout) | {
        "AWS_CA_BUNDLE": str(ca),
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [python, "-m", "pushrail_stream", "run", "--config", str(settings), "--log-level", "warning", *options]
    with subprocess.Popen(command, env=environment, cwd=checkout) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.send_signal(last_signal)
            expected = 0 if last_signal == signal.SIGTERM else -last_signal
            assert process.wait(60) == expected, "the worker did not end well"

"""The sandbox command as a user runs it: a process, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import psutil
import pytest
from confluent_kafka import Producer

from pushrail_stream.sandbox.demo.customers import CUSTOMERS
from pushrail_stream.sandbox.demo.events import example_event
from pushrail_stream.settings.source import load_settings
from tests.support.patience import PATIENCE_SECS

SANDBOX = [sys.executable, "-m", "pushrail_stream", "sandbox"]
REPOSITORY = Path(__file__).parents[3]


@contextmanager
def started(*arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process group of its own, which is ended with the block."""
    process = subprocess.Popen(
        [*SANDBOX, *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        assert process.returncode is not None


def read_until(stream: IO[str], text: str) -> str:
    """The first line with this text."""
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"the output ended without {text!r}")


def run(command: str) -> None:
    """Run a command as it was printed."""
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE_SECS)  # noqa: S602


def by_place(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["destination"] or row["customer"]: row for row in report["rows"]}


def test_one_process_accounts_for_every_event() -> None:
    with started("--events", "200", "--json") as process:
        assert process.stderr is not None
        read_until(process.stderr, "joined its consumer group")
        assert psutil.Process(process.pid).children() == []
        out, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert report["ok"]
    assert report["problems"] == []
    assert report["records"] == 200
    assert report["not_decodable"] == 3
    rows = by_place(report)
    assert sum(row["produced"] for place, row in rows.items() if place != "dst_malmo_orders") == 200 - 3
    for row in rows.values():
        assert row["produced"] == row["delivered"] + sum(row["dead"].values()) + sum(row["skipped"].values())
        assert row["delivered"] == row["arrived"]
    for place in ("dst_acme_8K2zRq", "dst_malmo", "dst_osaka"):
        assert rows[place]["delivered"] == rows[place]["produced"] > 0
    assert rows["dst_juniper"]["dead"] == {"oversize": 1}
    assert set(rows["dst_malmo_orders"]["skipped"]) == {"filtered"}
    assert rows["dst_riga"]["skipped"] == {"disabled": rows["dst_riga"]["produced"]}
    assert rows["acct_nobody"]["skipped"] == {"no_destination": 2}
    rules = {rule: figures["matched"] for rule, figures in rows["dst_acme_8K2zRq"]["rules"].items()}
    assert rules["by tenant"] == rows["dst_acme_8K2zRq"]["arrived"]
    assert 0 < rules["by event type"] < rules["by tenant"]
    assert 0 < rules["by payload field"] < rules["by tenant"]
    for place in ("dst_pamir", "dst_quito"):
        assert rows[place]["delivered"] == 0
        assert set(rows[place]["dead"]) <= {"blocked", "suspended"}
        assert rows[place]["dead"]["blocked"] > 0
    ledger = report["ledger"]
    assert ledger["delivered"] == sum(row["delivered"] for row in rows.values())
    assert ledger["in_flight"] == 0
    assert sum(offsets["end"] for offsets in report["offsets"].values()) == 200
    assert all(offsets["committed"] == offsets["end"] for offsets in report["offsets"].values())
    assert 0 < report["latency_ms"]["p50"] <= report["latency_ms"]["p99"] < 60_000


def test_the_customer_gets_the_event_unchanged() -> None:
    with started("--events", "50", "--json") as process:
        out, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 0, err
    sample = json.loads(out)["sample"]
    assert sample["detail"] == json.loads(example_event())
    assert sample["source"] == "pushrail.acme"
    assert sample["detail-type"] == "order.completed"
    assert sample["resources"] == ["acct_8K2zRq", "order_38a91f-completed"]
    assert sample["account"] == CUSTOMERS[0].account
    assert sample["time"] == "2026-05-26T14:21:08Z"


def test_progress_goes_to_stderr() -> None:
    with started("--events", "50") as process:
        out, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 0, err
    assert "dst_acme_8K2zRq" in out
    assert "Everything adds up." in out
    assert "50 records produced and delivered" in err


def test_figures_that_do_not_add_up_fail() -> None:
    with started("--events", "1500", "--json") as process:
        assert process.stderr is not None
        announcement = read_until(process.stderr, "Kafka is")
        read_until(process.stderr, "joined its consumer group")
        producer = Producer({"bootstrap.servers": announcement.split()[-1]})
        stranger = json.loads(example_event()) | {"idempotencyKey": "from-nobody"}
        producer.produce("pushrail.events", json.dumps(stranger), stranger["customerExternalId"])
        assert producer.flush(PATIENCE_SECS) == 0
        out, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 1
    report = json.loads(out)
    assert not report["ok"]
    assert any(problem.startswith("dst_acme_8K2zRq: produced") for problem in report["problems"])
    assert "error: the figures do not add up" in err


@pytest.mark.parametrize("inherited", [signal.SIG_DFL, signal.SIG_IGN], ids=["terminal", "background"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_ends_with_code_130(number: signal.Signals, inherited: signal.Handlers) -> None:
    """Shells start a script's background jobs with SIGINT ignored."""
    with ExitStack() as stack:
        before = signal.signal(signal.SIGINT, inherited)
        try:
            process = stack.enter_context(started("--events", "3000"))
        finally:
            signal.signal(signal.SIGINT, before)
        assert process.stderr is not None
        read_until(process.stderr, "joined its consumer group")
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def test_keep_delivers_until_interrupted() -> None:
    with started("--events", "50", "--keep", "--json", "--log-level", "debug") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["ok"]
        addresses = json.loads(process.stdout.readline())["keep"]
        settings = load_settings(Path(addresses["config"]))
        assert settings.kafka.bootstrap_servers == addresses["kafka"]
        assert settings.eventbridge.endpoint_url == settings.sts.endpoint_url == addresses["aws"]
        assert set(addresses["environment"]) == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
        commands = addresses["commands"]
        run(commands["send an event"])
        read_until(process.stderr, '"destination": "dst_acme_8K2zRq"')
        run(commands["break the bus"])
        run(commands["send an event"])
        read_until(process.stderr, '"status": 503')
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=PATIENCE_SECS)
    assert process.returncode == 0
    assert not Path(addresses["config"]).exists()

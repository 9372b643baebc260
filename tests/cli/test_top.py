"""`top`: once for pipes and programs, and live in a terminal until a key ends it."""

from __future__ import annotations

import asyncio
import csv
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.cli.top import _screen
from pushrail_stream.kafka.client_properties import checked_kafka
from pushrail_stream.kafka.fleet import FleetTopics
from pushrail_stream.observe.worker_record import LOST_SECS, BacklogSummary
from pushrail_stream.operations.times import now_ms
from pushrail_stream.sandbox.broker import EmbeddedBroker
from pushrail_stream.settings.model import Settings
from tests.operations.test_top import seen, view, worker
from tests.support.commands import Shell
from tests.support.patience import PATIENCE_SECS
from tests.support.workers import make_topics, settings_for

pytestmark = pytest.mark.usefixtures("one_destination")
SUSPENDED = seen("dst_acme_8K2zRq", "suspended", waiting=3, oldest_secs=72.0, errors_per_second=1.5,
                 last_error="AccessDenied", calls=1, max_calls=1)  # fmt: skip
FINE = seen("dst_juniper", per_second=1234.56)


def prepare(broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of an installation on this broker, which every command of the test reads."""
    found = settings_for(broker.bootstrap_servers, "http://127.0.0.1:1")
    make_topics(found, broker)
    path = Path("pushrail.yaml").absolute()
    path.write_text(yaml.safe_dump(found.model_dump(mode="json")))
    monkeypatch.setenv("PUSHRAIL_CONFIG", str(path))
    return found


@pytest.fixture
def settings(embedded_broker: EmbeddedBroker, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return prepare(embedded_broker, monkeypatch)


def write(settings: Settings, name: str, *destinations: Any, age_secs: float = 0.0, **more: Any) -> None:
    """Write a worker's state as the worker would have at that age."""
    state = worker(name, *destinations, **{"group": settings.kafka.group_id} | more).state
    at = now_ms() - int(age_secs * 1000)
    value = json.dumps(json.loads(state.encode()) | {"at": at}).encode()

    async def run() -> None:
        async with FleetTopics(checked_kafka(settings), settings.topics, name) as topics:
            await topics.write_state(value)

    asyncio.run(run())


def test_workers_and_destinations_are_shown_once(shell: Shell, settings: Settings) -> None:
    write(settings, "host-a", FINE, SUSPENDED, lag={"events": 1200, "retries": 3}, totals={"waiting": 3, "calls": 1})
    write(settings, "host-b", reasons=["not joined yet"])
    write(settings, "host-c", age_secs=LOST_SECS + 100)
    code, out, err = shell("top")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert re.fullmatch(
        r"alive     2: pushrail-stream host-a \(\d+ s ago\), pushrail-stream host-b \(\d+ s ago\)", lines[0]
    )
    assert re.fullmatch(r"lost      1: pushrail-stream host-c \(2 min \d+ s ago\)", lines[1])
    assert lines[2] == "not ready pushrail-stream host-b: not joined yet"
    assert lines[3] == "lag       1,200 events, 3 retries"
    assert lines[4] == "now       1,234.6 delivered/s, 1.5 errors/s, 3 waiting, 1 calls in flight"
    assert re.fullmatch(r"data      at most \d+ s old", lines[5])
    assert [line.split() for line in lines[7:]] == [
        ["dst_acme_8K2zRq", "suspended", "0.0", "1.5", "3", "1", "min", "12", "s", "1", "1", "AccessDenied"],
        ["dst_juniper", "ok", "1234.6", "0.0", "0", "0", "8"],
    ]


def test_backlogs_have_a_line_and_a_column(shell: Shell, settings: Settings) -> None:
    behind = BacklogSummary("dst_juniper", 3, now_ms(), 1_000, 45_000, now_ms() - 7_500_000, 90.0, 500.0)
    write(settings, "host-a", FINE, backlogs=[behind], totals={"behind": 1, "backlogEvents": 46_000})
    code, out, _ = shell("top")
    lines = out.splitlines()
    assert code == 0
    assert lines[1] == "lag       0 events, 0 retries"
    assert lines[2] == "behind    1 destinations by at most 46,000 events, the oldest is 2 h 5 min old: backlog list"
    assert lines[-1].split() == ["dst_juniper", "ok", "1234.6", "0.0", "0", "46000", "0", "8"]


def test_json_implies_once(shell: Shell, settings: Settings) -> None:
    write(settings, "host-a", SUSPENDED)
    code, out, err = shell("top", "--json")
    (line,) = out.splitlines()
    found = json.loads(line)
    assert (code, err) == (0, "")
    assert [one["id"] for one in found["workers"]] == ["host-a"]
    assert found["destinations"][0]["lastError"] == "AccessDenied"


def test_csv_has_a_row_for_each_destination(shell: Shell, settings: Settings) -> None:
    write(settings, "host-a", FINE)
    code, out, err = shell("top", "--output", "csv")
    (row,) = csv.DictReader(out.splitlines())
    assert (code, row["destination"], row["per s"]) == (0, "dst_juniper", "1234.6")
    assert err.startswith("alive     1: pushrail-stream host-a")


def test_no_worker_is_said_with_the_way_to_start_one(shell: Shell, settings: Settings) -> None:
    code, out, err = shell("top", "--once")
    assert (code, err) == (0, "")
    assert out == "No worker is alive. This command starts one: pushrail-stream run\n"
    write(settings, "host-a", FINE, age_secs=3 * 3600)
    assert shell("top", "--once")[1].splitlines()[1] == "lost      1: pushrail-stream host-a (3 h 0 min ago)"


def test_what_is_not_shown_is_counted(shell: Shell, settings: Settings) -> None:
    for number in range(6):
        write(settings, f"host-{number}", totals={"active": 2})
    _, out, _ = shell("top")
    assert re.match(r"alive     6: pushrail-stream host-0 .*, pushrail-stream host-3 \(\d+ s ago\), and 2 more\n", out)
    assert "no destination" not in out
    assert out.endswith("Workers left 12 destinations out that need less attention.\n")


def test_an_idle_fleet_says_so(shell: Shell, settings: Settings) -> None:
    write(settings, "host-a")
    write(settings, "host-b", FINE, group="other")
    _, out, _ = shell("top", "--once")
    assert out.endswith(
        "The workers see no destination that needs attention since their start.\n"
        "The delivery log knows of earlier ones: pushrail-stream destinations list --state\n"
        "Workers of other groups on this Kafka, not shown: 1.\n"
    )


class Terminal:
    """A terminal with `top` in it."""

    def __init__(self, screen: int, process: subprocess.Popen[bytes]) -> None:
        self._screen = screen
        self.process = process
        self.shown = b""

    def until(self, text: bytes) -> None:
        """Read until the view has shown the text."""
        while text not in self.shown:
            self.shown += os.read(self._screen, 65_536)

    def press(self, keys: bytes) -> int:
        """Press keys, and wait for the end of the command; its exit code."""
        os.write(self._screen, keys)
        try:
            while chunk := os.read(self._screen, 65_536):
                self.shown += chunk
        except OSError:  # Linux: the other side has closed the terminal
            pass
        return self.process.wait(PATIENCE_SECS)

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it did before."""
        return bool(termios.tcgetattr(self._screen)[3] & termios.ECHO)


@contextmanager
def terminal(columns: int, lines: int = 24) -> Iterator[Terminal]:
    screen, inside = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environ = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pushrail_stream", "top"]
    with subprocess.Popen(
        command, stdin=inside, stdout=inside, stderr=inside, env=environ, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - its Ctrl-C comes from this terminal
    ) as process:  # fmt: skip
        os.close(inside)
        try:
            yield Terminal(screen, process)
        finally:
            process.kill()
            os.close(screen)


@pytest.mark.parametrize("columns", [80, 120])
def test_the_live_view_fits_and_q_ends_it(settings: Settings, columns: int) -> None:
    write(settings, "host-a", FINE, SUSPENDED, age_secs=1.0)
    with terminal(columns) as screen:
        screen.until(b"q ends the view")
        assert not screen.echoes
        assert screen.press(b"q") == 0
        assert screen.echoes, "the terminal is as it was before"
    text = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", screen.shown).decode()
    assert all(len(line) <= columns for line in text.split("\r\n"))
    assert "dst_acme_8K2zRq" in text
    assert ("max calls" in text) is (columns > 80)
    assert screen.shown.count(b"\x1b[?1049h") == screen.shown.count(b"\x1b[?1049l") == 1, "the screen is restored"
    assert screen.shown.rstrip().endswith(b"\x1b[?1049l")


def test_the_live_view_follows_new_states(settings: Settings) -> None:
    with terminal(80) as screen:
        screen.until(b"No worker is alive.")
        write(settings, "host-a", FINE)
        screen.until(b"dst_juniper")
        assert screen.press(b"q") == 0


def test_ctrl_c_ends_the_live_view_cleanly(settings: Settings) -> None:
    write(settings, "host-a", FINE)
    with terminal(80) as screen:
        screen.until(b"dst_juniper")
        assert screen.press(b"\x03") == 130
    assert b"Traceback" not in screen.shown
    assert screen.shown.rstrip().endswith(b"\x1b[?1049l")


def test_a_small_terminal_shows_the_most_in_need(settings: Settings) -> None:
    write(settings, "host-a", *(seen(f"dst_{number:02}") for number in range(40)), SUSPENDED)
    with terminal(80, lines=16) as screen:
        screen.until(b" more need less attention")
        assert screen.press(b"q") == 0
    assert b"dst_acme_8K2zRq" in screen.shown
    assert re.search(rb"\d+ more need less attention", screen.shown)
    assert b"dst_39" not in screen.shown


@pytest.mark.parametrize(("destinations", "cut"), [(8, False), (9, True), (10, True), (40, True)])
def test_the_view_is_as_high_as_the_terminal(monkeypatch: pytest.MonkeyPatch, destinations: int, *, cut: bool) -> None:
    monkeypatch.setenv("LINES", "16")
    lines = _screen(view(worker("host-a", *(seen(f"dst_{number:02}") for number in range(destinations)))))
    assert len(lines) <= 16
    assert lines[-1] == "q ends the view"
    assert any("more need less attention" in line for line in lines) == cut


def test_an_outage_of_kafka_is_not_taken_for_lost_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedBroker() as broker:
        prepare(broker, monkeypatch)
        with terminal(120) as screen:
            screen.until(b"No worker is alive.")
            broker.close()
            screen.until(b"no state has come since its last error: ")
            screen.shown = b""
            screen.until(b"no state has come since its last error: ")
            assert b"No worker is alive." not in screen.shown
            assert screen.press(b"q") == 0


def test_kafka_out_of_reach_is_an_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("PUSHRAIL_VENDOR", "acme")
    code, out, err = shell("top", "--once")
    assert (code, out) == (1, "")
    assert "127.0.0.1:1" in err

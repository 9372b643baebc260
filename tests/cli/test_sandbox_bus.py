"""``sandbox bus``: the fault-injecting bus as a program."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import pytest
from pydantic.alias_generators import to_camel

from pushrail_stream.sandbox.bus.faults import (
    CallError,
    Effect,
    EntryError,
    Latency,
    Match,
    Operation,
    ResetAfter,
    When,
    rules_from_json,
)
from tests.support.patience import PATIENCE_SECS

BUS = [sys.executable, "-m", "pushrail_stream", "sandbox", "bus"]
REPOSITORY = Path(__file__).parents[2]
PLAN = {"rules": [{"name": "busy", "effect": {"kind": "callError", "status": 503}}]}


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The bus, and the line that it announced."""
    with subprocess.Popen([*BUS, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def failing(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*BUS, *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_SECS, check=False
    )


def get(url: str, path: str) -> Any:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_SECS)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_bus_follows_its_plan_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    with running("--open", "--seed", "7", "--plan", str(plan)) as (process, announced):
        assert announced["caPath"] is None
        assert get(announced["url"], "/_bus/plan")["rules"][0]["name"] == "busy"
        process.send_signal(number)
        assert process.wait(PATIENCE_SECS) == 0


def test_tls_writes_its_authority_to_a_file(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    with running("--tls", "--ca", str(authority)) as (_, announced):
        assert announced["url"].startswith("https://127.0.0.1:")
        assert announced["caPath"] == str(authority)
        assert authority.read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_a_wrong_plan_is_refused_with_its_field(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"rules": [{"effect": {"kind": "callError", "status": 200}}]}')
    wrong = failing("--plan", str(plan))
    assert wrong.returncode == 2
    assert "plan.json: rules.0.effect.callError.status" in wrong.stderr
    missing = failing("--plan", str(tmp_path / "none.json"))
    assert missing.returncode == 2
    assert "none.json: cannot be read" in missing.stderr


def test_an_authority_without_tls_is_wrong_usage(tmp_path: Path) -> None:
    wrong = failing("--ca", str(tmp_path / "ca.pem"))
    assert wrong.returncode == 2
    assert "--ca is for --tls" in wrong.stderr


def test_a_taken_port_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = failing("--port", str(taken.getsockname()[1]))
    assert refused.returncode == 1
    assert "already in use" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_help_shows_every_fault_and_three_plans_that_work() -> None:
    done = subprocess.run([*BUS, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    plans = re.findall(r'^ *(\{"rules": \[\n.*?^ *\]\})$', done.stdout, re.MULTILINE | re.DOTALL)
    rules = [rules_from_json(json.loads(plan)) for plan in plans]
    assert [rule.effect for plan in rules for rule in plan] == [
        CallError(400, "ThrottlingException"), EntryError("InternalFailure"), ResetAfter(), Latency(0.5),
    ]  # fmt: skip
    assert [len(plan) for plan in rules] == [1, 1, 2]
    described = done.stdout[done.stdout.index("match   an absent field") : done.stdout.index("Control is HTTP")]
    kinds = {kind for union in (Effect, When) for kind in get_args(union)}
    names = {name for kind in (*kinds, Match) for name in kind.__dataclass_fields__} - {"kind"}
    words = set(re.findall(r"\w+", described))
    assert words >= {to_camel(name) for name in names} | set(get_args(Operation))
    assert words >= {kind.__dataclass_fields__["kind"].default for kind in kinds}


def test_without_its_library_only_tls_fails() -> None:
    program = "import sys; sys.modules['trustme'] = None; from pushrail_stream.cli import main; sys.exit(main())"
    refused = subprocess.run(
        [sys.executable, "-c", program, "sandbox", "bus", "--tls"],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE_SECS, check=False,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "error: --tls needs one more library: pip install 'pushrail-stream[sandbox]'" in refused.stderr

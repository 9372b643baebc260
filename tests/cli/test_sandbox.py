"""``sandbox bus``: the fault-injecting bus as a program."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

BUS = [sys.executable, "-m", "pushrail_stream", "sandbox", "bus"]
REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECS = 30.0
PLAN = {"rules": [{"name": "busy", "effect": {"kind": "callError", "status": 503}}]}


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """The bus and what it announced."""
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
def test_it_announces_itself_obeys_its_plan_and_ends_when_told(tmp_path: Path, number: signal.Signals) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN))
    with running("--open", "--seed", "7", "--plan", str(plan)) as (process, announced):
        assert announced["caPath"] is None
        assert get(announced["url"], "/_bus/plan")["rules"][0]["name"] == "busy"
        process.send_signal(number)
        assert process.wait(PATIENCE_SECS) == 0


def test_with_tls_it_writes_its_authority_where_asked(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    with running("--tls", "--ca", str(authority)) as (_, announced):
        assert announced["url"].startswith("https://127.0.0.1:")
        assert announced["caPath"] == str(authority)
        assert authority.read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_a_wrong_plan_is_refused_by_name(tmp_path: Path) -> None:
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


def test_a_taken_port_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = failing("--port", str(taken.getsockname()[1]))
    assert refused.returncode == 1
    assert "already in use" in refused.stderr
    assert "Traceback" not in refused.stderr

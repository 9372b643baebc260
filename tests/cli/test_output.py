"""Results and notes: closed pipes, full disks, and texts that could steer a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.support.commands import Shell, start
from tests.support.documents import customer, document, write

pytestmark = pytest.mark.usefixtures("one_destination")


def test_a_closed_pipe_is_no_error() -> None:
    write(Path("config/destinations"), **{f"d{n}": customer(f"c{n}") for n in range(2_000)})
    pipeline = f"'{sys.executable}' -m pushrail_stream destinations list --json | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = start(["bash", "-c", pipeline])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_closed_pipe_keeps_the_exit_code(options: str) -> None:
    write(Path("config/destinations"), **{f"d{n}": {"id": "dst_1"} for n in range(2_000)})
    command = f"'{sys.executable}' -m pushrail_stream destinations validate {options}"
    done = start(["bash", "-c", f"{command} | head -c 1; exit ${{PIPESTATUS[0]}}"])
    assert (done.returncode, done.stderr) == (2, "")


@pytest.mark.parametrize("options", ["", "--json"])
def test_a_full_disk_is_one_line_and_exit_1(options: str) -> None:
    done = start(["bash", "-c", f"'{sys.executable}' -m pushrail_stream destinations list {options} > /dev/full"])
    assert (done.returncode, done.stderr) == (1, "error: no space left on device\n")


def test_customer_names_cannot_steer_a_terminal(shell: Shell) -> None:
    write(Path("config/destinations"), acme=document(customerExternalId="a\x1b[2J\nb[red]\u202e"))
    _, out, _ = shell("destinations", "list")
    assert "a\\x1b[2J\\nb[red]\\u202e" in out
    _, out, _ = shell("destinations", "show", "dst_acme_8K2zRq")
    assert json.loads(out)["customerExternalId"] == "a\x1b[2J\nb[red]\u202e"
    assert all(line.isprintable() for line in out.splitlines())

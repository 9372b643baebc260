"""Results and notes: closed pipes, full disks, and texts that could steer a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pushrail_stream.cli.output import emit_with_lists, note_refused, printable, table
from pushrail_stream.core.signals import DocumentRefused
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


def test_a_table_for_programs_has_whole_lines(capsys: pytest.CaptureFixture[str]) -> None:
    table(("id", "on", "calls", "since"), [("dst_" + "x" * 300, True, 3, None), ("dst_b", False, 12, None)])
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "on", "calls", "since"]
    assert first.split() == ["dst_" + "x" * 300, "yes", "3"]
    assert second.split() == ["dst_b", "no", "12"]


def test_lists_are_written_piece_by_piece(capsys: pytest.CaptureFixture[str]) -> None:
    emit_with_lists({"at": "now", "count": 2}, {"missing": iter(["a", {"b": 1}]), "none": iter(())})
    [line] = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"at": "now", "count": 2, "missing": ["a", {"b": 1}], "none": []}


def test_at_most_ten_refusals_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    note_refused([DocumentRefused(f"{number}.json", "id", "is required") for number in range(12)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "refused: 0.json: id: is required"
    assert lines[10:] == ["refused: 2 documents more (`destinations validate`)"]


@pytest.mark.parametrize(("text", "shown"), [("Zoë", "Zoë"), ("a\x1b[31mb\n", "a\\x1b[31mb\\n"), ("\u202e", "\\u202e")])
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown

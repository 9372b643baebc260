"""Results and notes: closed pipes, full disks, and texts that could steer a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from pushrail_stream.cli.output import (
    Column,
    csv_table,
    emit_with_lists,
    json_rows,
    note_refused,
    printable,
    short_time,
    shortened,
    table,
)
from pushrail_stream.core.signals import DocumentRefused
from pushrail_stream.core.text import format_rfc3339, parse_rfc3339
from pushrail_stream.operations.backlogs import Backlog, Backlogs
from pushrail_stream.operations.destination_health import DestinationHealth
from pushrail_stream.operations.times import now_ms
from tests.support.commands import Shell, start
from tests.support.documents import EXAMPLE, customer, document, write

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


def test_a_pipe_gets_whole_lines_whatever_columns_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    table(("id", Column("why", "prose")), [("dst_b", "not authorized to perform this")])
    assert capsys.readouterr().out.splitlines()[1] == "dst_b  not authorized to perform this"


def test_text_goes_on_in_further_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    be_terminal(monkeypatch, 40)
    found, remedy = "no broker answered at a.very.long.name:9092", "check kafka.bootstrap_servers"
    table(("id", Column("found", "text"), Column("remedy", "text")), [("kafka", found, remedy), ("b", "", "日本 " * 6)])
    assert capsys.readouterr().out.splitlines() == [
        "id     found             remedy",
        "kafka  no broker         check",
        "       answered at       kafka.bootstrap_servers",
        "       a.very.long.name:9092",
        "b                        日本 日本 日本",
        "                         日本 日本 日本",
    ]


def be_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Let stdout be a terminal of this width, without colours."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)


_COLUMNS = (
    "id",
    Column("at", "time"),
    "empty",
    Column("bus", drop=2),
    Column("vendor", drop=1),
    Column("why", "prose"),
)
_ID = "dst_" + "x" * 36
_ROWS = [
    (_ID, 0, None, "arn:aws:events:eu-north-1:123456789012:event-bus/one", "acme", "not authorized to perform this"),
    ("dst_b", 0, None, "arn:aws:events:eu-north-1:123456789012:event-bus/two", "acme", "日本語" * 6),
]  # fmt: skip


@pytest.mark.parametrize(
    ("width", "names", "why"),
    [
        (220, ["id", "at", "empty", "bus", "vendor", "why"], "not authorized to perform this"),
        (160, ["id", "at", "bus", "vendor", "why"], "not authorized to perform this"),
        (155, ["id", "at", "bus", "why"], "not authorized to perform this"),
        (100, ["id", "at", "why"], "not authorized to perform this"),
        (80, ["id", "at", "why"], "not authorized to p…"),
        (40, ["id", "at", "why"], "not authorized…"),
    ],
)
def test_a_narrow_table_keeps_its_identifiers_whole(
    width: int, names: list[str], why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_terminal(monkeypatch, width)
    table(_COLUMNS, _ROWS)
    printed = capsys.readouterr()
    head, first, second = printed.out.splitlines()
    assert head.split() == names
    assert first.startswith(f"{_ID}  1970-01-01 00:00  ")
    assert first.endswith(f"  {why}")
    assert cell_len(second) <= max(width, 75)
    hidden = [name for name in ("bus", "vendor") if name not in names]
    assert printed.err == (f"too narrow for: {', '.join(hidden)} (--output wide shows them)\n" if hidden else "")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("words", [("list",), ("list", "--state"), ("put", "new", "--prune", "--dry-run")])
def test_tables_of_destinations_fit_a_terminal(
    words: tuple[str, ...], width: int, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [f"dst_acme_{'x' * 30}{number}" for number in range(2)]
    many = {
        one: document(
            id=one, customerExternalId=f"acct_{'x' * 40}{one[-1]}", eventTypes=[f"order.{n}" for n in range(9)],
            auth=EXAMPLE["auth"] | {"roleArn": f"arn:aws:iam::123456789012:role/r{one[-1]}", "externalId": one},
        )
        for one in ids
    }  # fmt: skip
    write(Path("config/destinations"), **many)
    write(Path("new"), **many)
    blocked = DestinationHealth("blocked", "AccessDeniedException", 0)
    monkeypatch.setattr(
        "pushrail_stream.operations.destination_health.read_health", lambda *_: dict.fromkeys(ids, blocked)
    )
    backlogs = Backlogs([Backlog(one, 0, 123, 45_678_901, 0, [0], 12.5, 3_600.0) for one in ids])
    monkeypatch.setattr("pushrail_stream.operations.destination_health.list_backlogs", lambda *_: backlogs)
    be_terminal(monkeypatch, width)
    code, out, _ = shell("destinations", *words)
    assert code == 0
    assert all(len(line) <= width for line in out.splitlines() if "behind since" not in line)
    assert all(one in out for one in ids)
    assert ("behind since 1970-01-01T00:00:00.000Z by at most 45679024 events" in out) == ("--state" in words)
    assert ("blocked" in out) == ("--state" in words)


def test_only_a_terminal_cuts_long_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "x" * 1_000_000
    assert shortened(line, 1_000) == line
    be_terminal(monkeypatch, 80)
    assert shortened(line, 1_000) == "x" * 1_000 + "... (999,000 characters more: --json)"
    assert shortened("x" * 1_000, 1_000) == "x" * 1_000


def test_a_wide_table_shows_everything_in_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_terminal(monkeypatch, 40)
    table(_COLUMNS, _ROWS, wide=True)
    head, first, _ = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "at", "empty", "bus", "vendor", "why"]
    assert first.split()[:2] == [_ID, "1970-01-01T00:00:00.000Z"]
    assert first.endswith("not authorized to perform this")


def test_times_are_short_in_tables_and_whole_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    now = now_ms()
    today = format_rfc3339(now)
    assert short_time(now) == today[11:19]
    assert (
        short_time(parse_rfc3339(f"{int(today[:4]) - 1}-03-04T05:06:07Z") or 0) == f"{int(today[:4]) - 1}-03-04 05:06"
    )
    earlier = now - 86_400_000 if today[5:10] != "01-01" else now + 86_400_000
    assert short_time(earlier) == f"{format_rfc3339(earlier)[5:10]} {format_rfc3339(earlier)[11:16]}"
    columns = (Column("at", "time"), "n")
    table(columns, [(today, 1), ("soon", 2)])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["at", today[11:19], "soon"]
    csv_table(columns, [(now, 1), (today, None)])
    assert capsys.readouterr().out.splitlines() == ["at,n", f"{today},1", f"{today},"]
    assert list(json_rows(columns, [(now, 1), (None, 2)])) == [{"at": today, "n": 1}, {"at": None, "n": 2}]


def test_csv_is_read_back_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    csv_table(("id", "name", "on"), [("a,b", 'say "hi"', True), ("c", "x\x1b[2J\ny", False)])
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [
        ["id", "name", "on"], ["a,b", 'say "hi"', "yes"], ["c", "x\\x1b[2J\\ny", "no"],
    ]  # fmt: skip


def test_rows_that_come_one_by_one_stand_in_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    be_terminal(monkeypatch, 60)
    printed: list[list[str]] = []

    def rows() -> Iterator[tuple[str, ...]]:
        for row in (
            ("delivered", "dst_longer", "1", ""),
            ("dead_lettered", "dst_b", "20", "no " * 30),
            ("skipped", "dst_c", "3", ""),
        ):
            yield row
            printed.append(capsys.readouterr().out.splitlines())

    table(
        (Column("status", "status"), "destination", Column("number", drop=1), Column("why", "prose")), rows(), live=True
    )
    assert printed == [
        ["status         destination  number  why", "delivered      dst_longer   1"],
        ["status         destination  why", "dead_lettered  dst_b        no no no no no no no no no no n…"],
        ["skipped        dst_c"],
    ]


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({}, "\x1b[1mstatus\x1b[0m\r\n\x1b[31mblocked AccessDenied\x1b[0m\r\nskipped\r\n"),
        ({"NO_COLOR": "1"}, "status\r\nblocked AccessDenied\r\nskipped\r\n"),
        ({"TERM": "dumb"}, "status\r\nblocked AccessDenied\r\nskipped\r\n"),
    ],
)
def test_a_status_has_its_colour_on_a_terminal(environ: dict[str, str], shown: str) -> None:
    script = (
        "from pushrail_stream.cli.output import Column, table\n"
        "table([Column('status', 'status')], [('blocked AccessDenied',), ('skipped',)])"
    )
    ours, its = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=its, check=False, env={**os.environ, "TERM": "xterm", **environ}
    )
    os.close(its)
    assert done.returncode == 0
    assert os.read(ours, 1000).decode() == shown
    os.close(ours)


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

"""The options that every command has."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest

from pushrail_stream.cli.options import Options, Output, parse_position
from pushrail_stream.cli.process import SIGNALS
from pushrail_stream.core.record import Origin
from pushrail_stream.errors import UsageError
from tests.support.builders import SECRET
from tests.support.commands import Shell

pytestmark = pytest.mark.usefixtures("one_destination")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nonsense"], "error: No such command 'nonsense'."),
        (["destinatons"], "error: No such command 'destinatons'. Did you mean 'destinations'?"),
        (["destinations", "lst"], "error: No such command 'lst'. Did you mean 'list'?"),
        (["ingest", "keys", "creat"], "error: No such command 'creat'. Did you mean 'create'?"),
        (["destinations", "list", "--ouput"], "error: No such option '--ouput'. Did you mean '--output'?"),
        (["--ouput", "json", "attempts"], "error: No such option '--ouput'. Did you mean '--output'?"),
        (
            ["--since", "1h", "attempts"],
            "error: No such option '--since' here. Options of a command stand after its name",
        ),
        (["destinations", "--state", "list"], "error: No such option '--state' here. Options of a command stand after"),
        (["check", "--since", "may"], "error: Invalid value for '--since': must be a time such as"),
        (
            ["check", "--since", "2099-01-01"],
            "error: Invalid value for '--since': 2099-01-01T00:00:00.000Z is yet to come",
        ),
        (["destinations", "show"], "error: Missing argument 'ID'."),
        (["completion"], "error: Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish"),
        (["destinations", "list", "--bogus"], "error: No such option '--bogus'."),
        (["destinations", "list", "--log-level", "loud"], "error: Invalid value for '--log-level'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(arguments: list[str], error: str, shell: Shell) -> None:
    code, out, err = shell(*arguments)
    assert (code, out) == (2, "")
    line, hint = err.splitlines()
    assert line.startswith(error)
    assert hint.startswith("see: pushrail-stream")
    assert hint.endswith("--help")


def test_each_wrong_setting_is_one_line(shell: Shell) -> None:
    Path("bad.yaml").write_text("delivery: {max_in_flight: 257}\nhttp: {prt: 1}\n", encoding="utf-8")
    code, out, err = shell("destinations", "list", "--config", "bad.yaml")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: bad.yaml: delivery.max_in_flight: must be at most 256 (is 257)",
        "error: bad.yaml: http.prt: unknown setting; did you mean port?",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("config", "show"),
        ("topics", "describe"),
        ("run",),
        ("run", "--workers", "2"),
        ("ingest",),
        ("dlq", "list"),
        ("replay", "offsets", "--to", "earliest"),
        ("destinations", "list"),
        ("check", "--since", "1h"),
        ("attempts",),
    ],
)
@pytest.mark.parametrize("value", [{"linger.msec": SECRET}, {"linger.ms": SECRET}])
def test_every_command_checks_kafka_properties(
    command: Sequence[str], value: dict[str, str], shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("config/ingest-keys.json").write_text('{"keys": []}', encoding="utf-8")
    Path("config/pushrail.yaml").write_text("registry: {topic: true}\nhttp: {port: 0}\n", encoding="utf-8")
    monkeypatch.setenv("PUSHRAIL_KAFKA__CLIENT", json.dumps(value))
    handlers = [signal.getsignal(number) for number in SIGNALS]
    code, _, error = shell(*command)
    assert (code, f"kafka.client.{next(iter(value))}: " in error) == (2, True)
    assert [signal.getsignal(number) for number in SIGNALS] == handlers, "Ctrl-C works as it did before"


def test_a_position_is_topic_partition_and_offset() -> None:
    assert parse_position("pushrail.events/3/17") == Origin("pushrail.events", 3, 17)
    for text in ("", "pushrail.events", "pushrail.events/3", "pushrail.events/3/-1", "pushrail.events/x/17"):
        with pytest.raises(UsageError, match=r"^POSITION: must be topic/partition/offset$"):
            parse_position(text)


def test_rows_are_a_table_or_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("dst_a", 3), ("dst_b", None)]
    Options().table(("id", "calls"), rows)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["id", "calls"],
        ["dst_a", "3"],
        ["dst_b"],
    ]
    Options(output="json").table(("id", "calls"), rows)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"id": "dst_a", "calls": 3}, {"id": "dst_b", "calls": None},
    ]  # fmt: skip


def test_output_chooses_the_form(shell: Shell) -> None:
    wide, plain = shell("destinations", "list", "--output", "wide"), shell("destinations", "list")
    assert wide == plain == shell("destinations", "list", "--output", "table")
    assert shell("destinations", "list", "--output", "json") == shell("destinations", "list", "--json")
    code, out, _ = shell("destinations", "list", "--output", "csv")
    assert (code, out.splitlines()[0]) == (0, "id,customer,vendor,bus,region,auth,enabled,format,filter")
    for words in (
        ["config", "show"],
        ["config", "schema"],
        ["destinations", "show", "dst_acme_8K2zRq"],
        ["dlq", "show"],
    ):
        assert shell(*words, "--output", "csv") == (2, "", "error: --output: csv: this command has no table\n")
    code, out, err = shell("destinations", "list", "--json", "--output", "csv")
    assert (code, out, err) == (2, "", "error: --output: cannot be json and csv at once\n")


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "other.yaml", "--json", "ingest", "keys", "list"],
        ["ingest", "--config", "other.yaml", "keys", "--output", "json", "list", "--log-level", "error"],
        ["ingest", "keys", "list", "--config=other.yaml", "--json"],
        ["--config", "absent.yaml", "ingest", "keys", "--json", "list", "--config", "other.yaml"],
    ],
)
def test_common_options_stand_anywhere(words: list[str], shell: Shell) -> None:
    key = {"id": "k4ab2cdefg", "vendor": "acme", "sha256": "0" * 64, "createdAt": "2026-05-26T14:21:08Z"}
    Path("keys.json").write_text(json.dumps({"keys": [key]}), encoding="utf-8")
    Path("other.yaml").write_text("ingest: {keys_file: keys.json}", encoding="utf-8")
    code, out, err = shell(*words)
    assert (code, err) == (0, "")
    assert json.loads(out)["id"] == "k4ab2cdefg"


def test_lines_below_a_table_are_no_part_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    for output in get_args(Output):
        Options(output=output).say(output)
    assert capsys.readouterr() == ("table\nwide\n", "csv\n")


def test_an_answer_is_lines_or_one_value(capsys: pytest.CaptureFixture[str]) -> None:
    Options().answer({"sealed": True}, "sealed", "and written")
    Options(output="json").answer({"sealed": True}, "sealed")
    assert capsys.readouterr().out.splitlines() == ["sealed", "and written", '{"sealed":true}']

"""The commands as a shell runs them: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pushrail_stream.cli.process import SIGNALS
from pushrail_stream.errors import OperatorError, UsageError
from tests.support.commands import Shell
from tests.support.documents import ACCESS_KEY, EXAMPLE, customer, document, write

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SOURCES = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with one destination, and no variable of the developer's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PUSHRAIL_CONFIG", raising=False)
    Path("config").mkdir()
    write(Path("config/destinations"), acme=EXAMPLE)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys, [SECRET])


def program(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The real thing, in a process of its own."""
    return start([sys.executable, "-m", "pushrail_stream", *arguments], **environ)


def start(command: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(SOURCES), **environ}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables)


# The whole program.


def test_help_names_every_group_and_teaches(shell: Shell) -> None:
    code, out, _ = shell("--help")
    assert code == 0
    assert "destinations" in out
    assert "Example: pushrail-stream " in out
    for group, command in (("destinations", "list"), ("destinations", "show"), ("destinations", "validate"),
                           ("config", "show")):  # fmt: skip
        code, out, _ = shell(group, command, "--help")
        assert code == 0
        assert "Example: " in out
        assert all(option in out for option in ("--config", "--json", "--log-level"))
        assert f"  {group} " in shell("--help")[1]


def test_help_imports_no_group() -> None:
    script = "import sys; from pushrail_stream.cli import execute; execute(['--help']); print(sorted(sys.modules))"
    done = start([sys.executable, "-c", script])
    assert done.returncode == 0
    assert not any(f"'{name}'" in done.stdout for name in ("pydantic", "rich", "yaml", "confluent_kafka", "botocore"))


def test_the_version_is_known(shell: Shell) -> None:
    code, out, _ = shell("--version")
    assert code == 0
    assert out.startswith("pushrail-stream ")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nonsense"], "error: No such command 'nonsense'."),
        (["destinations", "show"], "error: Missing argument 'ID'."),
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


@pytest.mark.parametrize("arguments", [[], ["destinations"], ["config"]])
def test_a_bare_group_shows_help_and_exits_2(arguments: list[str], shell: Shell) -> None:
    code, out, err = shell(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: pushrail-stream")


def test_each_wrong_setting_is_one_line(shell: Shell) -> None:
    Path("bad.yaml").write_text("delivery: {max_entries: 11}\nhttp: {prt: 1}\n", encoding="utf-8")
    code, out, err = shell("destinations", "list", "--config", "bad.yaml")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: bad.yaml: delivery.max_entries: must be at most 10 (is 11)",
        "error: bad.yaml: http.prt: unknown setting; did you mean port?",
    ]


def test_errors_have_the_documented_exit_codes() -> None:
    assert (OperatorError.exit_code, UsageError.exit_code) == (1, 2)


def test_a_process_exits_without_a_traceback() -> None:
    done = program("config", "show", PUSHRAIL_DELIVERY__MAX_ENTRIES="11")
    assert done.returncode == 2
    assert done.stderr == "error: PUSHRAIL_DELIVERY__MAX_ENTRIES: must be at most 10 (is 11)\n"


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


@pytest.mark.parametrize("interruption", ["KeyboardInterrupt", "click.Abort"])
def test_an_interruption_exits_130(interruption: str) -> None:
    script = textwrap.dedent(f"""
        import click, sys
        from pushrail_stream.cli import execute
        import pushrail_stream.cli.options as options
        def interrupted(*_): raise {interruption}
        options.read_settings = interrupted
        sys.exit(execute(["config", "show"]))
    """)
    done = start([sys.executable, "-c", script])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# destinations


def test_list_shows_every_destination(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", SECRET)
    write(
        Path("config/destinations"),
        key=customer("key", auth={**ACCESS_KEY, "secretAccessKey": "env:SET"}, enabled=False, eventTypes=...),
        unset=customer("unset", auth=ACCESS_KEY, eventTypes=["a.b", "c.*"]),
    )
    code, out, err = shell("destinations", "list")
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == ["id", "dst_acme_8K2zRq", "dst_key", "dst_unset"]
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["id", "customer", "vendor", "bus", "region", "auth", "enabled", "filter"]
    assert rows[1][1:] == ["acct_8K2zRq", "acme", "pushrail-events", "us-east-1", "role", "yes", "order.*"]
    assert rows[2][5:] == ["key", "no", "*"]
    assert rows[3][5:] == ["key,", "secret", "missing", "yes", "a.b,", "c.*"]
    assert "warning: config/destinations/unset.json: auth.secretAccessKey: environment variable ACME_SECRET" in err


def test_list_goes_on_after_refused_documents(shell: Shell) -> None:
    write(Path("config/destinations"), bad=document(region="eu-west-1", id="dst_bad"))
    code, out, err = shell("destinations", "list", "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [EXAMPLE]
    problem = "region: is eu-west-1, but the bus is in us-east-1 (busArn)"
    assert err == f"refused: config/destinations/bad.json: {problem}\n"


def test_a_missing_directory_exits_2(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_REGISTRY__PATH", "absent")
    for command in ("list", "validate"):
        code, out, err = shell("destinations", command)
        assert (code, out) == (2, "")
        assert (
            err == "error: absent: no directory of destination documents: no such file or directory (registry.path)\n"
        )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_show_masks_the_secret(options: list[str], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_SECRET", SECRET)
    write(Path("config/destinations"), acme=document(auth=ACCESS_KEY))
    code, out, _ = shell("destinations", "show", "dst_acme_8K2zRq", *options)
    assert code == 0
    assert json.loads(out) == document(auth={**ACCESS_KEY, "secretAccessKey": "***"})


def test_show_of_an_unknown_id_fails(shell: Shell) -> None:
    code, out, err = shell("destinations", "show", "dst_x")
    assert (code, out) == (1, "")
    assert err == "error: config/destinations: no destination dst_x; `destinations list` names them\n"


def test_customer_names_cannot_steer_a_terminal(shell: Shell) -> None:
    write(Path("config/destinations"), acme=document(customerExternalId="a\x1b[2J\nb[red]\u202e"))
    _, out, _ = shell("destinations", "list")
    assert "a\\x1b[2J\\nb[red]\\u202e" in out
    _, out, _ = shell("destinations", "show", "dst_acme_8K2zRq")
    assert json.loads(out)["customerExternalId"] == "a\x1b[2J\nb[red]\u202e"
    assert all(line.isprintable() for line in out.splitlines())


def test_validate_counts_valid_documents(shell: Shell) -> None:
    assert shell("destinations", "validate") == (0, "1 accepted, 0 refused\n", "")


def test_validate_names_the_file_and_the_field(shell: Shell) -> None:
    write(Path("config/destinations"), bad=document(id="dst_bad", busArn=SECRET, region=7), unset=customer(
        "unset", auth=ACCESS_KEY))  # fmt: skip
    code, out, err = shell("destinations", "validate")
    assert (code, err) == (2, "")
    assert out.splitlines() == [
        (
            "refused: config/destinations/bad.json: busArn: must be the full ARN of a bus: "
            "arn:aws:events:REGION:ACCOUNT:event-bus/NAME"
        ),
        "refused: config/destinations/bad.json: region: must be text",
        (
            "warning: config/destinations/unset.json: auth.secretAccessKey: environment variable ACME_SECRET is not "
            "set: nothing is sent"
        ),
        "2 accepted, 1 refused",
    ]


@pytest.mark.parametrize(
    "auth",
    [
        {**ACCESS_KEY, "secretAccessKey": SECRET},
        {**ACCESS_KEY, "secretAccessKey": f"env:{SECRET}"},
        {**ACCESS_KEY, "accessKeyId": SECRET},
        {**ACCESS_KEY, "secret": SECRET},
    ],
)
def test_validate_never_shows_a_plain_secret(auth: dict[str, Any], shell: Shell) -> None:
    write(Path("config/destinations"), acme=document(auth=auth))
    for options in ([], ["--json"]):
        assert shell("destinations", "validate", *options)[0] == 2


def test_validate_takes_files_and_directories(shell: Shell) -> None:
    write(Path("more"), a=customer("a"), b=customer("b"), c=b"{")
    assert shell("destinations", "validate", "more/a.json")[:2] == (0, "1 accepted, 0 refused\n")
    assert shell("destinations", "validate", "more/a.json", "config/destinations")[1] == "2 accepted, 0 refused\n"
    assert shell("destinations", "validate", "more")[0] == 2
    code, out, _ = shell("destinations", "validate", "absent.json")
    assert (code, out.splitlines()[0]) == (2, "refused: absent.json: cannot be read: no such file or directory")


def test_validate_for_machines_is_one_object(shell: Shell) -> None:
    write(Path("config/destinations"), bad=document(id="dst_bad", region=7))
    code, out, _ = shell("destinations", "validate", "--json")
    assert code == 2
    assert json.loads(out) == {
        "accepted": 1,
        "refused": 1,
        "refusals": [{"file": "config/destinations/bad.json", "field": "region", "problem": "must be text"}],
        "warnings": [],
    }


# config


def test_config_show_names_origins_in_yaml(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config/pushrail.yaml").write_text("vendor: acme\nkafka: {group_id: ours}\n", encoding="utf-8")
    monkeypatch.setenv("PUSHRAIL_DELIVERY__FLUSH_MS", "50")
    code, out, _ = shell("config", "show")
    assert code == 0
    shown = yaml.safe_load(out)
    assert (shown["vendor"], shown["kafka"]["group_id"], shown["delivery"]["flush_ms"]) == ("acme", "ours", 50)
    origins = {line.split(":")[0].strip(): line.partition("  # ")[2] for line in out.splitlines()}
    assert origins["vendor"] == "config/pushrail.yaml"
    assert origins["flush_ms"] == "PUSHRAIL_DELIVERY__FLUSH_MS"
    assert origins["max_entries"] == "default"
    assert origins["kafka"] == ""


def test_config_show_reads_back_as_settings(shell: Shell) -> None:
    Path("config/pushrail.yaml").write_text("vendor: acme\nkafka: {client: {debug: all}}\n", encoding="utf-8")
    _, out, _ = shell("config", "show")
    Path("again.yaml").write_text(out, encoding="utf-8")
    assert shell("config", "show", "--json", "--config", "again.yaml") == shell("config", "show", "--json")


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


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_config_show_masks_secrets(options: list[str], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_KAFKA__CLIENT", json.dumps({"sasl.password": SECRET, "ssl.key.pem": SECRET}))
    code, out, _ = shell("config", "show", *options)
    assert code == 0
    assert yaml.safe_load(out)["kafka"]["client"] == {"sasl.password": "***", "ssl.key.pem": "***"}

"""The commands as a shell runs them: stdout, stderr and the exit code."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
import pytest

from pushrail_stream.cli import execute, root
from pushrail_stream.errors import OperatorError, UsageError
from tests.support.builders import SECRET
from tests.support.commands import Shell, program, start
from tests.support.documents import ACCESS_KEY, SHOWN, customer, document, write

pytestmark = pytest.mark.usefixtures("one_destination")


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


def imported_by(*words: str, **environ: str) -> set[str]:
    """The modules that a process has imported when the command has ended."""
    script = "import sys; from pushrail_stream.cli import execute; execute(sys.argv[1:]); print(); print(*sys.modules)"
    done = start([sys.executable, "-c", script, *words], **environ)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


LARGE = {"aiohttp", "asyncio", "botocore", "confluent_kafka", "cryptography", "pydantic", "rich", "uvloop", "yaml"}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--output", "json", "--help"]])
def test_help_imports_no_group(words: list[str]) -> None:
    assert not imported_by(*words) & LARGE


@pytest.mark.parametrize("command", root.list_commands(click.Context(root)))
def test_the_help_of_a_command_imports_no_large_library(command: str) -> None:
    modules = imported_by(command, "--help")
    assert f"pushrail_stream.cli.{command}" in modules
    assert not modules & LARGE


def test_the_end_of_a_command_leaves_the_collector_nothing_to_look_through() -> None:
    left = "atexit.register(lambda: print(gc.get_freeze_count() > 10_000))"
    script = f"import atexit, gc; from pushrail_stream.cli import main; {left}; main()"
    done = start([sys.executable, "-c", script, "config", "show"])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "True")


def test_the_completion_of_options_imports_no_large_library() -> None:
    script = (
        "import atexit, sys; from pushrail_stream.cli import main; atexit.register(lambda: print(*sys.modules)); main()"
    )
    done = start(
        [sys.executable, "-c", script],
        _PUSHRAIL_STREAM_COMPLETE="bash_complete",
        COMP_WORDS="pushrail-stream dlq list --",
        COMP_CWORD="3",
    )
    *options, modules = done.stdout.splitlines()
    assert "plain,--reason" in options
    assert not set(modules.split()) & LARGE


@pytest.mark.parametrize(
    "words",
    [
        ["config", "show"],
        ["destinations", "list"],
        ["destinations", "show", "dst_acme_8K2zRq"],
        ["keys", "list"],
        ["destinations", "list", "--help"],
    ],
)
def test_commands_without_kafka_and_aws_import_neither(words: list[str]) -> None:
    Path("config/pushrail.yaml").write_text("secrets: {keyring: ring.json}", encoding="utf-8")
    assert execute(["keys", "generate", "--id", "k"]) == 0
    modules = imported_by(*words)
    assert not modules & {"confluent_kafka", "botocore", "aiobotocore", "aiohttp", "cryptography", "pydantic_settings"}
    assert not modules & {"pushrail_stream.core.delivery", "pushrail_stream.ports.pipeline"}  # the parts of a worker
    assert words != ["config", "show"] or "asyncio" not in modules


def test_the_version_is_known(shell: Shell) -> None:
    code, out, _ = shell("--version")
    assert code == 0
    assert out.startswith("pushrail-stream ")


@pytest.mark.parametrize("arguments", [[], ["destinations"], ["config"]])
def test_a_bare_group_shows_help_and_exits_2(arguments: list[str], shell: Shell) -> None:
    code, out, err = shell(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: pushrail-stream")


def test_errors_have_the_documented_exit_codes() -> None:
    assert (OperatorError.exit_code, UsageError.exit_code) == (1, 2)


def test_a_process_exits_without_a_traceback() -> None:
    done = program("config", "show", PUSHRAIL_DELIVERY__MAX_IN_FLIGHT="257")
    assert done.returncode == 2
    assert done.stderr == "error: PUSHRAIL_DELIVERY__MAX_IN_FLIGHT: must be at most 256 (is 257)\n"


@pytest.mark.parametrize("interruption", ["KeyboardInterrupt", "click.Abort"])
def test_an_interruption_exits_130(interruption: str) -> None:
    script = textwrap.dedent(f"""
        import click, sys
        from pushrail_stream.cli import execute
        import pushrail_stream.settings.source as source
        def interrupted(*_): raise {interruption}
        source.read_settings = interrupted
        sys.exit(execute(["config", "show"]))
    """)
    done = start([sys.executable, "-c", script])
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# destinations


def test_list_shows_every_destination(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", SECRET)
    write(
        Path("config/destinations"),
        key=customer(
            "key",
            auth={**ACCESS_KEY, "secretAccessKey": "env:SET"},
            enabled=False,
            eventTypes=...,
            detailFormat="cloudevents",
        ),
        unset=customer("unset", auth=ACCESS_KEY, eventTypes=["a.b", "c.*"]),
    )
    code, out, err = shell("destinations", "list")
    assert code == 0
    assert [line.split("  ")[0] for line in out.splitlines()] == ["id", "dst_acme_8K2zRq", "dst_key", "dst_unset"]
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["id", "customer", "vendor", "bus", "region", "auth", "enabled", "format", "filter"]
    assert rows[1][1:] == ["acct_8K2zRq", "acme", "pushrail-events", "us-east-1", "role", "yes", "canonical", "order.*"]
    assert rows[2][5:] == ["key", "no", "cloudevents", "*"]
    assert rows[3][5:] == ["key,", "secret", "missing", "yes", "canonical", "a.b,", "c.*"]
    assert "warning: config/destinations/unset.json: auth.secretAccessKey: environment variable ACME_SECRET" in err


def test_an_error_cannot_steer_a_terminal(shell: Shell) -> None:
    code, _, err = shell("destinations", "show", "\x1b[2Jdst\x07")
    assert code == 1
    assert r"no destination \x1b[2Jdst\x07;" in err


def test_list_goes_on_after_refused_documents(shell: Shell) -> None:
    write(Path("config/destinations"), bad=document(region="eu-west-1", id="dst_bad"))
    code, out, err = shell("destinations", "list", "--json")
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [SHOWN]
    problem = "region: is eu-west-1, but the bus is in us-east-1 (busArn)"
    assert err == f"refused: config/destinations/bad.json: {problem}\n"


def test_a_missing_directory_exits_2(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHRAIL_REGISTRY__PATH", "absent")
    for command in ("list", "validate"):
        code, out, err = shell("destinations", command)
        assert (code, out) == (2, "")
        assert err == (
            "error: absent: no directory of destination documents: no such file or directory; correct registry.path, "
            "or make it with `pushrail-stream config init` or `pushrail-stream destinations onboard`\n"
        )


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_show_masks_the_secret(options: list[str], shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_SECRET", SECRET)
    write(Path("config/destinations"), acme=document(auth=ACCESS_KEY))
    code, out, _ = shell("destinations", "show", "dst_acme_8K2zRq", *options)
    assert code == 0
    assert json.loads(out) == SHOWN | {"auth": {**ACCESS_KEY, "secretAccessKey": "***"}}


def test_show_of_an_unknown_id_fails(shell: Shell) -> None:
    code, out, err = shell("destinations", "show", "dst_x")
    assert (code, out) == (1, "")
    assert err == "error: config/destinations: no destination dst_x; `destinations list` names them\n"


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

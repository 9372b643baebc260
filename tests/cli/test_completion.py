"""Completion as a shell asks for it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.commands import Shell, start
from tests.support.documents import customer, write

pytestmark = pytest.mark.usefixtures("one_destination")


def complete(line: str, **environ: str) -> list[str]:
    """The proposals for the last word of a line. A shell shows stderr in the prompt, so it has to be empty."""
    words = line.split(" ")
    done = start(
        [sys.executable, "-c", "from pushrail_stream.cli import main; main()"],
        _PUSHRAIL_STREAM_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1), **environ,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return [proposal.partition(",")[2] for proposal in done.stdout.split()]


def test_commands_and_options_are_completed() -> None:
    assert complete("pushrail-stream dest") == ["destinations"]
    assert complete("pushrail-stream destinations sh") == ["show"]
    assert complete("pushrail-stream --json attempts --sta") == ["--status"]
    assert complete("pushrail-stream attempts --status d") == ["delivered", "dead_lettered"]


def test_ids_come_from_the_folder() -> None:
    write(Path("config/destinations"), b=customer("b"), bad=b"{")
    assert complete("pushrail-stream destinations show dst_") == ["dst_acme_8K2zRq", "dst_b"]
    assert complete("pushrail-stream destinations delete dst_b") == ["dst_b"]
    assert complete("pushrail-stream attempts --destination dst_a") == ["dst_acme_8K2zRq"]
    Path("other.yaml").write_text("registry: {path: elsewhere}")
    write(Path("elsewhere"), c=customer("c"))
    assert complete("pushrail-stream --config other.yaml dlq list --destination ") == ["dst_c"]


@pytest.mark.parametrize(
    "settings",
    ["registry: {path: absent}", "nonsense: 1", "registry: {topic: true}\nkafka: {bootstrap_servers: '127.0.0.1:1'}"],
)
def test_a_registry_that_cannot_be_read_completes_nothing(settings: str) -> None:
    Path("config/pushrail.yaml").write_text(settings)
    assert complete("pushrail-stream destinations show ") == []


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(name: str, shell: Shell) -> None:
    code, script, err = shell("completion", name)
    assert (code, err) == (0, "")
    assert f"_PUSHRAIL_STREAM_COMPLETE={name}_complete" in script
    assert "pushrail-stream" in script


def test_the_help_keeps_its_lines(shell: Shell) -> None:
    _, text, _ = shell("completion", "--help")
    assert '\n  bash  eval "$(pushrail-stream completion bash)" in ~/.bashrc\n' in text


def test_bash_completes_by_the_script(tmp_path: Path, shell: Shell) -> None:
    _, script, _ = shell("completion", "bash")
    Path("script").write_text(script)
    program = tmp_path / "bin" / "pushrail-stream"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom pushrail_stream.cli import main\nmain()\n")
    program.chmod(0o755)
    asked = (
        "COMP_WORDS=(pushrail-stream destinations show dst_); COMP_CWORD=3; _pushrail_stream_completion pushrail-stream"
    )
    done = start(
        ["bash", "-c", f"source ./script; {asked}; echo ${{COMPREPLY[@]}}"],
        PATH=f"{program.parent}:{os.environ['PATH']}",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "dst_acme_8K2zRq\n", "")

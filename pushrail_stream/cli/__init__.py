"""The command line parses options, calls operations, and prints.

The room's rule: one file per group of commands, imported only when the group is used. A file imports operations,
settings and large libraries inside its functions, so that help and completion are quick. A command decides nothing.
Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted. An expected error is a line on stderr; a
traceback is a bug of ours.
"""

from __future__ import annotations

import errno
import gc
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, final

import click
from click.shell_completion import CompletionItem

from pushrail_stream.cli.completion import VARIABLE, complete, complete_ids
from pushrail_stream.cli.options import accept_common_options
from pushrail_stream.cli.output import note
from pushrail_stream.errors import OperatorError

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells count."""
TERMINATED: Final = 143
_STDERR: Final = 2
_ALIKE: Final = 0.75
"""Likeness (difflib's ratio) from which an option before a command counts as mistyped, and not as the command's own."""
_FIRST: Final = 1
"""Process id of a container's first process, which ignores SIGTERM until it has a handler, also while it imports."""

_COMMANDS: Final = {
    # By name: the line in `--help`. The command is the attribute of this name in the module of this name.
    "run": "Consume events and deliver them.",
    "ingest": "Accept events over HTTP, and manage the API keys.",
    "sandbox": "Try everything on this machine alone.",
    "doctor": "Check the whole installation: what is wrong, and what to do.",
    "top": "Watch the workers, and the destinations that need attention.",
    "topics": "Create and describe the Kafka topics.",
    "destinations": "List, check, test and change destinations.",
    "audit": "Show who changed what.",
    "plan": "Calculate partitions, workers, memory, quotas and the price.",
    "access": "Print the rights to give at Kafka and AWS.",
    "events": "Check producers' events, and print their schemas.",
    "notices": "Show changes of state: suspended, missing, growing, expiring.",
    "attempts": "Search the delivery log for an event.",
    "backlog": "Show destinations that have fallen behind.",
    "retry": "Show deliveries that wait, and begin them at once.",
    "dlq": "Show dead letters, and why they were given up.",
    "replay": "Deliver dead letters or past events again.",
    "check": "Check that every delivery of a period is accounted for.",
    "usage": "Count a month's deliveries by customer or destination.",
    "keys": "Manage the keys that seal customers' secrets.",
    "config": "Show the settings in force, and write their first file.",
    "completion": "Print the script that completes commands in a shell.",
}


@final
class _LazyGroup(click.Group):
    """Imports a command when it is used, so that ``--help`` costs nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the help."""
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None when there is none of this name."""
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        _prepare(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:  # fmt: skip
        """Suggest a command for a mistyped one, as click does for commands that are imported."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=_COMMANDS, ctx=ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing the commands."""
        found = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


def _prepare(command: click.Command) -> None:
    """Let a command and those below it complete ids, and let groups take the common options."""
    complete_ids(command)
    if isinstance(command, click.Group):
        if not any(parameter.name == "output" for parameter in command.params):
            accept_common_options(command)
        for below in command.commands.values():
            _prepare(below)


def _show_version(context: click.Context, option: click.Parameter, is_asked: bool) -> None:  # noqa: FBT001 - click's way
    del option
    if is_asked:
        from importlib import metadata

        try:
            version = metadata.version("pushrail-stream")
        except metadata.PackageNotFoundError:
            version = "(run from its sources, not installed)"
        click.echo(f"pushrail-stream {version}")
        context.exit()


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: pushrail-stream destinations validate",
)
@accept_common_options
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def root() -> None:
    """Deliver canonical events from Kafka to each customer's own Amazon EventBridge bus.

    Settings come from --config, else PUSHRAIL_CONFIG, else config/pushrail.yaml. --config, --output, --json and
    --log-level may stand anywhere.
    """


def main() -> None:
    """The console script: run one command and exit with its code."""
    _occupy_standard_descriptors()
    # Pydantic would read the metadata of every installed distribution, to look for plugins of its own.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if os.getpid() == _FIRST:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))
    instruction = os.environ.get(VARIABLE)
    code = complete(root, instruction) if instruction else execute(sys.argv[1:])
    gc.freeze()  # else Python looks through all objects once more at its end, which takes a sixth of a command's time
    sys.exit(code)


def _occupy_standard_descriptors() -> None:
    """Open /dev/null in the place of a standard stream that is closed: else a socket would get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)  # workers are processes of their own
    os.close(descriptor)


def execute(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A customer's name that the terminal's encoding lacks is shown escaped, as it is on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    code = DONE
    try:
        code = _invoke(list(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # the reader has seen enough
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _drop_output()
        click.echo(f"error: {os.strerror(error.errno).lower()}", err=True)
        return FAILED
    return code


def _drop_output() -> None:
    """Drop the output that Python would still flush at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _invoke(arguments: list[str]) -> int:
    try:
        with root.make_context("pushrail-stream", arguments) as context:
            root.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return WRONG_USAGE
    except click.ClickException as error:
        _report(error, _message(error))
        return error.exit_code
    except OperatorError as error:
        _report(error, str(error))
        return error.exit_code
    return DONE


def _message(error: click.ClickException) -> str:
    """The error's text. An option before a command's name may belong after it: a group does not know its options."""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and isinstance(error.ctx.command, click.Group):
        import difflib

        if not difflib.get_close_matches(error.option_name, error.possibilities or (), cutoff=_ALIKE):
            return f"No such option '{error.option_name}' here. Options of a command stand after its name"
    return error.format_message().replace("\n\t", " ")  # click lists choices in lines of their own


def _report(error: Exception, message: str) -> None:
    """Print a line for each problem, and where to read about the command's usage."""
    for line in message.splitlines():
        note(f"error: {line}")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(f"see: {error.ctx.command_path} --help", err=True)

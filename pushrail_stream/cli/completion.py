"""``pushrail-stream completion``: complete commands, options and destinations' ids in a shell.

The script in the shell runs the program again with a variable of click's (Click's documentation, "Shell Completion").
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete, shell_complete

from pushrail_stream.cli.options import CONFIG_KEY, Options, common_options
from pushrail_stream.errors import OperatorError

PROGRAM: Final = "pushrail-stream"
VARIABLE: Final = "_PUSHRAIL_STREAM_COMPLETE"
"""The variable that asks the program for completions; its value names the shell."""
_LIMIT_SECS: Final = 1.5
"""Longest time for reading destinations, in seconds: a person waits for the answer."""
_KILL_SECS: Final = 8.0
"""Longest run of the program, in seconds: a busy machine needs less to give up a read."""
_ID_PARAMETERS: Final = frozenset({"destination", "destination_id"})

_SHELLS: Final = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command(epilog='Example: eval "$(pushrail-stream completion bash)"')
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@common_options
def completion(options: Options, shell: str) -> None:
    """Print the script that completes commands, options and destinations' ids in SHELL.

    \b
    bash  eval "$(pushrail-stream completion bash)" in ~/.bashrc
    zsh   eval "$(pushrail-stream completion zsh)" in ~/.zshrc, after compinit
    fish  pushrail-stream completion fish > ~/.config/fish/completions/pushrail-stream.fish

    Ids come from the folder or topic of destinations, as the settings say. The list is empty when it cannot be read
    within 1.5 s.
    """  # noqa: D301 - click's own mark for lines that it must not fill
    del options
    click.echo(_SHELLS[shell](click.Command(PROGRAM), {}, PROGRAM, VARIABLE).source())


def complete(root: click.Command, instruction: str) -> int:
    """Answer the script's request; the exit code. Nothing is written to stderr, where it would spoil the prompt."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, _KILL_SECS)
    code = shell_complete(root, {}, PROGRAM, VARIABLE, instruction)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return code


class _DestinationId(click.types.StringParamType):
    """A destination's id, which the shell completes."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        del param
        from pushrail_stream.operations.destinations import destination_ids
        from pushrail_stream.settings.source import load_settings

        path: Path | None = ctx.meta.get(CONFIG_KEY)
        try:
            ids = destination_ids(load_settings(path), _LIMIT_SECS)
        except (OperatorError, TimeoutError):
            return []  # a prompt has no place for errors
        return [CompletionItem(one) for one in ids if one.startswith(incomplete)]


def complete_ids(command: click.Command) -> None:
    """Let the shell complete the command's parameters that are a destination's id."""
    for parameter in command.params:
        if parameter.name in _ID_PARAMETERS and parameter.type is click.STRING:
            parameter.type = _DestinationId()

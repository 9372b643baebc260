"""``pushrail-stream doctor``: the problems of an installation, and the remedy of each."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from typing import Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Column, printable, to_the_end
from pushrail_stream.errors import OperatorError
from pushrail_stream.operations.doctor import diagnose
from pushrail_stream.operations.findings import STATES, Finding

_COLUMNS: Final = (Column("state", "status"), "check", Column("found", "text"), Column("remedy", "text"))
_COLOURS: Final = {"problem": "red", "warning": "yellow", "ok": "green"}
_STATE_WIDTH: Final = 9
_INDENT: Final = 23
"""Columns of state and check, the longest of which is "destinations"."""
_LEAST_WIDTH: Final = 40
_PIPE_WIDTH: Final = 10_000
"""Columns where there is no terminal: a program reads whole lines."""


@click.command(epilog="Example: pushrail-stream doctor")
@common_options
def doctor(options: Options) -> None:
    """Check the whole installation: settings, Kafka, AWS, keys, documents and destinations. Problems come first.

    Each check stands for itself: one that hangs ends after half a minute, and the others are shown all the same. The
    command exits 1 when there is a problem. Warnings, and facts that cannot be found out, leave it at 0.

    With --json: one object for each finding, with state, check, found and remedy.
    """
    findings = diagnose(options.load)
    counts = Counter(finding.state for finding in findings)
    with to_the_end():
        if options.output == "table":
            for finding in findings:
                _show(finding)
            click.echo(", ".join(f"{state}: {counts[state]}" for state in STATES if counts[state]))
        else:
            options.table(_COLUMNS, ((one.state, one.check, one.found, one.remedy) for one in findings))
    if counts["problem"]:
        raise OperatorError("there are problems: each one above says what to do")


def _show(finding: Finding) -> None:
    """Print a finding in full, wrapped beside its state and check."""
    width = max(shutil.get_terminal_size((_PIPE_WIDTH, 0)).columns - _INDENT, _LEAST_WIDTH)
    lines = textwrap.wrap(printable(finding.found), width, break_long_words=False, break_on_hyphens=False)
    if finding.remedy:
        lines += textwrap.wrap(
            printable(f"to do: {finding.remedy}"), width, break_long_words=False, break_on_hyphens=False
        )
    state = click.style(f"{finding.state:<{_STATE_WIDTH}}", fg=_COLOURS.get(finding.state))
    head = f"{state}{finding.check:<{_INDENT - _STATE_WIDTH}}"
    click.echo(("\n" + " " * _INDENT).join([head + lines[0], *lines[1:]]))

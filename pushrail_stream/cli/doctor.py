"""``pushrail-stream doctor``: the problems of an installation, and the remedy of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import Column, to_the_end
from pushrail_stream.errors import OperatorError

if TYPE_CHECKING:
    from pushrail_stream.operations.findings import Finding

_COLUMNS: Final = (Column("state", "status"), "check", Column("found", "text"))


@click.command(epilog="Example: pushrail-stream doctor")
@common_options
def doctor(options: Options) -> None:
    """Check the whole installation: settings, Kafka, AWS, keys, documents and destinations. Problems come first.

    Each check stands for itself: one that hangs ends after half a minute, and the others are shown all the same. The
    command exits 1 when there is a problem. Warnings, and facts that cannot be found out, leave it at 0.

    With --json: one object for each finding, with state, check, found and remedy.
    """
    from pushrail_stream.operations.doctor import diagnose
    from pushrail_stream.operations.findings import STATES

    with options.progress() as progress:
        progress.begin("checks")
        findings = diagnose(options.load, progress.at)
    counts = Counter(finding.state for finding in findings)
    with to_the_end():
        if options.output == "table":
            options.table(_COLUMNS, (line for finding in findings for line in _lines(finding)))
            options.say(", ".join(f"{state}: {counts[state]}" for state in STATES if counts[state]))
        else:
            columns = (*_COLUMNS, Column("remedy", "text"))
            options.table(columns, ((one.state, one.check, one.found, one.remedy) for one in findings))
    if counts["problem"]:
        raise OperatorError("there are problems: each one above says what to do")


def _lines(finding: Finding) -> Iterator[tuple[str, str, str]]:
    yield finding.state, finding.check, finding.found
    if finding.remedy:
        yield "", "", f"to do: {finding.remedy}"

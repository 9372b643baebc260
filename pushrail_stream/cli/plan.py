"""``pushrail-stream plan``: a calculator for the size of an installation."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import click

from pushrail_stream.cli.options import FiniteRange, Options, common_options
from pushrail_stream.cli.output import Column, emit, note

_MOST: Final = 10**9
"""Largest value of an option, far above any installation: the products of larger ones are no finite numbers."""
_MORE: Final = FiniteRange(0, _MOST, min_open=True)
_COUNT: Final = click.IntRange(1, _MOST)
_PRICE: Final = FiniteRange(0, _MOST)


@click.command(epilog="Example: pushrail-stream plan --events 2000 --customers 5000 --size 1500 --fan-out 1.2")
@click.option("--events", type=_MORE, required=True, help="Events a second, on average.")
@click.option("--customers", type=_COUNT, required=True, help="Customers with a destination.")
@click.option("--size", type=_COUNT, default=1_000, show_default=True, help="Bytes of an average event.")
@click.option(
    "--fan-out", type=_MORE, default=1.0, show_default=True,
    help="Destinations that get an event, on average; less than 1 where filters leave events out.",
)  # fmt: skip
@click.option(
    "--peak", type=FiniteRange(1, _MOST), default=3.0, show_default=True,
    help="The highest rate of events, as a multiple of the average.",
)  # fmt: skip
@click.option(
    "--largest", type=FiniteRange(0, 100, min_open=True), default=10.0, show_default=True,
    help="Share of the largest customer in the events, in percent.",
)  # fmt: skip
@click.option(
    "--round-trip-ms", type=_MORE, default=50.0, show_default=True,
    help="Time of one call to the largest customer's bus, in milliseconds.",
)  # fmt: skip
@click.option("--region", default="us-east-1", show_default=True, help="Region of the largest customer's bus.")
@click.option("--replication", type=click.IntRange(1, 15), default=3, show_default=True, help="Copies of each topic.")
@click.option(
    "--million-usd", type=_PRICE, default=1.0, show_default=True, help="Price of a million units of 64 KB, in USD."
)
@click.option(
    "--vcpu-hour-usd", type=_PRICE, default=0.04048, show_default=True, help="Price of a core for an hour, in USD."
)
@click.option(
    "--gib-hour-usd", type=_PRICE, default=0.004445, show_default=True, help="Price of a GiB for an hour, in USD."
)
@common_options
def plan(options: Options, /, **given: Any) -> None:
    """Calculate the size of an installation: partitions, workers, memory, quotas of STS and PutEvents, and the price.

    Nothing is asked and nothing is changed. Each figure names its formula, and where its numbers come from: an option,
    a setting, a measurement of ours (`make bench` repeats it on your machine), or a page of AWS's documentation. The
    settings in force count: flush_ms, hold_secs, max_in_flight and the limits of a worker's memory.

    Quotas and prices of AWS change: compare them before you rely on them. Figures that break a limit are told on
    stderr.

    With --json: one object with load, figures (group, name, value, unit, source and warning) and warnings.
    """
    from pushrail_stream.operations.capacity import Load, plan_capacity
    from pushrail_stream.settings.values import REGION, check_options

    check_options(("--region", REGION, given["region"]))
    load = Load(**given)
    figures = plan_capacity(load, options.settings)
    warnings = [f"{one.group}: {one.name}: {one.warning}" for one in figures if one.warning]
    if options.json:
        shown = [figure._asdict() | {"value": round(figure.value, 3)} for figure in figures]
        given = {_camel(name): value for name, value in dataclasses.asdict(load).items()}
        emit({"load": given, "figures": shown, "warnings": warnings})
    else:
        options.table(
            ("group", "figure", "value", "unit", Column("source", "text")),
            ((one.group, one.name, _shown(one.value), one.unit, one.source) for one in figures),
        )
    for warning in warnings:
        note(f"warning: {warning}")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


def _shown(value: float) -> str:
    """Three figures that count, or the whole number."""
    if value >= 100 or value == int(value):  # noqa: PLR2004 - three digits before the point
        return f"{value:,.0f}"
    return f"{value:.3g}"

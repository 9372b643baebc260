"""What the commands about dead letters share: the filter's options, and reading them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from pushrail_stream.cli.progress import Bar
from pushrail_stream.cli.reading import read_topic
from pushrail_stream.cli.times import MOMENT, check_period
from pushrail_stream.core.fault import FAULTS
from pushrail_stream.core.record import Origin
from pushrail_stream.operations.dead_letters import REASONS, DeadLetterFilter, DeadLetterRecord, read_dead_letter
from pushrail_stream.settings import Settings

_OPTIONS: Final = (
    click.option("--destination", metavar="ID", help="Of this destination."),
    click.option("--customer", metavar="ID", help="Of this customer (customerExternalId)."),
    click.option("--vendor", help="Of this vendor."),
    click.option(
        "--reason",
        "reasons",
        type=click.Choice(REASONS),
        multiple=True,
        help='Only with this reason; may be repeated. "foreign": somebody else wrote or damaged the record.',
    ),
    click.option(
        "--fault",
        type=click.Choice(FAULTS),
        help="Only dead letters caused by the customer, by the record's producer, or by our settings.",
    ),
    click.option("--code", help="With this error code, AWS's or ours."),
    click.option("--event-type", help="Of exactly this event type."),
    click.option(
        "--since", "since_ms", type=MOMENT, metavar="TIME", help="Failed then or later: RFC 3339, or 2h, 7d ago."
    ),
    click.option("--until", "until_ms", type=MOMENT, metavar="TIME", help="Failed before then."),
    click.option("--origin", metavar="POSITION", help="Of the event at topic/partition/offset."),
    click.option("--replay", metavar="ID", help="That died in this replay."),
)


def dead_letter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the filter's options, as one argument ``wanted``."""

    @functools.wraps(command)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        names = [*DeadLetterFilter.__slots__]
        values = {name: kwargs.pop(name) for name in names}
        check_period(values["since_ms"], values["until_ms"])
        command(*args, wanted=DeadLetterFilter(**values | {"reasons": frozenset(values["reasons"])}), **kwargs)

    for option in reversed(_OPTIONS):
        wrapper = option(wrapper)
    return wrapper


def read_dead_letters(settings: Settings, wanted: DeadLetterFilter, bar: Bar) -> Iterator[DeadLetterRecord]:
    """The DLQ's letters that match, oldest first in each partition."""
    for letter in all_dead_letters(settings, wanted, bar):
        if wanted.matches(letter):
            yield letter


def dead_letter_at(settings: Settings, position: Origin, bar: Bar) -> DeadLetterRecord | None:
    """The letter at a position of the DLQ; None where there is none."""
    starts, only = {position.partition: position.offset}, [position.partition]
    for record in read_topic(settings, position.topic, bar, starts=starts, only=only):
        return read_dead_letter(record, settings.vendor) if record.offset == position.offset else None
    return None


def all_dead_letters(settings: Settings, wanted: DeadLetterFilter, bar: Bar) -> Iterator[DeadLetterRecord]:
    """The DLQ's letters from where those that match may begin. A letter is written after it has failed."""
    for record in read_topic(settings, settings.topics.dlq, bar, since_ms=wanted.since_ms):
        yield read_dead_letter(record, settings.vendor)

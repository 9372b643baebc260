"""``pushrail-stream topics``: make the topics, and see what is there."""

from __future__ import annotations

from collections.abc import Mapping

import click

from pushrail_stream.cli.errors import CommandError
from pushrail_stream.cli.options import Options, common_options
from pushrail_stream.cli.output import emit, table
from pushrail_stream.kafka.options import kafka_options
from pushrail_stream.kafka.topics import create_topics, describe_topics, plan_topics, topic_names


@click.group(epilog="Example: pushrail-stream topics create --partitions 24")
def topics() -> None:
    """The Kafka topics of an installation."""


@topics.command(epilog="Example: pushrail-stream topics create --partitions 24 --replication 3 --dry-run")
@click.option(
    "--partitions",
    type=click.IntRange(1, 10_000),
    default=12,
    show_default=True,
    help="Partitions of each topic but the compacted one: four times the largest number of workers is a good choice.",
)
@click.option("--replication", type=click.IntRange(1, 15), help="Copies of each. [default: 3, or one per broker]")
@click.option("--dry-run", is_flag=True, help="Ask Kafka whether it would, and change nothing.")
@common_options
def create(options: Options, partitions: int, replication: int | None, dry_run: bool) -> None:  # noqa: FBT001 - click's way
    """Create the topics that are missing, with sensible retention, sizes and min.insync.replicas.

    What exists is left as it is.
    """
    settings = options.settings
    plans = plan_topics(topic_names(settings), partitions)
    states = create_topics(kafka_options(settings), plans, replication, dry_run=dry_run)
    words = {"created": "would be created"} if dry_run else {}
    if options.json:
        for plan in plans:
            emit({"topic": plan.name, "state": states[plan.name], "dryRun": dry_run})
        return
    table(
        ("topic", "state", "partitions", "settings"),
        (
            (plan.name, words.get(states[plan.name], states[plan.name]), str(plan.partitions), _show(plan.config))
            for plan in plans
        ),
    )


@topics.command(epilog="Example: pushrail-stream topics describe")
@common_options
def describe(options: Options) -> None:
    """Show each topic: partitions, copies, settings of its own. Exits 1 when one is missing."""
    settings = options.settings
    names = [plan.name for plan in plan_topics(topic_names(settings), 1)]
    states = describe_topics(kafka_options(settings), names)
    if options.json:
        for name, state in states.items():
            emit({"topic": name, "exists": state is not None} | (state._asdict() if state else {}))
    else:
        rows = (
            (name, str(state.partitions), str(state.replication), _show(state.config))
            if state
            else (name, "missing", "", "")
            for name, state in states.items()
        )
        table(("topic", "partitions", "copies", "settings"), rows)
    missing = [name for name, state in states.items() if state is None]
    if missing:
        raise CommandError(f"missing: {', '.join(missing)}; `pushrail-stream topics create` makes them")


def _show(config: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(config.items()))

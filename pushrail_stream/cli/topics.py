"""``pushrail-stream topics``: create and describe the topics, and skip unreadable records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from pushrail_stream.cli.options import Options, audited, common_options, parse_position
from pushrail_stream.cli.output import Cell, Column, format_time, note, to_the_end
from pushrail_stream.errors import OperatorError

if TYPE_CHECKING:
    from pushrail_stream.kafka.topics import TopicState

_CONFIGURATION: Final = (Column("settings", "prose"), Column("differs", "text"))


@click.group(epilog="Example: pushrail-stream topics create --partitions 24")
def topics() -> None:
    """Create and describe the Kafka topics of an installation."""


@topics.command(epilog="Example: pushrail-stream topics create --partitions 24 --replication 3 --dry-run")
@click.option(
    "--partitions", type=click.IntRange(1, 10_000), default=12, show_default=True,
    help="Create each topic with this many partitions, the compacted ones excepted: four times the largest number of "
    "workers is a good choice.",
)  # fmt: skip
@click.option(
    "--replication", type=click.IntRange(1, 15),
    help="Keep this many copies of each topic. [default: 3, or one per broker]",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Ask Kafka whether it would create them, and change nothing.")
@common_options
@audited
def create(options: Options, partitions: int, replication: int | None, dry_run: bool) -> None:  # noqa: FBT001 - click's way
    """Create the topics that are missing, with sensible retention, sizes and min.insync.replicas.

    A topic that exists is left as it is. The last column and stderr show where its configuration differs from the
    required one. The command exits 1 when such a difference can lose data: `run` refuses to start then.
    """
    from pushrail_stream.kafka.reach import reached_kafka
    from pushrail_stream.kafka.topics import create_topics, describe_topics, plan_topics
    from pushrail_stream.operations.audit import note_content

    settings = options.settings
    kafka, plans = reached_kafka(settings), plan_topics(settings, partitions)
    outcomes = create_topics(kafka, plans, replication, dry_run=dry_run)
    for plan in plans:
        if outcomes[plan.name] == "created":
            note_content("topic", plan.name, None, json.dumps(plan.config, sort_keys=True).encode())
    states = describe_topics(kafka, [plan for plan in plans if outcomes[plan.name] == "exists"])
    with to_the_end():
        rows, values = [], []
        for plan in plans:
            state, outcome = states.get(plan.name), outcomes[plan.name]
            values.append({"topic": plan.name, "state": outcome, "dryRun": dry_run, **_as_json(state)})
            shown = "would be created" if dry_run and outcome == "created" else outcome
            there = state or plan
            rows.append((plan.name, shown, there.partitions, _show(there.config), _differences(state)))
        options.table(("topic", "state", "partitions", *_CONFIGURATION), rows, values)
    _report(states.values())


@topics.command(epilog="Example: pushrail-stream topics describe")
@common_options
def describe(options: Options) -> None:
    """Show each topic: partitions, copies, settings of its own, and where it differs from the required configuration.

    The command exits 1 when a topic is missing, or when a difference can lose data: `run` refuses to start then. It
    also exits 1 when a configuration cannot be read. Other differences are warnings, and the exit code stays 0.
    """
    from pushrail_stream.kafka.reach import reached_kafka
    from pushrail_stream.kafka.topics import describe_topics, plan_topics, unchecked_topics

    settings = options.settings
    states = describe_topics(reached_kafka(settings), plan_topics(settings))
    with to_the_end():
        rows: list[Sequence[Cell]] = []
        values = []
        for name, state in states.items():
            sizes = {"partitions": state.partitions, "replication": state.replication} if state else {}
            values.append({"topic": name, "exists": state is not None, **sizes, **_as_json(state)})
            rows.append(
                (name, *sizes.values(), _show(state.config), _differences(state))
                if state
                else (name, "missing", "", "", "")
            )
        options.table(("topic", "partitions", "copies", *_CONFIGURATION), rows, values)
    missing = [name for name, state in states.items() if state is None]
    if missing:
        raise OperatorError(f"missing: {', '.join(missing)}; `pushrail-stream topics create` makes them")
    _report(states.values())
    if unchecked := unchecked_topics(states.values()):
        raise OperatorError(*(f"could not be checked: {', '.join(names)}: {why}" for why, names in unchecked.items()))


def _report(states: Iterable[TopicState | None]) -> None:
    """Print the effect and the remedy of each difference. Raises `OperatorError` when one can lose data."""
    found = [deviation for state in states if state for deviation in state.deviations]
    for deviation in found:
        if not deviation.loses_data:
            note(f"warning: {deviation}")
    if losing := [str(deviation) for deviation in found if deviation.loses_data]:
        raise OperatorError("\n".join(losing))


def _differences(state: TopicState | None) -> str:
    if state is None:
        return ""
    if state.unchecked:
        return "not checked"
    return ", ".join(f"{d.setting}={d.actual} (has to be {d.required})" for d in state.deviations)


def _as_json(state: TopicState | None) -> dict[str, Any]:
    if state is None:
        return {}
    deviations = [
        {
            "setting": d.setting, "actual": d.actual, "required": d.required, "losesData": d.loses_data,
            "effect": d.effect, "remedy": d.remedy,
        }
        for d in state.deviations
    ]  # fmt: skip
    return {"config": state.config, "deviations": deviations, "unchecked": state.unchecked or None}


def _show(config: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(config.items()))


@topics.command(
    epilog='Example: pushrail-stream topics skip pushrail.events/3/1042 --reason "batch of 600 MB" --dry-run'
)
@click.argument("position")
@click.option("--reason", required=True, help="Show this reason in the dead letter.")
@click.option("--dry-run", is_flag=True, help="Show the offsets that would be skipped, and change nothing.")
@common_options
@audited
def skip(options: Options, *, position: str, reason: str, dry_run: bool) -> None:
    """Skip the batch at POSITION that no worker can read: topic/partition/offset, of the events or a retry topic.

    Kafka's client reads whole batches. A batch stops its partition when it cannot be decompressed, or decompresses to
    more than receive.message.max.bytes; `/readyz`, the log (`partition_unread`) and an alert name the partition. The
    command skips all records of that batch from POSITION on. None of them can be read or kept: have their producer send
    them again. A record that can be read is never skipped: it is delivered, or becomes a dead letter.

    The order and a dead letter (undecodable, code Skipped) are written together. Running workers carry out the order
    within about half a minute, others when they come to that batch.

    With --json: one object with topic, partition, first, end (excluded), reason, at, dryRun and repeated (whether it
    had been ordered before).
    """
    from pushrail_stream.operations.offsets import order_skip

    ordered, is_new = order_skip(options.settings, parse_position(position), reason, is_dry_run=dry_run)
    partition, first, end, reason, at_ms, _ = ordered
    when = f"were ordered to be stepped over at {format_time(at_ms)} ({reason})"
    if is_new:
        when = f"{'would be' if dry_run else 'will be'} stepped over"
    options.answer(
        {
            "topic": partition.topic, "partition": partition.number, "first": first, "end": end, "reason": reason,
            "at": format_time(at_ms), "dryRun": dry_run, "repeated": not is_new,
        },
        f"{partition}: offsets {first} to {end - 1}, up to {end - first} records that cannot be read: {when}",
    )  # fmt: skip
    if is_new and not dry_run and not options.json:
        note(f"a dead letter stands for them (`dlq show {partition}/{first}`); have their producer send them again")

"""The checks of a diagnosis that ask Kafka: the cluster, topics, rights and consumer groups."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.client_properties import retries_consumer
from pushrail_stream.kafka.cluster import describe_cluster, missing_rights, security_of, worker_rights
from pushrail_stream.kafka.groups import members_of, plan_shift
from pushrail_stream.kafka.topic_rules import Deviation
from pushrail_stream.kafka.topics import describe_topics, plan_topics
from pushrail_stream.operations.findings import Finding, Installation
from pushrail_stream.settings.model import KafkaSettings

_WATCHED_SECS: Final = 5.0
"""Seconds between two looks at a group that is behind. A worker commits every second."""


def check_cluster(installation: Installation) -> Iterator[Finding]:
    """Whether a broker answers, and how we speak to it. Raises `OperatorError` with librdkafka's reason."""
    kafka = installation.reached.result()
    found = describe_cluster(kafka)
    version = "" if found.fetch_version is None else f"; Fetch up to version {found.fetch_version}"
    cluster = f"cluster {found.id}; brokers: {found.brokers}{version}; librdkafka {found.client}"
    yield Finding("kafka", "ok", f"reached at {kafka.bootstrap_servers} by {security_of(kafka)}: {cluster}")


def check_topics(installation: Installation) -> Iterator[Finding]:
    """Whether all topics exist and have the configuration that they need."""
    states = describe_topics(installation.kafka(), plan_topics(installation.settings))
    missing = [name for name, state in states.items() if state is None]
    if missing:
        yield Finding("topics", "problem", f"missing: {', '.join(missing)}", "`pushrail-stream topics create`")
    known = [state for state in states.values() if state is not None]
    unchecked: dict[str, list[str]] = {}
    for state in known:
        yield from (_difference(one) for one in state.deviations)
        if state.unchecked:
            unchecked.setdefault(state.unchecked, []).append(state.name)
    for why, names in unchecked.items():
        yield Finding("topics", "unknown", f"configuration of {', '.join(names)} is not known: {why}")
    good = sum(not state.deviations and not state.unchecked for state in known)
    if good:
        yield Finding("topics", "ok", f"{good} of {len(states)} have the required configuration")


def _difference(one: Deviation) -> Finding:
    found = f"{one.topic}: {one.setting} is {one.actual}, and must be {one.required}. {one.effect}"
    return Finding("topics", "problem" if one.loses_data else "warning", found, one.remedy)


def check_rights(installation: Installation) -> Iterator[Finding]:
    """Whether the brokers allow what a worker does."""
    kafka = installation.kafka()
    groups = (kafka.group_id, retries_consumer(kafka).group_id)
    try:
        missing = missing_rights(kafka, worker_rights(installation.settings), groups)
    except OperatorError as error:
        yield Finding("rights", "unknown", f"not known: {error}")
        return
    if missing:
        remedy = "add the ACLs of deploy/README.md for the user of kafka.client"
        yield Finding("rights", "problem", f"a worker lacks {', '.join(missing)}", remedy)
    else:
        yield Finding("rights", "ok", "the brokers allow what a worker does")


def check_groups(installation: Installation) -> Iterator[Finding]:
    """Whether workers read the events, and whether the group goes on."""
    kafka, topic = installation.kafka(), installation.settings.topics.events
    behind = _lag(kafka, topic)
    lag = sum(behind.values())
    try:
        members = len(members_of(kafka, kafka.group_id))
    except OperatorError as error:
        yield Finding("group", "unknown", f"members of {kafka.group_id} are not known: {error}")
    else:
        if members:
            yield Finding("group", "ok", f"members of {kafka.group_id}: {members}")
        else:
            yield Finding(
                "group",
                "problem" if lag else "warning",
                f"{kafka.group_id} has no members: no worker runs",
                "`pushrail-stream run`",
            )
            return
    if not lag:
        yield Finding("group", "ok", "no events wait")
        return
    time.sleep(_WATCHED_SECS)
    yield judge_progress(behind, _lag(kafka, topic))


def judge_progress(before: dict[int, int], now: dict[int, int]) -> Finding:
    """The finding by two looks at the events that wait, by partition."""
    lag = f"{sum(now.values())} events wait"
    stuck = sorted(number for number, count in before.items() if now.get(number, 0) >= count)
    if not stuck:
        return Finding("group", "ok", f"{lag}, and fewer than {_WATCHED_SECS:.0f} s before")
    partitions = ", ".join(map(str, stuck))
    return Finding(
        "group",
        "warning",
        f"{lag}; within {_WATCHED_SECS:.0f} s not fewer in partitions {partitions}",
        "start more workers, or look at /readyz of the workers: it names what holds a partition back",
    )


def _lag(kafka: KafkaSettings, topic: str) -> dict[int, int]:
    """Records above the group's commits, by partition; partitions without any are left out."""
    shifts = plan_shift(kafka, kafka.group_id, topic, "latest")
    return {shift.partition: -shift.again for shift in shifts if shift.again < 0}

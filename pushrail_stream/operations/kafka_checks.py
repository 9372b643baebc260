"""The checks of a diagnosis that ask Kafka: the cluster, topics, rights and consumer groups."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from pushrail_stream.core.text import format_age, format_span
from pushrail_stream.errors import OperatorError
from pushrail_stream.kafka.access import worker_rights
from pushrail_stream.kafka.client_properties import retries_consumer
from pushrail_stream.kafka.cluster import describe_cluster, missing_rights, security_of
from pushrail_stream.kafka.groups import Shift, members_of, open_cursors, plan_shift
from pushrail_stream.kafka.topic_rules import Deviation
from pushrail_stream.kafka.topics import EMBEDDED, unchecked_topics
from pushrail_stream.operations.backlogs import sum_up
from pushrail_stream.operations.findings import Finding, Installation, State
from pushrail_stream.operations.times import now_ms
from pushrail_stream.settings.model import KafkaSettings

_COMMIT_SECS: Final = 2.0
"""Seconds after which a record that left its partition is committed: a worker commits every second."""
_MAX_WATCH_SECS: Final = 15.0
"""Longest watch of a group, in seconds, also with a longer ``hold_secs``: a diagnosis ends within half a minute."""
_OLD_SHARE: Final = 0.5
"""Share of ``max_age_secs`` from which an event on a cursor is a warning: the other half is left to mend its bus."""
_NAMED: Final = 5
"""Destinations that a finding names; the others are counted."""
_LOOK_SECS: Final = 0.5
"""Seconds between two looks at the commits of a group: two of them per commit of a worker."""


def check_cluster(installation: Installation) -> Iterator[Finding]:
    """Whether a broker answers, and how we speak to it. Raises `OperatorError` with librdkafka's reason."""
    kafka = installation.reached.result()
    found = describe_cluster(kafka)
    version = "" if found.fetch_version is None else f"; Fetch up to version {found.fetch_version}"
    cluster = f"cluster {found.id}; brokers: {found.brokers}{version}; librdkafka {found.client}"
    yield Finding("kafka", "ok", f"reached at {kafka.bootstrap_servers} by {security_of(kafka)}: {cluster}")


def check_topics(installation: Installation) -> Iterator[Finding]:
    """Whether all topics exist and have the configuration that they need."""
    states = installation.described.result()
    missing = [name for name, state in states.items() if state is None]
    if missing:
        yield Finding("topics", "problem", f"missing: {', '.join(missing)}", "`pushrail-stream topics create`")
    known = [state for state in states.values() if state is not None]
    yield from (_difference(one) for state in known for one in state.deviations)
    for why, names in unchecked_topics(known).items():
        state: State = "ok" if why == EMBEDDED else "unknown"
        yield Finding("topics", state, f"configuration of {', '.join(names)} is not known: {why}")
    good = sum(not state.deviations and not state.unchecked for state in known)
    if good:
        yield Finding("topics", "ok", f"{good} of {len(states)} have the required configuration")


def _difference(one: Deviation) -> Finding:
    found = f"{one.topic}: {one.setting} is {one.actual}, and must be {one.required}. {one.effect}"
    return Finding("topics", "problem" if one.loses_data else "warning", found, one.remedy)


def check_rights(installation: Installation) -> Iterator[Finding]:
    """Whether the brokers allow what a worker does."""
    kafka = installation.kafka()
    try:
        missing = missing_rights(kafka, worker_rights(installation.settings), _groups(kafka))
    except OperatorError as error:
        yield Finding("rights", "unknown", f"not known: {error}")
        return
    if missing:
        remedy = "allow the user of kafka.client these operations, by ACLs"
        yield Finding("rights", "problem", f"a worker lacks {', '.join(missing)}", remedy)
    else:
        yield Finding("rights", "ok", "the brokers allow what a worker does on the topics that exist")


def check_groups(installation: Installation) -> Iterator[Finding]:
    """Whether workers read the events and the retries, and whether every partition with events goes on."""
    topic = installation.settings.topics.events
    kafka = installation.kafka_with(topic)
    waiting = _waiting(kafka, topic)
    members = [_members(kafka, group, is_needed=bool(waiting)) for group in _groups(kafka)]
    yield from members
    if not waiting:
        yield Finding("group", "ok", "no events wait above the commits (backlogs are below them)")
    elif members[0].state in {"ok", "unknown"}:
        yield _watch(kafka, topic, waiting, installation.settings.delivery.hold_secs)


def _groups(kafka: KafkaSettings) -> tuple[str, str]:
    return kafka.group_id, retries_consumer(kafka).group_id


def _members(kafka: KafkaSettings, group: str, *, is_needed: bool) -> Finding:
    try:
        members = members_of(kafka, group)
    except OperatorError as error:
        return Finding("group", "unknown", f"members of {group} are not known: {error}")
    if members:
        return Finding("group", "ok", f"members of {group}: {len(members)}")
    state: State = "problem" if is_needed else "warning"
    return Finding("group", state, f"{group} has no members: no worker runs", "start one: `pushrail-stream run`")


def _watch(kafka: KafkaSettings, topic: str, waiting: dict[int, Shift], hold_secs: float) -> Finding:
    """Whether the group commits in each partition with events. A worker that works does so within ``hold_secs``."""
    secs = min(hold_secs + _COMMIT_SECS, _MAX_WATCH_SECS)
    end = time.monotonic() + secs
    stuck, now = set(waiting), waiting
    while stuck and time.monotonic() < end:
        time.sleep(_LOOK_SECS)
        now = _waiting(kafka, topic)
        stuck = {number for number in stuck if number in now and now[number].old == waiting[number].old}
    lag = f"events that wait: {-sum(shift.again for shift in now.values())}"
    if not stuck:
        return Finding("group", "ok", f"{lag}, and commits go on")
    return Finding(
        "group",
        "problem" if secs > hold_secs else "warning",
        f"{lag}; no commit within {secs:.0f} s in partitions {', '.join(map(str, sorted(stuck)))}",
        "look at /readyz and the log of the workers: they name what holds a partition back",
    )


def _waiting(kafka: KafkaSettings, topic: str) -> dict[int, Shift]:
    """The partitions with events above the group's commit, each with its commit and its end."""
    shifts = plan_shift(kafka, kafka.group_id, topic, "latest")
    return {shift.partition: shift for shift in shifts if shift.again < 0}


def check_backlogs(installation: Installation) -> Iterator[Finding]:
    """Whether destinations are behind, and whether they will catch up before their events expire."""
    settings = installation.settings
    kafka = installation.kafka_with(settings.topics.events)
    found = sum_up(open_cursors(kafka, kafka.group_id, settings.topics))
    if not found:
        yield Finding("backlogs", "ok", "no destination is behind")
        return
    now, max_age_secs = now_ms(), settings.delivery.max_age_secs
    old = [one for one in found if (now - one.oldest_ms) / 1000 >= max_age_secs * _OLD_SHARE]
    events, oldest = sum(one.events for one in found), min(one.oldest_ms for one in found)
    yield Finding(
        "backlogs", "ok",
        f"destinations behind: {len(found)}, by at most {events} events, which the lag does not count; the oldest is "
        f"{format_span((now - oldest) / 1000)} old",
    )  # fmt: skip
    if not _may_be_served(kafka):
        remedy = "start a worker: `pushrail-stream run`"
        yield Finding("backlogs", "problem", "destinations are behind, and no worker runs that serves them", remedy)
    if old:
        names = ", ".join(one.destination for one in old[:_NAMED])
        more = f" and {len(old) - _NAMED} more" if len(old) > _NAMED else ""
        dead = f"from {format_span(max_age_secs)} on (delivery.max_age_secs) they become dead letters"
        remedy = "`pushrail-stream backlog list`, and PushrailBacklogOld in the runbook"
        yield Finding(
            "backlogs", "warning", f"events of {names}{more} are older than half of their time: {dead}", remedy
        )


def _may_be_served(kafka: KafkaSettings) -> bool:
    """Whether a worker runs; true also when that is not known, because `check_groups` says why."""
    try:
        return bool(members_of(kafka, kafka.group_id))
    except OperatorError:
        return True


def check_workers(installation: Installation) -> Iterator[Finding]:
    """Whether every worker writes its state, and whether it is ready."""
    fleet = installation.fleet()
    for worker in fleet.lost:
        found = f"{worker.label} at {worker.state.http} is lost: its last state is from {format_age(worker.age_secs)}"
        remedy = (
            "it was killed, Kafka is out of its reach, or its clock is wrong: look at its log; "
            "a killed one vanishes within two days"
        )
        yield Finding("workers", "warning", found, remedy)
    for worker in fleet.alive:
        if worker.state.reasons:
            found = f"{worker.label} at {worker.state.http} is not ready: {'; '.join(worker.state.reasons)}"
            yield Finding("workers", "problem", found, "look at its status page and its log")
    ready = [worker.state.http for worker in fleet.alive if not worker.state.reasons]
    if ready:
        yield Finding("workers", "ok", f"alive and ready: {len(ready)} ({', '.join(ready)})")
    elif not fleet.alive:
        group = installation.settings.kafka.group_id
        yield Finding(
            "workers", "warning", f"no worker of group {group} writes its state", "start one: `pushrail-stream run`"
        )
    if fleet.others:
        yield Finding("workers", "ok", f"workers of other groups on this Kafka: {fleet.others}")

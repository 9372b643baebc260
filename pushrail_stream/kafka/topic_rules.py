"""The configuration that each topic needs, and how a topic differs from it. Pure: it asks no broker.

Kafka's settings are explained in its documentation, "Topic Configs".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

DAY_MS: Final = 86_400_000
_WEEK_MS: Final = 7 * DAY_MS
_COPIES: Final = 3
"""Copies of a record: one broker may be down while another one is lost."""


class Deviation(NamedTuple):
    """A setting of a topic that breaks its rule."""

    topic: str
    setting: str
    actual: str
    required: str
    loses_data: bool
    """Whether it can lose events or documents while everything works."""
    effect: str
    remedy: str
    """The command, or the steps, that mend it."""

    def __str__(self) -> str:
        is_not = f"topic {self.topic}: {self.setting} is {self.actual}, and must be {self.required}"
        return f"{is_not}. {self.effect}. To mend it: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Rule:
    """The requirement on one setting of a topic."""

    setting: str
    required: str
    """The required value, in words."""
    is_met: Callable[[str], bool]
    value: str
    """The value to set."""
    effect: str
    loses_data: bool = False


class TopicFacts(NamedTuple):
    """A topic as it is."""

    partitions: int
    replication: int
    config: Mapping[str, str]
    """Every setting in force; empty if Kafka does not tell."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """The way to create a topic, and the rules for it."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    holds_events: bool = False
    """Whether its largest record decides how large copies are."""
    holds_copies: bool = False
    """Whether copies of events are written to it, which must fit."""
    one_partition: str = ""
    """The effect of a second partition, if there must be only one."""

    def deviations(self, found: TopicFacts, *, brokers: int, copy_bytes: int | None, servers: str) -> list[Deviation]:
        """Every deviation of the topic. ``copy_bytes``: the size of the largest copy."""
        rules = list(self.rules)
        if self.holds_copies and copy_bytes is not None:
            no_fit = "A copy of the largest event does not fit, and the event's partition stands still"
            rules.append(_at_least("max.message.bytes", copy_bytes, no_fit))
        rules += _durable(found.replication)
        deviations = list(self._layout(found, brokers))
        for rule in rules:
            actual = found.config.get(rule.setting)
            if actual is not None and not rule.is_met(actual):
                remedy = _alter(self.name, rule, servers)
                deviations.append(
                    Deviation(self.name, rule.setting, actual, rule.required, rule.loses_data, rule.effect, remedy)
                )
        return deviations

    def _layout(self, found: TopicFacts, brokers: int) -> Iterator[Deviation]:
        if self.one_partition and found.partitions != 1:
            yield Deviation(
                self.name,
                "partitions",
                actual=str(found.partitions),
                required="1",
                loses_data=True,
                effect=self.one_partition,
                remedy="give the topic another name in the settings, run `pushrail-stream topics create`, "
                "and write its records there again",
            )
        copies = min(_COPIES, brokers)
        if found.replication < copies:
            yield Deviation(
                self.name,
                "replication factor",
                actual=str(found.replication),
                required=f"at least {copies}",
                loses_data=False,
                effect="The loss of one broker may lose records",
                remedy="add copies with kafka-reassign-partitions.sh",
            )


def keeps_latest(effect: str) -> Rule:
    """The topic keeps the last record of each key for ever."""
    return Rule("cleanup.policy", "compact", lambda v: _policy(v) == {"compact"}, "compact", effect, loses_data=True)


def keeps_latest_for_a_time(effect: str) -> Rule:
    """The topic keeps the last record of each key until it is old."""
    return Rule("cleanup.policy", "compact,delete", lambda v: "compact" in _policy(v), "[compact,delete]", effect)


def keeps_all(effect: str, *, loses_data: bool = True) -> Rule:
    """The topic keeps every record until it is old."""
    return Rule("cleanup.policy", "delete", lambda v: "compact" not in _policy(v), "delete", effect, loses_data)


def keeps_for(least_ms: float, effect: str, *, loses_data: bool = False) -> Rule:
    """The topic keeps records for at least this time."""
    least_ms = math.ceil(least_ms)
    return Rule(
        "retention.ms",
        f"at least {least_ms}",
        lambda value: int(value) < 0 or int(value) >= least_ms,
        str(retention_ms(least_ms)),
        effect,
        loses_data,
    )


def keeps_any_amount(effect: str) -> Rule:
    """The topic removes no record because of its size."""
    return Rule("retention.bytes", "-1", lambda value: int(value) < 0, "-1", effect)


def retention_ms(least_ms: float) -> int:
    """The retention of a new topic that must keep records for ``least_ms``: a week, or longer if that is more."""
    return max(_WEEK_MS, math.ceil(least_ms))


def _durable(replication: int) -> list[Rule]:
    one_copy = "Kafka acknowledges records of which there is only one copy, and the loss of that broker loses them"
    no_leader = "A broker that has missed records may become the leader, and acknowledged records vanish"
    return [
        _at_least("min.insync.replicas", max(1, min(2, replication - 1)), one_copy),
        Rule("unclean.leader.election.enable", "false", lambda value: value == "false", "false", no_leader),
    ]


def _at_least(setting: str, least: int, effect: str) -> Rule:
    return Rule(setting, f"at least {least}", lambda value: int(value) >= least, str(least), effect)


def _policy(value: str) -> set[str]:
    return {policy.strip() for policy in value.split(",")}


def _alter(topic: str, rule: Rule, servers: str) -> str:
    return (
        f"kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {topic} "
        f"--add-config {rule.setting}={rule.value}"
    )

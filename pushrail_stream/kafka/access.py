"""The operations at Kafka that each program needs, as ACLs. Pure: it asks no broker.

Read and Write include Describe. On brokers before Kafka 3.0, idempotent producers need IdempotentWrite too.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from pushrail_stream.settings.model import Settings

Program = Literal[
    "workers", "ingest", "producers", "commands", "replays", "skips", "requests", "changes", "creation", "audited",
]  # fmt: skip
PROGRAMS: Final[Mapping[Program, str]] = {
    "workers": "`run`",
    "ingest": "`ingest`",
    "producers": "your own programs that write events",
    "commands": "commands that look, and `replay offsets`",
    "replays": "`replay dlq` and `replay events`",
    "skips": "`topics skip`",
    "requests": "`retry now`",
    "changes": "`destinations put`, `import`, `enable`, `disable`, `delete`, `seal` and `onboard`, `keys rotate`",
    "creation": "`topics create`",
    "audited": "every command that changes something, with `audit.enabled`",
}
"""Every program, and what it is. Those from replays on need the rights of commands too."""
Resource = Literal["topic", "group", "transactional id"]
_OPTIONS: Final[Mapping[Resource, str]] = {
    "topic": "--topic", "group": "--group", "transactional id": "--transactional-id",
}  # fmt: skip
"""The options of kafka-acls.sh."""


class Grant(NamedTuple):
    """The operations that a program needs on one resource."""

    program: Program
    resource: Resource
    setting: str
    """The setting that names the resource; ``topics.*`` for all topics."""
    name: str
    is_prefix: bool
    """Whether every resource is meant whose name begins so."""
    operations: tuple[str, ...]

    def command(self, servers: str, principal: str) -> str:
        """The command of Kafka that allows it."""
        words = ["kafka-acls.sh", "--bootstrap-server", servers, "--add", "--allow-principal", principal]
        for operation in self.operations:
            words += ["--operation", operation]
        words += [_OPTIONS[self.resource], self.name]
        return shlex.join(words + ["--resource-pattern-type", "prefixed"] * self.is_prefix)


def grants(settings: Settings, programs: Sequence[Program] = tuple(PROGRAMS)) -> list[Grant]:
    """The rights of these programs with these settings, in the order of `PROGRAMS`."""
    return [grant for grant in _all(settings) if grant.program in programs]


def worker_rights(settings: Settings) -> dict[str, frozenset[str]]:
    """The operations without which a worker cannot work, by topic. It can without reading configurations."""
    return {
        grant.name: frozenset(grant.operations) - {"DescribeConfigs"}
        for grant in grants(settings, ["workers"])
        if grant.resource == "topic"
    }


def _all(settings: Settings) -> Iterator[Grant]:
    group = settings.kafka.group_id
    for program, resource, setting, operations in _ROWS:
        if resource != "topic":
            yield Grant(program, resource, setting, group, is_prefix=True, operations=operations)
        elif _is_used(settings, program, setting):
            for name in _topics(settings, setting):
                yield Grant(program, resource, setting, name, is_prefix=False, operations=operations)


def _is_used(settings: Settings, program: Program, setting: str) -> bool:
    """Whether a program uses a topic with these settings."""
    if program == "audited":
        return settings.audit.enabled
    return setting != _DOCUMENTS or settings.registry.topic


def _topics(settings: Settings, setting: str) -> list[str]:
    """The names of the topics of a setting, ``topics.*`` for all."""
    values = {name: getattr(settings.topics, name) for name in type(settings.topics).model_fields}
    wanted = setting.removeprefix("topics.")
    found = list(values.values()) if wanted == "*" else [values[wanted]]
    return [name for value in found for name in ([value] if isinstance(value, str) else value)]


_GROUP: Final = "kafka.group_id"
_IDS: Final = "transactional id"
_DOCUMENTS: Final = "topics.destinations"
_AUDIT: Final = "topics.audit"
_READ: Final = ("Read",)
_WRITE: Final = ("Write",)
_CONFIGS: Final = ("DescribeConfigs",)
# fmt: off
_ROWS: Final[tuple[tuple[Program, Resource, str, tuple[str, ...]], ...]] = (
    ("workers", "topic", "topics.events", _READ + _CONFIGS),
    ("workers", "topic", "topics.retry", _READ + _WRITE + _CONFIGS),
    ("workers", "topic", "topics.dlq", _WRITE + _CONFIGS),
    ("workers", "topic", "topics.attempts", _WRITE + _CONFIGS),
    ("workers", "topic", _DOCUMENTS, _READ + _CONFIGS),
    ("workers", "topic", "topics.replays", _READ),
    ("workers", "topic", "topics.workers", _READ + _WRITE),
    ("workers", "topic", "topics.control", _READ + _WRITE),
    ("workers", "topic", "topics.cursors", _READ + _WRITE + _CONFIGS),
    ("workers", "topic", "topics.notices", _WRITE + _CONFIGS),
    ("workers", "group", _GROUP, _READ),
    ("ingest", "topic", "topics.events", _WRITE + _CONFIGS),
    ("producers", "topic", "topics.events", _WRITE),
    ("commands", "topic", "topics.*", _READ + _CONFIGS),
    ("commands", "group", _GROUP, _READ),
    ("replays", "topic", "topics.retry", _WRITE),
    ("replays", "topic", "topics.replays", _WRITE),
    ("replays", _IDS, _GROUP, _WRITE),
    ("skips", "topic", "topics.dlq", _WRITE),
    ("skips", "topic", "topics.replays", _WRITE),
    ("skips", _IDS, _GROUP, _WRITE),
    ("requests", "topic", "topics.control", _WRITE),
    ("changes", "topic", _DOCUMENTS, _WRITE),
    ("creation", "topic", "topics.*", ("Create",)),
    ("audited", "topic", _AUDIT, _WRITE),
)
"""The rights of each program: a kind of resource, the setting that names it, and the operations. deploy/README.md shows
the table, and a test on a real broker runs each program with these rights alone."""
# fmt: on

"""The world of one story: time, Kafka, AWS, the fleet of workers, and the people around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from pushrail_stream.core.commit import Committable
from pushrail_stream.core.record import Origin
from pushrail_stream.kafka.client_properties import events_consumer, retries_consumer
from pushrail_stream.kafka.topics import plan_topics
from pushrail_stream.settings.model import Settings
from tests.simulation.aws.our_identity import OurIdentity
from tests.simulation.history import History
from tests.simulation.oracle.commit_cursors import names_cursors
from tests.simulation.oracle.evidence import UNHEALED, Disturbance, DisturbanceKind, DocumentEdit, Evidence
from tests.simulation.people.customers import CREDENTIALS, KMS_KEY, OUR_USER, Customer
from tests.simulation.people.events import Sent
from tests.simulation.people.fleet import Fleet
from tests.simulation.people.operators import Office, repeat_skips
from tests.simulation.people.registry import patiently, restore_missing
from tests.simulation.people.troubles import apply_trouble
from tests.simulation.people.weather import set_weather
from tests.simulation.plan import Plan, Trouble
from tests.simulation.scheduler import Host, Scheduler, Timer
from tests.simulation.substitution import EPOCH

if TYPE_CHECKING:
    from tests.simulation.aws.cloud import Cloud
    from tests.simulation.kafka.cluster import Cluster

_RETRY_PARTITIONS: Final = 2
"""Partitions of topics other than the events: enough for two workers to share them."""


_OLDEST: Final = 3
"""Most elections of a partition before the story begins."""
_DURABLE: Final = {"min.insync.replicas": "2"}
"""As the product asks for with three brokers."""


@final
class World:
    """Everything that a trouble may change, and the evidence of all that happens."""

    def __init__(self, plan: Plan, scheduler: Scheduler, history: History, cluster: Cluster, cloud: Cloud) -> None:
        self.plan = plan
        self.settings = Settings.model_validate(plan.settings)
        self.scheduler = scheduler
        self.history = history
        self.cluster = cluster
        self.cloud = cloud
        self.evidence = Evidence(self.settings, EPOCH)
        self.customers = {one.id: Customer(self, one) for one in plan.destinations}
        """By destination id."""
        self.fleet = Fleet(self)
        self.office = Office(self)
        self.unreadable: dict[Origin, None] = {}
        """The batches that cannot be read and that operators know."""
        self.sent: dict[str, Sent] = {}
        """The records that producers have sent, by idempotency key; not all of them were accepted."""
        self.acknowledged: dict[str, None] = {}
        """Keys of the records that Kafka has acknowledged to their producer."""
        self._begun_at = scheduler.now
        self._broken: dict[int, tuple[str, Callable[[], None]]] = {}
        self._number = 0

    @property
    def elapsed(self) -> float:
        """Virtual seconds since the story began."""
        return self.scheduler.now - self._begun_at

    def prepare(self) -> None:
        """Make the topics and the customers' accounts."""
        for topic in plan_topics(self.settings):
            count = self.plan.partitions if topic.holds_events else _RETRY_PARTITIONS
            self.cluster.create_topic(topic.name, 1 if topic.one_partition else count, {**topic.config, **_DURABLE})
            self._age(topic.name)
        self.identity = OurIdentity(self.cloud.accounts, self.plan.dice("our key"), OUR_USER, Path(CREDENTIALS))
        self.evidence.secrets.add(self.identity.secret)
        self.cloud.kms.create_key(KMS_KEY)
        for customer in self.customers.values():
            customer.open_account()
        self.evidence.has_kafka_weather = any(kind.startswith("kafka.") for kind in self.plan.rates)

    def _age(self, name: str) -> None:
        """Let a topic have had leaders before. When it is created again, its leader epochs begin at 0 again."""
        dice, topic = self.plan.dice(f"age of {name}"), self.cluster.topics[name]
        for log in topic.partitions:
            for _ in range(dice.randint(0, _OLDEST)):
                self.cluster.elect(name, log.number, dice.choice(log.replicas))

    def renew_own_key(self) -> None:
        """Give our user a new key and every right, and put the key where workers find it."""
        self.identity.create_key()
        self.evidence.secrets.add(self.identity.secret)
        self.identity.write()
        self.identity.allow_roles()

    def schedule(self) -> None:
        """Let every trouble of the plan happen at its time, and turn on the background faults."""
        self._begun_at = self.scheduler.now
        set_weather(self, self.plan.rates)
        for trouble in self.plan.troubles:
            self.scheduler.call_later(trouble.at, self._apply, trouble)

    def _apply(self, trouble: Trouble) -> None:
        self.history.count_fault(trouble.name, details=dict(trouble.details))
        apply_trouble(self, trouble)

    def later(self, secs: float, work: Callable[[], None]) -> Timer:
        """Do something of the world later."""
        return self.scheduler.call_later(secs, work)

    def trouble_later(self, secs: float, work: Callable[[], None]) -> None:
        """Do something that belongs to a trouble later, unless the world has healed by then."""

        def do() -> None:
            if not self.has_healed:
                work()

        self.later(secs, do)

    def mend_later(self, secs: float, name: str, mend: Callable[[], None]) -> None:
        """Undo a trouble after ``secs``, or when the world heals if that is earlier."""
        self._number += 1
        number = self._number
        self._broken[number] = (name, mend)
        self.later(secs, lambda: self._mend(number))

    def _mend(self, number: int) -> None:
        name, mend = self._broken.pop(number, ("", None))
        if mend is not None:
            self.history.note("mended", what=name)
            mend()

    def heal(self) -> None:
        """Undo every trouble: from now on nothing goes wrong."""
        set_weather(self, {})
        for number in list(self._broken):
            self._mend(number)
        for customer in self.customers.values():
            customer.mend()
        self.fleet.heal()
        self.restore_documents()
        if self.unreadable:
            self.office.do("repeat skips", patiently, partial(repeat_skips, self))
        self.evidence.healed_at = self.scheduler.now
        self.history.note("healed")

    @property
    def has_healed(self) -> bool:
        """Whether the last fault is over."""
        return self.evidence.healed_at != UNHEALED

    @property
    def wall_secs(self) -> float:
        """The world's true wall time, epoch seconds."""
        return EPOCH + self.scheduler.now

    @property
    def now_ms(self) -> int:
        """The same in epoch milliseconds."""
        return round(1_000 * self.wall_secs)

    def restore_documents(self) -> None:
        """Operators put the documents that are missing."""
        self.office.do("restore documents", patiently, partial(restore_missing, self))

    def is_settled(self) -> bool:
        """Whether no transaction and no cursor is open, and the groups have committed everything, with the markers."""
        topics, group = self.settings.topics, events_consumer(self.settings.kafka).group_id
        retries = retries_consumer(self.settings.kafka).group_id
        return all(
            self._is_committed(group_id, topic)
            for group_id, topic in ((group, topics.events), *((retries, topic) for topic in topics.retry))
        )

    def _is_committed(self, group_id: str, name: str) -> bool:
        topic, commits = self.cluster.topic(name), self.cluster.coordinator(group_id).commits
        for log in () if topic is None else topic.partitions:
            commit = commits.get((name, log.number))
            if log.end > (log.first if commit is None else commit.offset):
                return False
            if commit is not None and names_cursors(Committable(commit.offset, commit.metadata)):
                return False
        return True

    def new_host(self, prefix: str) -> Host:
        """A host for one program. Its name tells when it began, so that a shorter story has the same."""
        name, number = f"{prefix}-{self.elapsed:.1f}", 1
        while name in self.scheduler.hosts:
            number += 1
            name = f"{prefix}-{self.elapsed:.1f}-{number}"
        return self.scheduler.host(name)

    def note_sent(self, sent: Sent) -> None:
        """Note a record that a producer hands to its client."""
        self.sent[sent.idempotency_key] = sent

    def disturb(self, kind: DisturbanceKind, secs: float = 0.0, host: str = "") -> None:
        """Tell the oracle of a trouble that is no customer's."""
        now = self.scheduler.now
        self.evidence.disturbances.append(Disturbance(now, now + secs, kind, host))

    def edited(self, destination: str, content: bytes | None) -> None:
        """Tell the oracle that a document has, or is about to have, another content."""
        self.evidence.edits.append(DocumentEdit(self.scheduler.now, destination, content))
        self.history.note("document", destination=destination, content=content)

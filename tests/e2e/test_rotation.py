"""Customers' keys and ours are rotated while events flow: no call is refused, no event lost, nothing old is left."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from pushrail_stream.core.destination import Secret
from pushrail_stream.registry.json_document import with_secret
from pushrail_stream.registry.keyring import Keyring
from pushrail_stream.registry.sealing import Place
from pushrail_stream.registry.store import replace_file
from pushrail_stream.sandbox.bus.server import FaultBus
from pushrail_stream.settings.model import Settings
from tests.support.builders import bus_arn, event
from tests.support.commands import Desk
from tests.support.patience import PATIENCE_SECS
from tests.support.sealing_keys import no_kms
from tests.support.workers import committed, ends, make_topics, produce, read_all, settings_for, until

pytestmark = pytest.mark.kafka
SERVED = 50
"""Destinations with events; as many again and again have none, so that a rotation takes a while."""
DOCUMENTS = 600
FIELD = "auth.secretAccessKey"


class Office(Desk):
    """A desk with a keyring."""

    def __init__(self, home: Path, settings: Settings) -> None:
        super().__init__(home, settings)
        self.ring = home / "keyring.json"
        values = yaml.safe_load(self.config.read_text())
        values["secrets"]["keyring"] = str(self.ring)
        self.config.write_text(yaml.safe_dump(values))

    def sealed_by(self) -> Counter[str]:
        """Key id to how many documents it has sealed."""
        tokens = [json.loads(file.read_bytes())["auth"]["secretAccessKey"] for file in self.documents.glob("*.json")]
        return Counter(token.split(":")[2] for token in tokens)

    def open_ring(self) -> Keyring:
        return Keyring.open(str(self.ring), {}, no_kms)


def document(number: int, key_id: str, secret: str) -> bytes:
    """``secret`` is sealed already, or env:NAME."""
    value = {
        "id": f"dst_{number}",
        "vendor": "acme",
        "customerExternalId": f"acct_{number}",
        "type": "EVENTBRIDGE",
        "busArn": bus_arn(number),
        "region": "us-east-1",
        "auth": {"mode": "ACCESS_KEY", "accessKeyId": key_id, "secretAccessKey": secret},
    }
    return json.dumps(value).encode()


def key_pair(number: int, generation: int) -> tuple[str, str]:
    return f"AKIA{generation:04}{number:012}", f"secret-{generation}-of-{number}"


def write_documents(office: Office) -> None:
    ring = office.open_ring()
    for number in range(DOCUMENTS):
        key_id, secret = key_pair(number, 1)
        place = Place("acme", f"dst_{number}", FIELD)
        office.file(str(number)).write_bytes(document(number, key_id, ring.seal(Secret(secret), place)))


def give(file: Path, ring: Keyring, secret: str, key_id: str) -> None:
    """Change a document as `destinations seal --access-key-id` does."""
    changed = with_secret(file.read_bytes(), lambda place: ring.seal(Secret(secret), place), key_id)
    assert isinstance(changed, bytes)
    replace_file(file, changed)


def give_second_keys(office: Office) -> None:
    """To all that are served but the first."""
    ring = office.open_ring()
    for number in range(1, SERVED):
        key_id, secret = key_pair(number, 2)
        give(office.file(str(number)), ring, secret, key_id)


class Flow:
    """Events for every served customer, round after round."""

    def __init__(self, settings: Settings) -> None:
        self.sent: list[str] = []
        self._settings = settings
        self._over = False

    def end(self) -> None:
        self._over = True

    async def run(self) -> None:
        while not self._over:
            first = len(self.sent)
            numbers = range(first, first + SERVED)
            await produce(self._settings, ((f"acct_{n % SERVED}", event(n % SERVED, n)) for n in numbers))
            self.sent += [f"key-{n}" for n in numbers]
            await asyncio.sleep(0.1)


@asynccontextmanager
async def flowing(settings: Settings) -> AsyncIterator[Flow]:
    flow = Flow(settings)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(flow.run())
        try:
            yield flow
        finally:
            flow.end()


def complaints(log: list[str]) -> list[dict[str, object]]:
    """The problems that the worker reported. A group that is new to a topic with events is none."""
    found = [json.loads(line) for line in log]
    return [one for one in found if one["level"] not in {"debug", "info"} and one["event"] != "first_start"]


async def kill_a_rotation(office: Office, key_id: str) -> bool:
    """Whether a rotation to this key was killed when it had begun and not ended."""
    process = await office.start("keys", "rotate")
    first = office.file("0")  # by name the first
    await until(lambda: process.returncode is not None or f"sealed:1:{key_id}:" in first.read_text())
    if process.returncode is None:
        process.kill()
    await process.wait()
    return 0 < (await asyncio.to_thread(office.sealed_by))[key_id] < DOCUMENTS


async def until_all_use(bus: FaultBus, generation: int) -> None:
    """Until every customer's newest call was signed with this generation of their keys."""
    wanted = {bus_arn(n): key_pair(n, generation)[0] for n in range(SERVED)}
    await until(lambda: {arrival.bus_arn: arrival.access_key for arrival in bus.arrivals} == wanted)


async def test_a_rotation_under_load_loses_nothing(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url)
        make_topics(settings)
        office = Office(tmp_path, settings)
        await office.run("keys", "generate", "--id", "k1")
        await asyncio.to_thread(write_documents, office)
        for number in range(SERVED):
            bus.add_bus(bus_arn(number))
            for generation in (1, 2):  # AWS lets a user have two access keys, for this very purpose
                bus.add_key(*key_pair(number, generation), buses=[bus_arn(number)])
        async with office.working() as log, flowing(settings) as flow:
            await until_all_use(bus, 1)

            # The customers' access keys: one by the command, the others by the function behind it.
            key_id, secret = key_pair(0, 2)
            await office.run("destinations", "seal", "dst_0", "--access-key-id", key_id, typed=secret)
            await asyncio.to_thread(give_second_keys, office)
            await until_all_use(bus, 2)

            # Our sealing keys: two rotations are killed midway, and a last one finishes them.
            kills, generation = 0, 1
            while kills < 2:
                generation += 1
                assert generation < 10, "no rotation could be killed midway"
                await office.run("keys", "generate", "--id", f"k{generation}")
                kills += await kill_a_rotation(office, f"k{generation}")
            last = f"k{generation}"
            told = await office.run("keys", "rotate", "--remove-unused", "--json")
            assert json.loads(told)["documents"] == {last: DOCUMENTS}
            assert "k1" in json.loads(told)["removed"]
            assert await asyncio.to_thread(office.sealed_by) == {last: DOCUMENTS}
            assert [fact.id for fact in office.open_ring().facts] == [last]
            before = len(flow.sent)
            await until(lambda: len(flow.sent) >= before + 5 * SERVED)  # the worker goes on after it
        assert complaints(log) == []

        # A worker that has the new key alone opens everything.
        async with office.working() as log, asyncio.timeout(PATIENCE_SECS):
            await produce(settings, [(f"acct_{n}", event(n, len(flow.sent) + n)) for n in range(SERVED)])
            await bus.wait_for_arrivals(len(flow.sent) + SERVED)
        assert complaints(log) == []
        produced = [*flow.sent, *(f"key-{len(flow.sent) + n}" for n in range(SERVED))]
        arrived = Counter(json.loads(arrival.detail)["idempotencyKey"] for arrival in bus.arrivals)
        assert arrived == Counter(produced)
        assert {call.status for call in bus.calls} == {200}
        assert committed(settings) == ends(settings, settings.topics.events)


async def test_documents_on_a_topic_are_rotated(real_kafka: str, tmp_path: Path) -> None:
    async with FaultBus.serve() as bus:
        settings = settings_for(real_kafka, bus.url, registry={"topic": True})
        make_topics(settings)
        office = Office(tmp_path, settings)
        await office.run("keys", "generate", "--id", "k1")
        for number in range(3):
            bus.add_bus(bus_arn(number))
            bus.add_key(*key_pair(number, 1), buses=[bus_arn(number)])
            key_id, secret = key_pair(number, 1)
            await office.run("destinations", "put", "-", typed=document(number, key_id, "env:UNSET").decode())
            await office.run("destinations", "seal", f"dst_{number}", typed=secret)
        async with office.working() as log, asyncio.timeout(PATIENCE_SECS):
            await produce(settings, [(f"acct_{n % 3}", event(n % 3, n)) for n in range(30)])
            await bus.wait_for_arrivals(30)
            await office.run("keys", "generate", "--id", "k2")
            told = json.loads(await office.run("keys", "rotate", "--remove-unused", "--json"))
            assert (told["documents"], told["removed"], len(told["resealed"])) == ({"k2": 3}, ["k1"], 3)
            await produce(settings, [(f"acct_{n % 3}", event(n % 3, n)) for n in range(30, 60)])
            await bus.wait_for_arrivals(60)
        assert complaints(log) == []
        latest = {key: value for key, value, _ in read_all(settings, settings.topics.destinations)}
        assert latest.keys() == {b"dst_0", b"dst_1", b"dst_2"}
        assert all(b"sealed:1:k2:" in (value or b"") for value in latest.values())
        again = json.loads(await office.run("keys", "rotate", "--json"))
        assert (again["resealed"], again["unused"]) == ([], [])
